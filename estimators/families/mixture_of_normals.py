"""A mixture of K mean-field Normals: component k with probability softmax(logits)_k, then z ~ N(loc_k, diag σ_k²)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig
from gradmeter.estimators.families.logs import softmax
from gradmeter.estimators.families.normal import Normal, normal_power_moment
from gradmeter.estimators.families.support_and_tails import Marginals
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: Largest dimension: the implicit path derivative loops over the coordinates.
LARGEST = 100


@dataclass(frozen=True)
class MixtureOfNormals(Family):
    """The mixture of mean-field Normals.

    Parameters: `loc` [K, D], `log_scale` [K, D] and `logits` [K], all unconstrained; σ = exp(log_scale). K =
    `components` is a static field. The sample jumps from one component to another, so the pathwise derivative is
    implicit, through the conditional CDFs of one coordinate after another (Figurnov et al. 2018).
    """

    name: ClassVar[str] = "mixture-of-normals"
    summary: ClassVar[str] = "mixture of mean-field Normals; parameters loc, log_scale, logits"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale", "logits")
    unsupported: ClassVar[dict[str, str]] = {
        "weak_derivatives": "its coordinates depend on each other, so none moves alone",
        "entropy_gradient": "its entropy has no closed form",
    }

    components: int = 2

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        components: int = option(2, "number of components K", minimum=1, maximum=100)
        loc: Values = option(0.0, "middle of the components' means, in every coordinate", per="coordinate")
        scale: Values = option(1.0, "σ of every component in every coordinate", above=0.0, per="coordinate")
        distance: Values = option(
            2.0, "from one component's mean to the next one's, in every coordinate", minimum=0.0, per="coordinate"
        )
        weights: Values = option(
            1.0, "how probable each component is, relative to the others", above=0.0, per="component"
        )

        @property
        def family(self) -> Family:
            return MixtureOfNormals(self.components)

        def parameters(self, dimension: int) -> Blocks:
            k = self.components
            loc, distance = self.each(dimension, float, "loc"), self.each(dimension, float, "distance")
            return {
                "loc": loc + distance * (np.arange(k) - 0.5 * (k - 1))[:, None],
                "log_scale": np.tile(self.each(dimension, math.log, "scale"), (k, 1)),
                "logits": self.each(k, math.log, "weights"),
            }

        def counts(self, dimension: int) -> dict[str, int]:
            return {"coordinate": dimension, "component": self.components}

        def check(self, dimension: int) -> None:
            super().check(dimension)
            if dimension > LARGEST:
                raise UsageError(f"family mixture-of-normals takes at most {LARGEST} coordinates, not {dimension}")

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        k = self.components
        return {"loc": (k, dimension), "log_scale": (k, dimension), "logits": (k,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {
            "base": Noise("normal", (*sample_shape, dimension)),
            "component": Noise("uniform", (*sample_shape, 1)),
        }

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = loc + σ ε of the component that the inverse CDF chooses."""
        xp = backend.xp
        weights, each = self.stratified(backend, parameters, noise)
        beyond, z = xp.cumulative_sum(weights), each[0]
        for k in range(1, self.components):
            z = xp.where(noise["component"] >= beyond[k - 1], each[k], z)
        return z

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        return {"component": np.cumsum(softmax(np, parameters["logits"]))[None, :-1]}

    def stratified(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array, list[Array]]:
        loc, scale = parameters["loc"], backend.xp.exp(parameters["log_scale"])
        each = [loc[k, ...] + scale[k, ...] * noise["base"] for k in range(self.components)]
        return softmax(backend.xp, parameters["logits"]), each

    def _standardised(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array]:
        """Return (z − loc_k)/σ_k and log N(z_i; loc_k, σ_k²), both [..., K, D]."""
        standard = (z[..., None, :] - parameters["loc"]) * backend.xp.exp(-parameters["log_scale"])
        return standard, -0.5 * standard * standard - parameters["log_scale"] - 0.5 * math.log(2.0 * math.pi)

    def _joint(self, backend: Backend, parameters: Blocks, logs: Array) -> Array:
        """Return the log of each component's probability times its density [..., K]."""
        logits = parameters["logits"]
        return logits - _log_sum_exp(backend.xp, logits, -1) + backend.xp.sum(logs, axis=-1)

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        logs = self._standardised(backend, parameters, z)[1]
        return _log_sum_exp(backend.xp, self._joint(backend, parameters, logs), -1)

    def log_density_replaced(self, backend: Backend, parameters: Blocks, z: Array, replacement: Array) -> Array:
        logs = self._standardised(backend, parameters, z)[1]
        others = self._joint(backend, parameters, logs)[..., None] - logs
        return _log_sum_exp(backend.xp, others + self._standardised(backend, parameters, replacement)[1], -2)

    def _responsible(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array]:
        """Return each component's probability given z [..., K], and (z − loc_k)/σ_k [..., K, D]."""
        standard, logs = self._standardised(backend, parameters, z)
        return softmax(backend.xp, self._joint(backend, parameters, logs)), standard

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        weights, standard = self._responsible(backend, parameters, z)
        return -backend.xp.sum(weights[..., None] * standard * backend.xp.exp(-parameters["log_scale"]), axis=-2)

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        """Return the mean of the components' Hessians given z, plus the covariance of their gradients, times vector."""
        xp = backend.xp
        weights, standard = self._responsible(backend, parameters, z)
        precision = xp.exp(-parameters["log_scale"])
        slopes, along = -standard * precision, vector[..., None, :]
        mean = xp.sum(weights[..., None] * slopes, axis=-2)
        each = slopes * xp.sum(slopes * along, axis=-1, keepdims=True) - precision * precision * along
        return xp.sum(weights[..., None] * each, axis=-2) - mean * xp.sum(mean * vector, axis=-1, keepdims=True)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return r (z − loc)/σ², r (((z − loc)/σ)² − 1), and r − softmax, r the component probabilities given z."""
        xp = backend.xp
        weights, standard = self._responsible(backend, parameters, z)
        each = weights[..., None]
        return {
            "loc": each * standard * xp.exp(-parameters["log_scale"]),
            "log_scale": each * (standard * standard - 1.0),
            "logits": weights - softmax(xp, parameters["logits"]),
        }

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return −(∂F/∂λ)ᵀ y with (∂F/∂z)ᵀ y = cotangent, for F_i(z_i | z_1 … z_{i − 1}) = Σ_k w_ik Φ_ik.

        w_ik is the probability of component k given the coordinates before i. So a change of an earlier coordinate, or
        of the logits, changes F_i by w_ik (Φ_ik − F_i) times the change of log w_ik. ∂F/∂z is lower triangular and is
        solved from the last coordinate to the first.
        """
        xp = backend.xp
        standard, logs = self._standardised(backend, parameters, z)
        before = xp.cumulative_sum(logs, axis=-1) - logs
        weights = softmax(xp, parameters["logits"][:, None] + before, axis=-2)
        density = weights * xp.exp(logs)
        shifted = weights * _above_mean(backend, weights, standard)
        slope = -standard * xp.exp(-parameters["log_scale"])
        total, pulled, sums = xp.sum(density, axis=-2), [], []
        behind = xp.zeros_like(standard[..., 0])  # Σ over later coordinates i of y_i w_ik (Φ_ik − F_i), [..., K]
        for i in range(z.shape[-1] - 1, -1, -1):
            sums.append(behind)
            y = (cotangent[..., i] - xp.sum(slope[..., i] * behind, axis=-1)) / total[..., i]
            pulled.append(y)
            behind = behind + y[..., None] * shifted[..., i]
        own = xp.stack(pulled[::-1], axis=-1)[..., None, :] * density
        later = xp.stack(sums[::-1], axis=-1)
        return {
            "loc": own + later * slope,
            "log_scale": own * standard * xp.exp(parameters["log_scale"]) - later * (standard * standard - 1.0),
            "logits": -behind,
        }

    def marginals(self, parameters: Blocks) -> Marginals:
        """Return the Normal of every coordinate in every component, K D in all."""
        shape, logits = parameters["loc"].shape, parameters["logits"]
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()

        def collect(values: Array, gradient: Blocks) -> tuple[float, Blocks]:
            totals = values.reshape(shape).sum(axis=-1)
            mean = float(weights @ totals)
            moved = {name: weights[:, None] * g.reshape(shape) for name, g in gradient.items()}
            return mean, {**moved, "logits": weights * (totals - mean)}

        return Marginals(Normal(), {name: parameters[name].ravel() for name in Normal.blocks}, collect)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the weighted mean of the components' moments."""
        scale, logits = np.exp(parameters["log_scale"]), parameters["logits"]
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        each, slope, curvature = normal_power_moment(parameters["loc"], scale, order)
        moment = weights @ each
        return moment, {
            "loc": weights[:, None] * slope,
            "log_scale": weights[:, None] * scale**2 * curvature,
            "logits": weights * (each.sum(axis=-1) - moment.sum()),
        }


def _log_sum_exp(xp: Any, values: Array, axis: int) -> Array:
    highest = xp.max(values, axis=axis, keepdims=True)
    return xp.squeeze(highest, axis=axis) + xp.log(xp.sum(xp.exp(values - highest), axis=axis))


def _above_mean(backend: Backend, weights: Array, standard: Array) -> Array:
    """Return Φ_k − Σ_m w_m Φ_m, from the tail in which the terms are small."""
    xp, scaled = backend.xp, math.sqrt(0.5) * standard  # erfc, because PyTorch's ndtr loses the tail
    below, above = 0.5 * backend.special.erfc(-scaled), 0.5 * backend.special.erfc(scaled)
    mean = xp.sum(weights * below, axis=-2, keepdims=True)
    return xp.where(mean > 0.5, xp.sum(weights * above, axis=-2, keepdims=True) - above, below - mean)
