"""Problems: integrands on a family at a point, with exact gradients."""

from bench.problems.banana import Banana
from bench.problems.conjugate import BetaBernoulli, GammaPoisson
from bench.problems.discrete import CategoricalSquare, ThreeBernoullis
from bench.problems.exponential_moment import ExponentialMoment
from bench.problems.linear_gaussian import LinearGaussian
from bench.problems.mixtures.bayesian import BayesianGaussianMixture
from bench.problems.mixtures.marginal import GaussianMixture
from bench.problems.polynomial import Polynomial
from bench.problems.problem import Exact, Problem
from bench.problems.regression import LinearRegression, LogisticRegression, PoissonRegression, StudentTRegression
from bench.problems.rough import AbsoluteValue, Step
from bench.problems.sigmoid_belief import SigmoidBeliefNetwork
from bench.problems.test_functions import Cosine, Exponential, Square
from bench.problems.tilted import TiltedSquare
from bench.problems.vae.digits import Vae
from bench.problems.vae.linear import LinearVae

_FUNCTIONS = (Square, Exponential, Cosine, Polynomial, ExponentialMoment, Step, AbsoluteValue, TiltedSquare)
_REGRESSIONS = (LinearRegression, LogisticRegression, PoissonRegression, StudentTRegression)
_CONJUGATE = (GammaPoisson, BetaBernoulli)
_MIXTURES = (GaussianMixture, BayesianGaussianMixture)
_DISCRETE = (ThreeBernoullis, CategoricalSquare, SigmoidBeliefNetwork)
_AUTOENCODERS = (LinearVae, Vae)

PROBLEMS: dict[str, type[Problem]] = {
    cls.name: cls
    for cls in (
        *(*_FUNCTIONS, Banana, LinearGaussian, *_REGRESSIONS, *_CONJUGATE, *_MIXTURES, *_DISCRETE),
        *_AUTOENCODERS,
    )
}

__all__ = ["PROBLEMS", "Exact", "Problem"]
