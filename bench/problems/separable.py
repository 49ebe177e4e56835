"""Integrands Σ_i φ(z_i), sums over coordinates, and the base class of their problems.

Replacing one coordinate takes O(1). The expectation depends on the marginals of q alone, so it is exact for every
family with known marginals: from Hermite moments for the mean-field Normal, by quadrature, or by summation over the
states of a discrete family.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.enumerated import exact_enumerated
from gradmeter.bench.problems.one_dimensional import exact_sum
from gradmeter.bench.problems.problem import Exact, Problem, exact_normal
from gradmeter.estimators import Integrand, Normal, UsageError
from gradmeter.estimators.backends.backend import Backend


class Separable(Integrand):
    """f = Σ_i φ(z_i). With `reads_logs`, `term` and `derivative` take the logarithms as their last argument."""

    @abstractmethod
    def term(self, xp: Any, data: Arrays, z: Array, *logs: Any) -> Array:
        """Return φ(z) elementwise."""

    @abstractmethod
    def derivative(self, xp: Any, data: Arrays, z: Array, *logs: Any) -> Array:
        """Return φ'(z) elementwise."""

    @abstractmethod
    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        """Return φ''(z) elementwise."""

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays, *logs: Any) -> Array:
        return xp.sum(self.term(xp, data, z, *logs), axis=-1)

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays, *logs: Any) -> Array:
        return self.derivative(xp, data, z, *logs)

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        return self.curvature(xp, data, z) * vector

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays, *logs: Any) -> Array:
        return self.term(xp, data, z, *logs)

    def replaced(self, backend: Backend, data: Arrays, z: Array, replacement: Array, noise: Arrays) -> Array:
        new = self.term(backend.xp, data, replacement)
        if z.shape[-1] == 1:
            return new
        old = self.term(backend.xp, data, z)
        return backend.xp.sum(old, axis=-1, keepdims=True) - old + new


class OverCoordinates(Problem):
    """Base class of problems f = Σ_i φ(z_i) with the same φ for all i.

    Subclasses declare the options of φ, `q`, `dim` and `differentiate`.
    """

    dim: int

    @property
    @abstractmethod
    def integrand(self) -> Separable:
        """f, by φ and its derivatives."""

    @property
    def dimension(self) -> int:
        return self.dim

    #: Optional method: E[φ(loc + scale ε) He_order(ε)] of every coordinate [D], for the mean-field Normal. Takes
    #: (order, loc, scale). Without it, exact values under a Normal are by quadrature too.
    hermite_moment: Any = None

    def weighted(self, z: np.ndarray, log_density: np.ndarray) -> np.ndarray:
        """Return φ q from z and log q; subclasses override this where φ overflows but φ q does not."""
        return np.asarray(self.integrand.term(np, self.data(), z)) * np.exp(log_density)

    def check_size(self) -> None:
        """Check that E φ under a Normal does not overflow.

        Raises
        ------
        UsageError
            It overflows.
        """
        if self.hermite_moment is None or not isinstance(self.q, Normal.Config):
            return
        at = self.q.parameters(self.dim if self.q.unequal else 1)
        with np.errstate(over="ignore", invalid="ignore"):
            moments = [self.hermite_moment(n, at["loc"], np.exp(at["log_scale"])) for n in (0, 1, 2, 4)]
        if not np.all(np.isfinite(moments)):
            raise UsageError(f"problem {self.name} overflows; give less extreme options")

    def breaks(self) -> tuple[float, ...]:
        """Return the discontinuities and corners of φ."""
        return ()

    def wave(self) -> float:
        """Return k if φ(z) = cos(kz), else 0."""
        return 0.0

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values, or None where q does not allow the integrals to be computed to rounding."""
        if self.hermite_moment is None or not isinstance(self.q, Normal.Config):
            found = exact_sum(self.family, parameters, self.weighted, self.breaks(), self.wave())
            return found or exact_enumerated(self.expectation(), parameters, self.dimension)
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        hermite: dict[int, np.ndarray | float] = {n: self.hermite_moment(n, loc, scale) for n in (1, 2, 4)}
        return exact_normal(scale, {0: float(self.hermite_moment(0, loc, scale).sum()), **hermite}, "closed-form")
