"""Bayesian regressions on real data: ELBOs with exact gradients."""

from gradmeter.bench.problems.regression.datasets import load
from gradmeter.bench.problems.regression.linear import LinearRegression
from gradmeter.bench.problems.regression.logistic import LogisticRegression
from gradmeter.bench.problems.regression.poisson import PoissonRegression
from gradmeter.bench.problems.regression.student_t import StudentTRegression

__all__ = ["LinearRegression", "LogisticRegression", "PoissonRegression", "StudentTRegression", "load"]
