"""Families q_λ(z): stateless descriptions; their parameters travel as dicts of arrays."""

from estimators.families.exponential import Exponential
from estimators.families.family import Family, Point
from estimators.families.multivariate_normal import MultivariateNormal
from estimators.families.normal import Normal

FAMILIES: dict[str, type[Family]] = {cls.name: cls for cls in (Normal, MultivariateNormal, Exponential)}

__all__ = ["FAMILIES", "Exponential", "Family", "MultivariateNormal", "Normal", "Point"]
