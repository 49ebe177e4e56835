"""The options of families of choices: K categories, and how probable each of them is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, FamilyConfig
from gradmeter.estimators.options import Values, option


def weights_option() -> Any:
    """Declare the option `weights` of a family of choices."""
    return option(1.0, "how probable each category is at tilt=0, relative to the others", above=0.0, per="category")


@dataclass(frozen=True)
class ChoicesConfig(FamilyConfig):
    """The options that families of choices share; a subclass adds `weights`."""

    categories: int = option(2, "K, numbers of z that make one choice", minimum=2, maximum=1000)
    tilt: Values = option(0.0, "logits rise evenly from 0 to this over the categories", per="choice")

    def logits(self, dimension: int) -> Array:
        """Return the logits of all choices [D/K, K]."""
        tilt = self.each(dimension // self.categories, float, "tilt")[:, None]
        return tilt * np.linspace(0.0, 1.0, self.categories) + self.each(self.categories, math.log, "weights")

    def counts(self, dimension: int) -> dict[str, int]:
        return {"choice": dimension // self.categories, "category": self.categories}

    def check(self, dimension: int) -> None:
        if dimension % self.categories:
            raise UsageError(
                f"family {self.family.name} with categories={self.categories} needs a multiple of {self.categories} "
                f"coordinates, one a category, not {dimension}"
            )
        super().check(dimension)
