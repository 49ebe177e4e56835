"""The Normal families with a smaller default σ, for models whose precisions are exponentials of coordinates.

As σ grows, the tails of the estimates quickly become heavier: at σ = 0.3 some estimates cannot be certified, at σ = 1
few can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradmeter.estimators import Normal
from gradmeter.estimators.families.low_rank_normal import LowRankNormal
from gradmeter.estimators.families.multivariate_normal import MultivariateNormal
from gradmeter.estimators.options import Values, alternative, option

SUMMARY = "standard deviation of every coordinate"


@dataclass(frozen=True)
class NarrowNormal(Normal.Config):
    scale: Values = option(0.1, SUMMARY, above=0.0, per="coordinate")


@dataclass(frozen=True)
class NarrowMultivariateNormal(MultivariateNormal.Config):
    scale: Values = option(0.1, SUMMARY, above=0.0, per="coordinate")


@dataclass(frozen=True)
class NarrowLowRankNormal(LowRankNormal.Config):
    scale: Values = option(0.1, SUMMARY, above=0.0, per="coordinate")


NARROW = {
    "normal": NarrowNormal,
    "multivariate-normal": NarrowMultivariateNormal,
    "low-rank-normal": NarrowLowRankNormal,
}


def narrow_family_option() -> Any:
    """Declare the option `family` of these problems, along with the options of the chosen family."""
    return alternative(NarrowNormal, "q; its own options: gradmeter list families", name="family", classes=NARROW)
