"""Sums over coordinates, Σ_i φ(z_i): the integrands, and what their problems share.

One coordinate is replaced in O(1). Expectations rest on the laws of single coordinates alone, so they are exact for
every family whose law of one coordinate is known: from Hermite moments for the mean-field Normal, by quadrature, or as
sums over the states of a discrete family.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.enumerated import exact_enumerated
from gradmeter.bench.problems.one_dimensional import exact_sum
from gradmeter.bench.problems.problem import Exact, Problem, Vectors, exact_normal
from gradmeter.estimators import Expectation, Integrand, Normal, UsageError

Array = Any


class Separable(Integrand):
    """Σ_i φ(z_i). What `reads_logs` takes them as the last argument of `term` and `derivative`."""

    @abstractmethod
    def term(self, xp: Any, data: dict[str, Array], z: Array, *logs: Any) -> Array:
        """φ(z) elementwise."""

    @abstractmethod
    def derivative(self, xp: Any, data: dict[str, Array], z: Array, *logs: Any) -> Array:
        """φ'(z) elementwise."""

    @abstractmethod
    def curvature(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        """φ''(z) elementwise."""

    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        return xp.sum(self.term(xp, data, z, *logs), axis=-1)

    def gradient(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        return self.derivative(xp, data, z, *logs)

    def hessian_product(
        self, xp: Any, data: dict[str, Array], z: Array, vector: Array, noise: dict[str, Array]
    ) -> Array:
        return self.curvature(xp, data, z) * vector

    def local_terms(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        return self.term(xp, data, z, *logs)

    def replaced(
        self, backend: Any, data: dict[str, Array], z: Array, replacement: Array, noise: dict[str, Array]
    ) -> Array:
        new = self.term(backend.xp, data, replacement)
        if z.shape[-1] == 1:
            return new
        old = self.term(backend.xp, data, z)
        return backend.xp.sum(old, axis=-1, keepdims=True) - old + new


class OverCoordinates(Problem):
    """f = Σ_i φ(z_i) with one φ; its dataclasses declare the options of φ, `q`, `dim` and `differentiate`."""

    integrand: ClassVar[Separable]
    dim: int

    @property
    def dimension(self) -> int:
        return self.dim

    @property
    def lacks(self) -> Mapping[str, str]:
        return self.integrand.lacks

    @abstractmethod
    def data(self) -> dict[str, Array]:
        """The numbers that φ reads."""

    def expectation(self) -> Expectation:
        return Expectation(self.family, self.integrand, self.data(), differentiate=self.differentiate)  # type: ignore[arg-type]

    @abstractmethod
    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """E[φ(loc + scale ε) He_order(ε)] of every coordinate [D], for the mean-field Normal."""

    def weighted(self, z: np.ndarray, log_density: np.ndarray) -> np.ndarray:
        """φ q from z and log q; for others to override where φ overflows and φ q does not."""
        return np.asarray(self.integrand.term(np, self.data(), z)) * np.exp(log_density)

    def check_size(self) -> None:
        """Raise where a Normal's E φ overflows."""
        if not isinstance(self.q, Normal.At):
            return
        at = self.q.parameters(self.dim if self.q.unequal else 1)
        with np.errstate(over="ignore", invalid="ignore"):
            moments = [self.hermite_moment(n, at["loc"], np.exp(at["log_scale"])) for n in (0, 1, 2, 4)]
        if not np.all(np.isfinite(moments)):
            raise UsageError(f"problem {self.name} overflows; give less extreme options")

    def breaks(self) -> tuple[float, ...]:
        """Where φ jumps or has a corner."""
        return ()

    def wave(self) -> float:
        """k where φ(z) = cos(kz); 0 for any other."""
        return 0.0

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """None where q is such that the integrals are not to be had to rounding."""
        if not isinstance(self.q, Normal.At):
            found = exact_sum(self.family, parameters, self.weighted, self.breaks(), self.wave())
            return found or exact_enumerated(self.expectation(), parameters, self.dimension)
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        hermite: dict[int, np.ndarray | float] = {n: self.hermite_moment(n, loc, scale) for n in (1, 2, 4)}
        return exact_normal(scale, {0: float(self.hermite_moment(0, loc, scale).sum()), **hermite}, "closed-form")
