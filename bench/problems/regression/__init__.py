"""Bayesian regressions on real data: ELBOs with exact gradients."""

from bench.problems.regression.datasets import load
from bench.problems.regression.linear import LinearRegression
from bench.problems.regression.logistic import LogisticRegression

__all__ = ["LinearRegression", "LogisticRegression", "load"]
