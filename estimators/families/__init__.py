"""Families q_λ(z): stateless descriptions; their parameters travel as dicts of arrays."""

from estimators.families.normal import Normal

FAMILIES = {family.name: family for family in (Normal(),)}

__all__ = ["FAMILIES", "Normal"]
