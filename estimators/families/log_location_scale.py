"""Families whose logarithm is location-scale: z = exp(a + b ε), for any standard distribution of ε.

A subclass provides what `Standard` lists, the moment generating function M of ε, and the blocks of λ that hold a and
log b. The other methods follow from x = (log z − a)/b.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks
from gradmeter.estimators.families.standard import Standard


@dataclass(frozen=True)
class LogLocationScale(Standard):
    """The base of log-location-scale families.

    Parameters: the first block [D] is a; the second [D] is log b, or −log b if `inverted`.
    """

    inverted: ClassVar[bool] = False
    #: E ε.
    mean: ClassVar[float]

    @abstractmethod
    def generating_function(self, t: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return M(t) = E exp(tε) and M'(t) [D] at t = n b, where `order` is n.

        Raises
        ------
        NotApplicable
            M(t) does not exist.
        """

    def _ab(self, parameters: Blocks) -> tuple[Array, Array, float]:
        """Return a, log b, and the derivative of log b with respect to its block."""
        first, second = (parameters[name] for name in self.blocks)
        return (first, -second, -1.0) if self.inverted else (first, second, 1.0)

    def _x(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array, Array]:
        """Return x, 1/b and log z."""
        a, log_b, _ = self._ab(parameters)
        log_z, inverse = backend.xp.log(z), backend.xp.exp(-log_b)
        return (log_z - a) * inverse, inverse, log_z

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = exp(a + b ε)."""
        a, log_b, _ = self._ab(parameters)
        return backend.xp.exp(a + backend.xp.exp(log_b) * self.standard(backend, noise))

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x, _, log_z = self._x(backend, parameters, z)
        return self.standard_log_density(backend, x) - self._ab(parameters)[1] - log_z

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x, inverse, _ = self._x(backend, parameters, z)
        return (self.standard_slope(backend, x) * inverse - 1.0) / z

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        x, inverse, _ = self._x(backend, parameters, z)
        slope, curvature = self.standard_slope(backend, x), self.standard_curvature(backend, x)
        return (curvature * inverse * inverse - slope * inverse + 1.0) / (z * z) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return −g'(x)/b for a and −1 − x g'(x) for log b."""
        x, inverse, _ = self._x(backend, parameters, z)
        slope, sign = self.standard_slope(backend, x), self._ab(parameters)[2]
        return dict(zip(self.blocks, (-slope * inverse, sign * (-1.0 - x * slope)), strict=True))

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂a = z and ∂z/∂log b = z b ε."""
        pulled, sign = cotangent * z, self._ab(parameters)[2]
        return dict(zip(self.blocks, (pulled, sign * pulled * self._spread(backend, parameters, noise)), strict=True))

    def _spread(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return b ε."""
        return backend.xp.exp(self._ab(parameters)[1]) * self.standard(backend, noise)

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return 1 and 1 + b ε, since −log q(t(ε, λ)) = a + b ε + log b − g(ε)."""
        sign = self._ab(parameters)[2]
        return dict(zip(self.blocks, (1.0, sign * (1.0 + self._spread(backend, parameters, noise))), strict=True))

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of a + b E ε + log b + const."""
        a, log_b, sign = self._ab(parameters)
        by_log_b = sign * (1.0 + self.mean * backend.xp.exp(log_b))
        return dict(zip(self.blocks, (backend.xp.ones_like(a), by_log_b), strict=True))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return E zⁿ = exp(na) M(nb)."""
        a, log_b, sign = self._ab(parameters)
        t, size = order * np.exp(log_b), np.exp(order * a)
        value, slope = self.generating_function(t, order)
        return size * value, dict(zip(self.blocks, (order * size * value, sign * size * t * slope), strict=True))
