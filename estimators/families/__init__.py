"""Families q_λ(z): stateless descriptions, whose parameters are passed as dicts of arrays."""

from gradmeter.estimators.families.bernoulli import Bernoulli, TiedBernoulli
from gradmeter.estimators.families.binomial import Binomial
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
from gradmeter.estimators.families.half_cauchy import HalfCauchy
from gradmeter.estimators.families.half_normal import HalfNormal
from gradmeter.estimators.families.inverse_gamma import InverseGamma
from gradmeter.estimators.families.kumaraswamy import Kumaraswamy
from gradmeter.estimators.families.laplace import Laplace
from gradmeter.estimators.families.lkj_cholesky import LkjCholesky
from gradmeter.estimators.families.log_logistic import LogLogistic
from gradmeter.estimators.families.log_normal import LogNormal
from gradmeter.estimators.families.logistic import Logistic
from gradmeter.estimators.families.low_rank_normal import LowRankNormal
from gradmeter.estimators.families.mixture_of_normals import MixtureOfNormals
from gradmeter.estimators.families.multivariate_normal import MultivariateNormal
from gradmeter.estimators.families.negative_binomial import NegativeBinomial
from gradmeter.estimators.families.normal import Normal
from gradmeter.estimators.families.pareto import Pareto
from gradmeter.estimators.families.poisson import Poisson
from gradmeter.estimators.families.rayleigh import Rayleigh
from gradmeter.estimators.families.reciprocal import Reciprocal
from gradmeter.estimators.families.sequence_policy import SequencePolicy
from gradmeter.estimators.families.stick_breaking_normal import StickBreakingNormal
from gradmeter.estimators.families.student_t import StudentT
from gradmeter.estimators.families.transformed_normal import TransformedNormal
from gradmeter.estimators.families.triangular import Triangular
from gradmeter.estimators.families.truncated_normal import TruncatedNormal
from gradmeter.estimators.families.uniform import Uniform
from gradmeter.estimators.families.von_mises import VonMises
from gradmeter.estimators.families.weibull import Weibull
from gradmeter.estimators.plugins import Registry

_NORMALS = (Normal, MultivariateNormal, LowRankNormal, MixtureOfNormals)
_LOCATION_SCALE = (Laplace, StudentT, Logistic, Uniform, Triangular, Cauchy, Gumbel, Elliptical)
_POSITIVE = (Exponential, Rayleigh, HalfNormal, HalfCauchy, Pareto, Weibull, Gompertz, LogLogistic, Reciprocal)
_INTERVAL = (TruncatedNormal, VonMises, Kumaraswamy)
_COMPOSED = (LogNormal, TransformedNormal, Erlang, Gamma, InverseGamma, ChiSquared, Beta, F)
_JOINT = (Dirichlet, StickBreakingNormal, LkjCholesky)
_RELAXED = (RelaxedBernoulli, Concrete)
_STATES = (Bernoulli, TiedBernoulli, Categorical, Binomial, SequencePolicy)
_COUNTS = (Geometric, NegativeBinomial, Poisson)
_FAMILIES = (
    *(*_NORMALS, *_LOCATION_SCALE, *_POSITIVE, *_INTERVAL, *_COMPOSED, *_JOINT),
    *(*_RELAXED, *_STATES, *_COUNTS),
)

FAMILIES = Registry(
    "family",
    Family,
    {cls.name: cls for cls in _FAMILIES},
)

__all__ = [
    "FAMILIES",
    "Bernoulli",
    "Beta",
    "Binomial",
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
    "HalfCauchy",
    "HalfNormal",
    "InverseGamma",
    "Kumaraswamy",
    "LkjCholesky",
    "LowRankNormal",
    "MixtureOfNormals",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "RelaxedBernoulli",
    "SequencePolicy",
    "StickBreakingNormal",
    "TiedBernoulli",
    "TransformedNormal",
    "TruncatedNormal",
    "VonMises",
]
