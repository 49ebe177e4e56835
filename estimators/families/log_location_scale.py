"""Families whose logarithm is location-scale: z = exp(a + b ε), whatever the standard law of ε.

A family of this kind is the path from noise to ε, the standard law's log-density g with its two derivatives, and its
moment generating function M; which blocks of λ are a and log b. With x = (log z − a)/b the rest follows.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.families.family import Array, Blocks, MeanField


@dataclass(frozen=True)
class LogLocationScale(MeanField):
    """Parameters: the first block [D] is a; the second [D] is log b, or −log b where `inverted`."""

    inverted: ClassVar[bool] = False
    #: E ε.
    mean: ClassVar[float]
    lacks: ClassVar[dict[str, str]] = {"weak_derivatives": "its weak derivatives are not worked out here"}

    @abstractmethod
    def standard(self, backend: Any, noise: dict[str, Array]) -> Array:
        """ε [..., D]."""

    @abstractmethod
    def standard_log_density(self, backend: Any, x: Array) -> Array:
        """g(x) of every coordinate."""

    @abstractmethod
    def standard_slope(self, backend: Any, x: Array) -> Array:
        """g'(x)."""

    @abstractmethod
    def standard_curvature(self, backend: Any, x: Array) -> Array:
        """g''(x)."""

    @abstractmethod
    def generating_function(self, t: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """M(t) = E exp(tε) and M'(t) [D], at t = n b; raises NotApplicable where there is none. `order` is n."""

    def _ab(self, parameters: Blocks) -> tuple[Array, Array, float]:
        """a, log b and ∂log b by its block."""
        first, second = (parameters[name] for name in self.blocks)
        return (first, -second, -1.0) if self.inverted else (first, second, 1.0)

    def _x(self, backend: Any, parameters: Blocks, z: Array) -> tuple[Array, Array, Array]:
        """x, 1/b and log z."""
        a, log_b, _ = self._ab(parameters)
        log_z, inverse = backend.xp.log(z), backend.xp.exp(-log_b)
        return (log_z - a) * inverse, inverse, log_z

    def sample(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """z = exp(a + b ε)."""
        a, log_b, _ = self._ab(parameters)
        return backend.xp.exp(a + backend.xp.exp(log_b) * self.standard(backend, noise))

    def log_densities(self, backend: Any, parameters: Blocks, z: Array) -> Array:
        x, _, log_z = self._x(backend, parameters, z)
        return self.standard_log_density(backend, x) - self._ab(parameters)[1] - log_z

    def log_density_gradient(self, backend: Any, parameters: Blocks, z: Array) -> Array:
        x, inverse, _ = self._x(backend, parameters, z)
        return (self.standard_slope(backend, x) * inverse - 1.0) / z

    def log_density_hessian_product(self, backend: Any, parameters: Blocks, z: Array, vector: Array) -> Array:
        x, inverse, _ = self._x(backend, parameters, z)
        slope, curvature = self.standard_slope(backend, x), self.standard_curvature(backend, x)
        return (curvature * inverse * inverse - slope * inverse + 1.0) / (z * z) * vector

    def score(self, backend: Any, parameters: Blocks, z: Array) -> Blocks:
        """By a: −g'(x)/b; by log b: −1 − x g'(x)."""
        x, inverse, _ = self._x(backend, parameters, z)
        slope, sign = self.standard_slope(backend, x), self._ab(parameters)[2]
        return dict(zip(self.blocks, (-slope * inverse, sign * (-1.0 - x * slope)), strict=True))

    def pathwise(self, backend: Any, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array) -> Blocks:
        """∂z/∂a = z, ∂z/∂log b = z b ε."""
        pulled, sign = cotangent * z, self._ab(parameters)[2]
        return dict(zip(self.blocks, (pulled, sign * pulled * self._spread(backend, parameters, noise)), strict=True))

    def _spread(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """b ε."""
        return backend.xp.exp(self._ab(parameters)[1]) * self.standard(backend, noise)

    def entropy_pathwise(self, backend: Any, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """−log q(t(ε, λ)) = a + b ε + log b − g(ε): 1, and 1 + b ε."""
        sign = self._ab(parameters)[2]
        return dict(zip(self.blocks, (1.0, sign * (1.0 + self._spread(backend, parameters, noise))), strict=True))

    def entropy_gradient(self, backend: Any, parameters: Blocks) -> Blocks:
        """Of a + b E ε + log b + const."""
        a, log_b, sign = self._ab(parameters)
        by_log_b = sign * (1.0 + self.mean * backend.xp.exp(log_b))
        return dict(zip(self.blocks, (backend.xp.ones_like(a), by_log_b), strict=True))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """E zⁿ = exp(na) M(nb)."""
        a, log_b, sign = self._ab(parameters)
        t, size = order * np.exp(log_b), np.exp(order * a)
        value, slope = self.generating_function(t, order)
        return size * value, dict(zip(self.blocks, (order * size * value, sign * size * t * slope), strict=True))
