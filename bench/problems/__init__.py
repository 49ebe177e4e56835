"""Built-in problems: each is an integrand under a variational family at a point λ, most with an exact gradient."""

from gradmeter.bench.problems.banana import Banana
from gradmeter.bench.problems.conjugate import BetaBernoulli, GammaPoisson
from gradmeter.bench.problems.discrete import CategoricalSquare, ThreeBernoullis
from gradmeter.bench.problems.exponential_moment import ExponentialMoment
from gradmeter.bench.problems.linear_gaussian import LinearGaussian
from gradmeter.bench.problems.mixtures.bayesian import BayesianGaussianMixture
from gradmeter.bench.problems.mixtures.marginal import GaussianMixture
from gradmeter.bench.problems.nonsmooth import AbsoluteValue, Step
from gradmeter.bench.problems.policy import Policy
from gradmeter.bench.problems.polynomial import Polynomial
from gradmeter.bench.problems.posteriors import (
    EightSchools,
    Funnel,
    HierarchicalLogistic,
    ItemResponse,
    NegativeBinomialRegression,
    SparseLogistic,
    StochasticVolatility,
    VaryingIntercepts,
)
from gradmeter.bench.problems.problem import Exact, Problem
from gradmeter.bench.problems.regression import (
    LinearRegression,
    LogisticRegression,
    PoissonRegression,
    StudentTRegression,
)
from gradmeter.bench.problems.sigmoid_belief import SigmoidBeliefNetwork
from gradmeter.bench.problems.test_functions import Cosine, Exponential, Square
from gradmeter.bench.problems.tilted import TiltedSquare
from gradmeter.bench.problems.vae.digits import Vae
from gradmeter.bench.problems.vae.linear import LinearVae
from gradmeter.estimators.plugins import Registry

_FUNCTIONS = (Square, Exponential, Cosine, Polynomial, ExponentialMoment, Step, AbsoluteValue, TiltedSquare)
_REGRESSIONS = (LinearRegression, LogisticRegression, PoissonRegression, StudentTRegression)
_POSTERIORS = (
    *(EightSchools, VaryingIntercepts, ItemResponse, HierarchicalLogistic, NegativeBinomialRegression),
    *(StochasticVolatility, Funnel, SparseLogistic),
)
_CONJUGATE = (GammaPoisson, BetaBernoulli)
_MIXTURES = (GaussianMixture, BayesianGaussianMixture)
_DISCRETE = (ThreeBernoullis, CategoricalSquare, SigmoidBeliefNetwork)
_AUTOENCODERS = (LinearVae, Vae)
_POLICIES = (Policy,)

_PROBLEMS: tuple[type[Problem], ...] = (
    *(*_FUNCTIONS, Banana, LinearGaussian, *_REGRESSIONS, *_POSTERIORS, *_CONJUGATE, *_MIXTURES, *_DISCRETE),
    *(*_AUTOENCODERS, *_POLICIES),
)

PROBLEMS = Registry("problem", Problem, {cls.name: cls for cls in _PROBLEMS})

__all__ = ["PROBLEMS", "Exact", "Problem"]
