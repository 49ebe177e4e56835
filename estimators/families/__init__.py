"""Families q_λ(z): stateless descriptions, whose parameters are passed as dicts of arrays."""

from gradmeter.estimators.families.bernoulli import Bernoulli, TiedBernoulli
from gradmeter.estimators.families.categorical import Categorical
from gradmeter.estimators.families.cauchy import Cauchy
from gradmeter.estimators.families.concrete import Concrete, RelaxedBernoulli
from gradmeter.estimators.families.dirichlet import Dirichlet
from gradmeter.estimators.families.elliptical import Elliptical
from gradmeter.estimators.families.exponential import Exponential
from gradmeter.estimators.families.family import Family, FamilyConfig
from gradmeter.estimators.families.gamma import ChiSquared, Erlang, Gamma
from gradmeter.estimators.families.gamma_ratios import Beta, F
from gradmeter.estimators.families.geometric import Geometric
from gradmeter.estimators.families.gompertz import Gompertz
from gradmeter.estimators.families.gumbel import Gumbel
from gradmeter.estimators.families.laplace import Laplace
from gradmeter.estimators.families.log_logistic import LogLogistic
from gradmeter.estimators.families.log_normal import LogNormal
from gradmeter.estimators.families.logistic import Logistic
from gradmeter.estimators.families.low_rank_normal import LowRankNormal
from gradmeter.estimators.families.mixture_of_normals import MixtureOfNormals
from gradmeter.estimators.families.multivariate_normal import MultivariateNormal
from gradmeter.estimators.families.normal import Normal
from gradmeter.estimators.families.pareto import Pareto
from gradmeter.estimators.families.poisson import Poisson
from gradmeter.estimators.families.rayleigh import Rayleigh
from gradmeter.estimators.families.reciprocal import Reciprocal
from gradmeter.estimators.families.sequence_policy import SequencePolicy
from gradmeter.estimators.families.student_t import StudentT
from gradmeter.estimators.families.triangular import Triangular
from gradmeter.estimators.families.uniform import Uniform
from gradmeter.estimators.families.weibull import Weibull
from gradmeter.estimators.plugins import Registry

_NORMALS = (Normal, MultivariateNormal, LowRankNormal, MixtureOfNormals)
_LOCATION_SCALE = (Laplace, StudentT, Logistic, Uniform, Triangular, Cauchy, Gumbel, Elliptical)
_INVERSE_CDF = (Exponential, Rayleigh, Pareto, Weibull, Gompertz, LogLogistic, Reciprocal)
_COMPOSED = (LogNormal, Erlang, Gamma, ChiSquared, Beta, F, Dirichlet)
_RELAXED = (RelaxedBernoulli, Concrete)
_DISCRETE = (Bernoulli, TiedBernoulli, Categorical, Geometric, Poisson, SequencePolicy)

FAMILIES = Registry(
    "family",
    Family,
    {cls.name: cls for cls in (*_NORMALS, *_LOCATION_SCALE, *_INVERSE_CDF, *_COMPOSED, *_RELAXED, *_DISCRETE)},
)

__all__ = [
    "FAMILIES",
    "Bernoulli",
    "Beta",
    "Categorical",
    "ChiSquared",
    "Concrete",
    "Dirichlet",
    "Elliptical",
    "Erlang",
    "Exponential",
    "F",
    "Family",
    "FamilyConfig",
    "Gamma",
    "Geometric",
    "LowRankNormal",
    "MixtureOfNormals",
    "MultivariateNormal",
    "Normal",
    "Poisson",
    "RelaxedBernoulli",
    "SequencePolicy",
    "TiedBernoulli",
]
