"""Families q_λ(z): stateless descriptions; their parameters travel as dicts of arrays."""

from estimators.families.bernoulli import Bernoulli, TiedBernoulli
from estimators.families.categorical import Categorical
from estimators.families.cauchy import Cauchy
from estimators.families.concrete import Concrete, RelaxedBernoulli
from estimators.families.dirichlet import Dirichlet
from estimators.families.elliptical import Elliptical
from estimators.families.exponential import Exponential
from estimators.families.family import Family, Point
from estimators.families.gamma import ChiSquared, Erlang, Gamma
from estimators.families.gamma_ratios import Beta, F
from estimators.families.geometric import Geometric
from estimators.families.gompertz import Gompertz
from estimators.families.gumbel import Gumbel
from estimators.families.laplace import Laplace
from estimators.families.log_logistic import LogLogistic
from estimators.families.log_normal import LogNormal
from estimators.families.logistic import Logistic
from estimators.families.low_rank_normal import LowRankNormal
from estimators.families.mixture_of_normals import MixtureOfNormals
from estimators.families.multivariate_normal import MultivariateNormal
from estimators.families.normal import Normal
from estimators.families.pareto import Pareto
from estimators.families.poisson import Poisson
from estimators.families.rayleigh import Rayleigh
from estimators.families.reciprocal import Reciprocal
from estimators.families.student_t import StudentT
from estimators.families.triangular import Triangular
from estimators.families.uniform import Uniform
from estimators.families.weibull import Weibull

_NORMALS = (Normal, MultivariateNormal, LowRankNormal, MixtureOfNormals)
_LOCATION_SCALE = (Laplace, StudentT, Logistic, Uniform, Triangular, Cauchy, Gumbel, Elliptical)
_INVERSE_CDF = (Exponential, Rayleigh, Pareto, Weibull, Gompertz, LogLogistic, Reciprocal)
_COMPOSED = (LogNormal, Erlang, Gamma, ChiSquared, Beta, F, Dirichlet)
_RELAXED = (RelaxedBernoulli, Concrete)
_DISCRETE = (Bernoulli, TiedBernoulli, Categorical, Geometric, Poisson)

FAMILIES: dict[str, type[Family]] = {
    cls.name: cls for cls in (*_NORMALS, *_LOCATION_SCALE, *_INVERSE_CDF, *_COMPOSED, *_RELAXED, *_DISCRETE)
}

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
    "Gamma",
    "Geometric",
    "LowRankNormal",
    "MixtureOfNormals",
    "MultivariateNormal",
    "Normal",
    "Point",
    "Poisson",
    "RelaxedBernoulli",
    "TiedBernoulli",
]
