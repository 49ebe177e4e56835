"""Families q_λ(z): stateless descriptions; their parameters travel as dicts of arrays."""

from estimators.families.cauchy import Cauchy
from estimators.families.exponential import Exponential
from estimators.families.family import Family, Point
from estimators.families.gompertz import Gompertz
from estimators.families.gumbel import Gumbel
from estimators.families.laplace import Laplace
from estimators.families.log_normal import LogNormal
from estimators.families.logistic import Logistic
from estimators.families.multivariate_normal import MultivariateNormal
from estimators.families.normal import Normal
from estimators.families.pareto import Pareto
from estimators.families.rayleigh import Rayleigh
from estimators.families.reciprocal import Reciprocal
from estimators.families.student_t import StudentT
from estimators.families.triangular import Triangular
from estimators.families.uniform import Uniform
from estimators.families.weibull import Weibull

_LOCATION_SCALE = (Laplace, StudentT, Logistic, Uniform, Triangular, Cauchy, Gumbel)
_INVERSE_CDF = (Exponential, Rayleigh, Pareto, Weibull, Gompertz, Reciprocal)

FAMILIES: dict[str, type[Family]] = {
    cls.name: cls for cls in (Normal, MultivariateNormal, *_LOCATION_SCALE, *_INVERSE_CDF, LogNormal)
}

__all__ = ["FAMILIES", "Exponential", "Family", "MultivariateNormal", "Normal", "Point"]
