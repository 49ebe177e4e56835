"""Bayesian regressions on real data: ELBOs with exact gradients."""

from bench.problems.regression.datasets import load
from bench.problems.regression.linear import LinearRegression
from bench.problems.regression.logistic import LogisticRegression
from bench.problems.regression.poisson import PoissonRegression
from bench.problems.regression.student_t import StudentTRegression

__all__ = ["LinearRegression", "LogisticRegression", "PoissonRegression", "StudentTRegression", "load"]
