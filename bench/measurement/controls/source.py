"""Sources of numbers for the features: one name of noise, or several that together make one number, per sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gradmeter.bench.measurement.controls.basis import Basis
from gradmeter.estimators.noise import mirror

Array = Any
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One name of noise, with how its numbers are read.

    Attributes
    ----------
    name, basis
        The noise, and the functions of its numbers.
    axis
        The axis of its shape that runs over samples; None if all of it belongs to every sample.
    numbers
        m, numbers of one sample.
    pairs
        Whether each array represents itself and its mirror image.
    """

    name: str
    basis: Basis
    axis: int | None
    numbers: int
    pairs: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All names of noise that the numbers are made from."""
        return (self.name,)

    def read(self, xp: Any, noise: Arrays) -> Array:
        """Return the numbers [R, S, m]."""
        x = self.read_name(xp, noise, self.name)
        return xp.concat([x, mirror(xp, self.basis.kind, x)], axis=1) if self.pairs else x  # type: ignore[arg-type]

    def read_name(self, xp: Any, noise: Arrays, name: str) -> Array:
        """Return noise by sample and number [R, S, m], or [R, S, m, k] where a number is made from k."""
        x = noise[name]
        x = x[:, None] if self.axis is None else xp.moveaxis(x, 1 + self.axis, 1)
        each = math.prod(x.shape[2:]) // self.numbers
        return xp.reshape(x, (*x.shape[:2], self.numbers, each) if each > 1 else (*x.shape[:2], self.numbers))

    def functions(self, xp: Any, noise: Arrays, model: Arrays) -> list[Array]:
        """Evaluate φ_1, φ_2, … of the numbers, each [R, S, m]."""
        steps = {name: model[f"{name} of {self.name}"] for name in ("at", "rise")} if self.basis.discontinuities else {}
        return self.basis(xp, self.read(xp, noise), steps)
