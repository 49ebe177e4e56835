"""The Normal distribution truncated to an interval that does not depend on λ, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: Nodes of the Gauss-Legendre rule for moments, and how far from loc it reaches, in units of σ.
NODES, REACH = 400, 38.0
#: An interval is narrow if it is at most this many σ wide, and the exponent of its density changes by about this much
#: at most.
NARROW, FLAT = 1.0, 8.0
#: Nodes and weights of the Gauss-Legendre rule on (0, 1) for narrow intervals.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_RULE = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS
#: An interval is very narrow if it is at most this many σ wide, and the exponent changes by about this much at most;
#: a rule on (0, 1) of three nodes, and two Newton steps, then invert its distribution function to rounding.
VERY_NARROW, VERY_FLAT = 0.02, 0.03
_FEW = ((0.5 - math.sqrt(0.15), 5.0 / 18.0), (0.5, 4.0 / 9.0), (0.5 + math.sqrt(0.15), 5.0 / 18.0))


class Ends:
    """The standardised ends a = (low − loc)/σ and b of the interval, with densities, and the probability between.

    Where the interval is narrow in units of σ, differences of Φ and φ at its ends lose their digits. Integrals over
    it are then computed by a Gauss-Legendre rule.
    """

    def __init__(self, backend: Backend, low: float, high: float, parameters: Blocks) -> None:
        xp, inverse = backend.xp, backend.xp.exp(-parameters["log_scale"])
        self.a, self.b = (low - parameters["loc"]) * inverse, (high - parameters["loc"]) * inverse
        #: Whether the interval lies rather above loc: its mirror image then has the precise probabilities.
        self.above = self.a + self.b > 0.0
        self.nearest = xp.where(self.above, -self.b, self.a)
        self.farthest = xp.where(self.above, -self.a, self.b)
        self.below = backend.special.ndtr(self.nearest)
        width = (high - low) * inverse
        farther = xp.maximum(xp.abs(self.a), xp.abs(self.b))
        self.narrow = (width <= NARROW) & (width * farther <= FLAT)
        self.very_narrow = (width <= VERY_NARROW) & (width * farther <= VERY_FLAT)
        self._short = xp.where(self.very_narrow, width, xp.zeros_like(width))
        node, weight = (xp.astype(backend.asarray(each, None), width.dtype) for each in _RULE)
        self._away = xp.where(self.narrow, width, xp.zeros_like(width))[..., None] * node  # x − a
        density = xp.exp(-self._away * (0.5 * self._away + self.a[..., None])) * weight
        total = xp.sum(density, axis=-1)
        self._weights = density / total[..., None]
        within = width * total * xp.exp(-0.5 * self.a * self.a) / math.sqrt(2.0 * math.pi)
        self.between = xp.where(self.narrow, within, backend.special.ndtr(self.farthest) - self.below)

    def distance(self, xp: Any, u: Array) -> Array:
        """Return x − a of the quantile of u, for a very narrow interval."""

        def within(y: Array) -> Array:
            """Return the integral of φ(a + t)/φ(a) over t from 0 to y."""
            at = [(y * node, weight) for node, weight in _FEW]
            return y * sum(weight * xp.exp(-t * (0.5 * t + self.a)) for t, weight in at)

        y = u * self._short * (1.0 - 0.5 * self.a * self._short * (1.0 - u))
        wanted = u * within(self._short)
        for _ in range(2):
            y = y - (within(y) - wanted) * xp.exp(y * (0.5 * y + self.a))
        return y

    def mean(self, xp: Any) -> Array:
        """Return E x of the standardised number."""
        return xp.where(self.narrow, self.a + self._average(xp, self._away), self._boundary(xp, 0))

    def square(self, xp: Any) -> Array:
        """Return E x²."""
        x = self.a[..., None] + self._away
        return xp.where(self.narrow, self._average(xp, x * x), 1.0 + self._boundary(xp, 1))

    def covariances(self, xp: Any) -> tuple[Array, Array]:
        """Return Cov(x, x²) and Var x²."""
        mean, square = self._boundary(xp, 0), 1.0 + self._boundary(xp, 1)
        third, fourth = 2.0 * mean + self._boundary(xp, 2), 3.0 * square + self._boundary(xp, 3)
        away = self._away - self._average(xp, self._away)[..., None]
        squares = self._away * (self._away + 2.0 * self.a[..., None])  # x² − a²
        squares = squares - self._average(xp, squares)[..., None]
        return (
            xp.where(self.narrow, self._average(xp, away * squares), third - mean * square),
            xp.where(self.narrow, self._average(xp, squares * squares), fourth - square * square),
        )

    def _average(self, xp: Any, values: Array) -> Array:
        """Return the mean of values at the nodes of a narrow interval."""
        return xp.sum(self._weights * values, axis=-1)

    def _boundary(self, xp: Any, power: int) -> Array:
        """Return (aⁿ φ(a) − bⁿ φ(b))/Z, where Z is the probability between."""
        parts = [x**power * xp.exp(-0.5 * x * x) for x in (self.a, self.b)]
        return (parts[0] - parts[1]) / (math.sqrt(2.0 * math.pi) * self.between)


@dataclass(frozen=True)
class TruncatedNormal(MeanField):
    """The truncated Normal family on [`low`, `high`], which are static fields.

    Parameters: `loc` [D] and `log_scale` [D], both unconstrained: those of the Normal that is truncated, not the mean
    and standard deviation of z.
    """

    name: ClassVar[str] = "truncated-normal"
    summary: ClassVar[str] = "Normal truncated to a fixed interval, by its inverse CDF; parameters loc, log_scale"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")
    moment_source: ClassVar[str] = "quadrature"

    low: float = -1.0
    high: float = 2.0

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        low: float = option(-1.0, "lower end of the interval")
        high: float = option(2.0, "upper end of the interval")
        loc: Values = option(0.0, "location of the Normal, for every coordinate", per="coordinate")
        scale: Values = option(1.0, "scale of the Normal, for every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return TruncatedNormal(self.low, self.high)

        def check(self, dimension: int) -> None:
            if not self.low < self.high:
                raise UsageError(
                    f"family truncated-normal option 'low' is {self.low:g}; it must be less than 'high', {self.high:g}"
                )
            super().check(dimension)

    def _ends(self, backend: Backend, parameters: Blocks) -> Ends:
        return Ends(backend, self.low, self.high, parameters)

    def _x(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array]:
        """Return x and 1/σ."""
        inverse = backend.xp.exp(-parameters["log_scale"])
        return (z - parameters["loc"]) * inverse, inverse

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        xp, u, ends = backend.xp, noise["base"], self._ends(backend, parameters)
        part = xp.where(ends.above, 1.0 - u, u)
        x = backend.special.ndtri(ends.below + part * ends.between)
        x = xp.where(x > ends.nearest, x, ends.nearest + xp.zeros_like(x))  # Φ⁻¹ may round beyond the end
        x = xp.where(x < ends.farthest, x, ends.farthest + xp.zeros_like(x))
        scale = xp.exp(parameters["log_scale"])
        z = parameters["loc"] + scale * xp.where(ends.above, -x, x)
        near = self.low + scale * ends.distance(xp, u)
        return xp.where(ends.very_narrow, xp.minimum(near, xp.full_like(near, self.high)), z)

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, (x, _) = backend.xp, self._x(backend, parameters, z)
        constant = xp.log(self._ends(backend, parameters).between) + parameters["log_scale"]
        return -0.5 * x * x - 0.5 * math.log(2.0 * math.pi) - constant

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x, inverse = self._x(backend, parameters, z)
        return -x * inverse

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return -backend.xp.exp(-2.0 * parameters["log_scale"]) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return (x − E x)/σ and x² − E x²."""
        x, inverse = self._x(backend, parameters, z)
        ends = self._ends(backend, parameters)
        return {"loc": (x - ends.mean(backend.xp)) * inverse, "log_scale": x * x - ends.square(backend.xp)}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from Φ(x) = (1 − u) Φ(a) + u Φ(b).

        With p = (1 − u) φ(a)/φ(x) and r = u φ(b)/φ(x), ∂z/∂loc = 1 − p − r and ∂z/∂log σ = σ (x − p a − r b). Both
        are written in p − (1 − u) and r − u, which are small where the interval is narrow.
        """
        xp, u, (x, _) = backend.xp, noise["base"], self._x(backend, parameters, z)
        ends, scale = self._ends(backend, parameters), xp.exp(parameters["log_scale"])
        lower = (1.0 - u) * xp.expm1(0.5 * (x - ends.a) * (x + ends.a))
        upper = u * xp.expm1(0.5 * (x - ends.b) * (x + ends.b))
        stretched = ((1.0 - u) * (x - ends.a) + u * (x - ends.b)) - lower * ends.a - upper * ends.b
        return {"loc": -cotangent * (lower + upper), "log_scale": cotangent * scale * stretched}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ½ Cov(x², score)."""
        of_loc, of_scale = self._ends(backend, parameters).covariances(backend.xp)
        return {"loc": 0.5 * of_loc * backend.xp.exp(-parameters["log_scale"]), "log_scale": 0.5 * of_scale}

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        """Multiply σ² by the dispersion."""
        return {"loc": parameters["loc"], "log_scale": parameters["log_scale"] + 0.5 * math.log(dispersion)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = np.clip(parameters["loc"], self.low, self.high)
        inside = self.low + (self.high - self.low) * np.where(
            middle <= self.low, 0.1, np.where(middle >= self.high, 0.9, (middle - self.low) / (self.high - self.low))
        )
        width = np.minimum(np.exp(parameters["log_scale"]), self.high - self.low)
        return SupportAndTails(self.low + 0.0 * middle, inside, self.high + 0.0 * middle, width)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return E zⁿ and Cov(zⁿ, score), by a Gauss-Legendre rule on the part of the interval within 38 σ of loc."""
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        nearest = np.clip(loc, self.low, self.high)
        low, high = np.maximum(self.low, nearest - REACH * scale), np.minimum(self.high, nearest + REACH * scale)
        node, weight = np.polynomial.legendre.leggauss(NODES)
        z = low[:, None] + 0.5 * (high - low)[:, None] * (node + 1.0)
        x, away = (z - loc[:, None]) / scale[:, None], (nearest - loc) / scale
        weights = weight * np.exp(-0.5 * (x * x - (away * away)[:, None]))
        weights /= weights.sum(axis=1, keepdims=True)
        moment = np.sum(weights * z**order, axis=1)
        apart = weights * (z**order - moment[:, None])
        return moment, {"loc": np.sum(apart * x, axis=1) / scale, "log_scale": np.sum(apart * x * x, axis=1)}
