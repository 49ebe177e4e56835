"""Posteriors of hierarchical models: ELBOs with exact gradients."""

from gradmeter.bench.problems.posteriors.eight_schools import EightSchools
from gradmeter.bench.problems.posteriors.funnel import Funnel
from gradmeter.bench.problems.posteriors.hierarchical_logistic import HierarchicalLogistic
from gradmeter.bench.problems.posteriors.item_response import ItemResponse
from gradmeter.bench.problems.posteriors.negative_binomial import NegativeBinomialRegression
from gradmeter.bench.problems.posteriors.sparse_logistic import SparseLogistic
from gradmeter.bench.problems.posteriors.stochastic_volatility import StochasticVolatility
from gradmeter.bench.problems.posteriors.varying_intercepts import VaryingIntercepts

__all__ = [
    "EightSchools",
    "Funnel",
    "HierarchicalLogistic",
    "ItemResponse",
    "NegativeBinomialRegression",
    "SparseLogistic",
    "StochasticVolatility",
    "VaryingIntercepts",
]
