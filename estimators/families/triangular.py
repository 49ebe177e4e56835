"""The triangular distribution on [low, high] with its peak at mode, coordinates independent.

Densities and their derivatives are valid inside the support only. The support depends on λ, but the density is 0 at
both ends, so the score identity holds. E score² does not exist (∫ x · x⁻² dx diverges at the ends).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Triangular(MeanField):
    """The triangular family.

    Parameters: `loc` [D], the lower end; `log_scale` [D], the logarithm of the width; and `logit_mode` [D], the logit
    of c = (mode − low)/(high − low).
    """

    name: ClassVar[str] = "triangular"
    summary: ClassVar[str] = (
        "triangular distribution; its score has infinite variance; parameters loc (low), log_scale (width), logit_mode"
    )
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale", "logit_mode")

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        low: Values = option(-1.0, "lower end of the support", per="coordinate")
        mode: Values = option(0.0, "where the density is highest, between low and high", per="coordinate")
        high: Values = option(1.0, "upper end of the support", per="coordinate")

        @property
        def family(self) -> Family:
            return Triangular()

        def check(self, dimension: int) -> None:
            super().check(dimension)
            for low, mode, high in self.rows("low", "mode", "high"):
                if not low < mode < high:
                    raise UsageError(
                        f"family triangular with low={low:g}, mode={mode:g}, high={high:g}: mode must be above low and "
                        "below high"
                    )

        def parameters(self, dimension: int) -> Blocks:
            return {
                "loc": self.each(dimension, float, "low"),
                "log_scale": self.each(dimension, lambda low, high: math.log(high - low), "low", "high"),
                "logit_mode": self.each(dimension, _logit_mode, "low", "mode", "high"),
            }

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        # Exponential instead of uniform noise, because u = 0 could be drawn: an end of the support, where the score is
        # infinite.
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return the noise at the mode, u = c, where the path has a corner."""
        return {"base": np.log1p(np.exp(parameters["logit_mode"]))[:, None]}

    def _parts(self, backend: Backend, noise: dict[str, Array], mode: Array) -> tuple[Array, Array, Array]:
        """Return whether u = 1 − exp(−e) is below c, √(u/c) or √((1 − u)/(1 − c)) accordingly, and c."""
        xp, e = backend.xp, noise["base"]
        below, u = mode + 0.0 * e, -xp.expm1(-e)
        left = u < below
        return left, xp.sqrt(xp.where(left, u / below, xp.exp(-e) / (1.0 - below))), below

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = loc + σ x by the inverse CDF: x = √(uc) where u < c, else 1 − √((1 − u)(1 − c))."""
        xp = backend.xp
        left, root, c = self._parts(backend, noise, _mode(xp, parameters))
        x = xp.where(left, c * root, 1.0 - (1.0 - c) * root)
        return parameters["loc"] + xp.exp(parameters["log_scale"]) * x

    def _x(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array, Array, Array]:
        """Return whether x is below c; x or x − 1, the signed distance from that end; c or c − 1; and 1/σ."""
        xp = backend.xp
        inverse, c = xp.exp(-parameters["log_scale"]), _mode(xp, parameters)
        x = (z - parameters["loc"]) * inverse
        left = x < c
        return left, xp.where(left, x, x - 1.0), xp.where(left, c + 0.0 * x, c - 1.0 + 0.0 * x), inverse

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log 2x/c below the mode, log 2(1 − x)/(1 − c) above, both minus log σ."""
        _, end, peak, _ = self._x(backend, parameters, z)
        return math.log(2.0) + backend.xp.log(end / peak) - parameters["log_scale"]

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        _, end, _, inverse = self._x(backend, parameters, z)
        return inverse / end

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        slope = self.log_density_gradient(backend, parameters, z)
        return -slope * slope * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return −s/σ, −1 − xs, and −(1 − c) below the mode, c above, with s = 1/x or −1/(1 − x)."""
        xp = backend.xp
        left, end, _, inverse = self._x(backend, parameters, z)
        x, c = (z - parameters["loc"]) * inverse, _mode(xp, parameters)
        return {
            "loc": -inverse / end,
            "log_scale": -1.0 - x / end,
            "logit_mode": xp.where(left, c - 1.0 + 0.0 * x, c + 0.0 * x),
        }

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from 1, σ x, and σ c(1 − c) ∂x/∂c with ∂x/∂c = ½√(u/c) or ½√((1 − u)/(1 − c))."""
        xp = backend.xp
        _, root, c = self._parts(backend, noise, _mode(xp, parameters))
        moved = xp.exp(parameters["log_scale"]) * c * (1.0 - c) * 0.5 * root
        return {"loc": cotangent, "log_scale": cotangent * (z - parameters["loc"]), "logit_mode": cotangent * moved}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return 1, and ½(1 − c) below the mode or −½c above it.

        −log q is log σ − log 2 − log √(u/c), or − log √((1 − u)/(1 − c)) above the mode.
        """
        xp = backend.xp
        left, _, c = self._parts(backend, noise, _mode(xp, parameters))
        return {"log_scale": 1.0, "logit_mode": xp.where(left, 0.5 * (1.0 - c), -0.5 * c)}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of ½ − log 2 + log σ, which does not depend on the mode."""
        xp = backend.xp
        zero = xp.zeros_like(parameters["loc"])
        return {"loc": zero, "log_scale": xp.ones_like(zero), "logit_mode": zero}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        low, width = parameters["loc"], np.exp(parameters["log_scale"])
        return SupportAndTails(low, low + width * _mode(np, parameters), low + width, width)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return 2hₙ/((n + 1)(n + 2)), with hₙ the complete homogeneous symmetric polynomial of low, mode and high.

        hₙ is the sum of all products of n of the three knots, repeats allowed: the density is the B-spline with these
        knots. ∂hₙ/∂knot is hₙ₋₁ of the knots with that knot repeated.
        """
        low, width, c = parameters["loc"], np.exp(parameters["log_scale"]), _mode(np, parameters)
        knots = [low, low + width * c, low + width]
        factor = 2.0 / ((order + 1) * (order + 2))
        by_low, by_mode, by_high = (factor * _homogeneous([*knots, knot], order - 1) for knot in knots)
        gradient = {
            "loc": by_low + by_mode + by_high,
            "log_scale": width * (c * by_mode + by_high),
            "logit_mode": width * c * (1.0 - c) * by_mode,
        }
        return factor * _homogeneous(knots, order), gradient


def _logit_mode(low: float, mode: float, high: float) -> float:
    return math.log((mode - low) / (high - mode))


def _mode(xp: Any, parameters: Blocks) -> Array:
    """Return c."""
    return 1.0 / (1.0 + xp.exp(-parameters["logit_mode"]))


def _homogeneous(knots: list[Array], order: int) -> Array:
    """Return the complete homogeneous symmetric polynomial hₙ, 0 for n < 0, by hₙ = hₙ(other knots) + knot hₙ₋₁."""
    zero = np.zeros_like(knots[0])
    if order < 0:
        return zero
    h = [zero + 1.0] + [zero] * order
    for knot in knots:
        for n in range(1, order + 1):
            h[n] = h[n] + knot * h[n - 1]
    return h[order]
