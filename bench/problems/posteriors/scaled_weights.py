"""A log joint density part of which reads products β_j = η_j exp(l_j + t) instead of η_j."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.bench.problems.arrays import Array, Arrays
from gradmeter.bench.problems.minibatch import OfRows
from gradmeter.bench.problems.posteriors.log_joint import LogJoint
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class ScaledWeights(OfRows):
    """`plain` at z plus `scaled` at z with η replaced by β; z is an intercept, η [P], l [P] and t."""

    rows_of: ClassVar[str] = "units"

    plain: LogJoint
    scaled: LogJoint
    weights: int

    def noise_specs(self, data: Arrays) -> dict[str, Noise]:
        return self.scaled.noise_specs(data)

    def width(self, data: Arrays, dimension: int) -> int:
        return max(self.plain.width(data, dimension), self.scaled.width(data, dimension))

    def _split(self, z: Array) -> tuple[Array, Array, Array, Array]:
        """Return the intercept [..., 1], η and l [..., P], and t [..., 1], or the like of another vector."""
        count = self.weights
        return z[..., :1], z[..., 1 : count + 1], z[..., count + 1 : 2 * count + 1], z[..., 2 * count + 1 :]

    def _mapped(self, xp: Any, z: Array) -> tuple[Array, Array, Array]:
        """Return z with β in place of η, exp(l + t) and β."""
        intercept, eta, log_local, log_global = self._split(z)
        factor = xp.exp(log_local + log_global)
        beta = eta * factor
        return xp.concat([intercept, beta, log_local, log_global], axis=-1), factor, beta

    def _pulled(self, xp: Any, slope: Array, factor: Array, beta: Array) -> Array:
        """Return the transposed Jacobian of the map times a vector [..., D], which is 0 at l and t."""
        intercept, of_beta, _, _ = self._split(slope)
        by_log = of_beta * beta
        return xp.concat([intercept, of_beta * factor, by_log, xp.sum(by_log, axis=-1, keepdims=True)], axis=-1)

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        scaled = self.scaled.value(xp, data, self._mapped(xp, z)[0], noise)
        return self.plain.value(xp, data, z, noise) + scaled - data["constant"]  # both parts add it

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        at, factor, beta = self._mapped(xp, z)
        slope = self.scaled.gradient(xp, data, at, noise)
        return self.plain.gradient(xp, data, z, noise) + self._pulled(xp, slope, factor, beta)

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        at, factor, beta = self._mapped(xp, z)
        intercept, eta, log_local, log_global = self._split(vector)
        along = log_local + log_global
        moved = eta * factor + beta * along  # the derivative of β along the vector
        zero = xp.zeros_like(log_local)
        step = xp.concat([intercept, moved, zero, xp.zeros_like(log_global)], axis=-1)
        bent = self._pulled(xp, self.scaled.hessian_product(xp, data, at, step, noise), factor, beta)
        # The map's own curvature: derivatives of the factor and of β in the transposed Jacobian.
        turned = self._pulled(xp, self.scaled.gradient(xp, data, at, noise), factor * along, moved)
        turned = xp.concat([xp.zeros_like(intercept), turned[..., 1:]], axis=-1)
        return self.plain.hessian_product(xp, data, z, vector, noise) + bent + turned
