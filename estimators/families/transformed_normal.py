"""A Normal taken through a smooth increasing function: z = g(loc + σ ε), coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.logs import above_zero, below_one
from gradmeter.estimators.families.relaxation import sigmoid
from gradmeter.estimators.families.support_and_tails import BOUNDED, HEAVY, SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

TRANSFORMS = ("sigmoid", "softplus", "exp")
#: Intervals and reach, in units of σ, of the trapezoid rule over ε.
INTERVALS, REACH = 800, 16.0
#: Moments are exact to rounding up to this σ by that rule, and by one of several times its intervals up to `LARGEST`:
#: sigmoid and softplus have poles at ±iπ/σ.
COARSE, LARGEST = 8.0, 1000.0


def _rule(finer: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of the trapezoid rule for the mean over a standard normal number."""
    node = np.linspace(-REACH, REACH, finer * INTERVALS + 1)
    weight = np.exp(-0.5 * node * node)
    return node, weight / weight.sum()


#: As lists, for any backend.
RULE = tuple(each.tolist() for each in _rule())


@dataclass(frozen=True)
class TransformedNormal(MeanField):
    """The family of z = g(y) with Normal y, as automatic differentiation variational inference has it.

    g is `sigmoid`, onto (0, 1), the logit-Normal; `softplus`, log(1 + exp(y)), or `exp`, the log-Normal, onto (0, ∞).
    It is a static field. log q(z) = log N(y; loc, σ²) − log g′(y).

    Parameters: `loc` [D] and `log_scale` [D], those of y, both unconstrained.

    Source: Kucukelbir et al. 2017, sections 2.3 and 2.4.
    """

    name: ClassVar[str] = "transformed-normal"
    summary: ClassVar[str] = "sigmoid, softplus or exponential of a Normal; parameters loc, log_scale (of the Normal)"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")
    moment_source: ClassVar[str] = "quadrature"

    transform: str = "sigmoid"

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        transform: str = option("sigmoid", "g, the function of the Normal", choices=TRANSFORMS)
        loc: Values = option(0.0, "location of the Normal, for every coordinate", per="coordinate")
        scale: Values = option(1.0, "scale of the Normal, for every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return TransformedNormal(self.transform)

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("normal", (*sample_shape, dimension))}

    def forward(self, xp: Any, y: Array) -> Array:
        """Return g(y)."""
        if self.transform == "exp":
            return above_zero(xp, xp.exp(y))
        if self.transform == "softplus":
            return above_zero(xp, xp.logaddexp(xp.zeros_like(y), y))
        return below_one(xp, above_zero(xp, sigmoid(xp, y)))

    def inverse(self, xp: Any, z: Array) -> Array:
        """Return y."""
        if self.transform == "sigmoid":
            return xp.log(z) - xp.log1p(-z)
        return xp.log(z) if self.transform == "exp" else z + xp.log(-xp.expm1(-z))

    def slopes(self, xp: Any, y: Array) -> tuple[Array, Array, Array]:
        """Return log g′(y), and its first and second derivatives in y."""
        if self.transform == "exp":
            return y, xp.ones_like(y), xp.zeros_like(y)
        up, down = sigmoid(xp, y), sigmoid(xp, -y)
        nothing = xp.zeros_like(y)
        if self.transform == "softplus":
            return -xp.logaddexp(nothing, -y), down, -up * down
        return -xp.logaddexp(nothing, -y) - xp.logaddexp(nothing, y), down - up, -2.0 * up * down

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return self.forward(backend.xp, self._y(backend, parameters, noise))

    def _y(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return parameters["loc"] + backend.xp.exp(parameters["log_scale"]) * noise["base"]

    def _x(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array, Array]:
        """Return y, (y − loc)/σ and 1/σ."""
        inverse = backend.xp.exp(-parameters["log_scale"])
        y = self.inverse(backend.xp, z)
        return y, (y - parameters["loc"]) * inverse, inverse

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        y, x, _ = self._x(backend, parameters, z)
        log_slope, _, _ = self.slopes(backend.xp, y)
        return -0.5 * x * x - 0.5 * math.log(2.0 * math.pi) - parameters["log_scale"] - log_slope

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return (d/dy of −½x² − log g′)/g′."""
        y, x, inverse = self._x(backend, parameters, z)
        log_slope, first, _ = self.slopes(backend.xp, y)
        return -(x * inverse + first) * backend.xp.exp(-log_slope)

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        y, x, inverse = self._x(backend, parameters, z)
        log_slope, first, second = self.slopes(backend.xp, y)
        curved = (x * inverse + first) * first - inverse * inverse - second
        return curved * backend.xp.exp(-2.0 * log_slope) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return x/σ and x² − 1, the Normal's score at y."""
        _, x, inverse = self._x(backend, parameters, z)
        return {"loc": x * inverse, "log_scale": x * x - 1.0}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂loc = g′(y) and ∂z/∂log_scale = g′(y) σ ε."""
        xp, y = backend.xp, self._y(backend, parameters, noise)
        along = cotangent * xp.exp(self.slopes(xp, y)[0])
        return {"loc": along, "log_scale": along * (y - parameters["loc"])}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return s and 1 + s σ ε, s the derivative of log g′, since −log q(t(ε, λ)) = log σ + log g′(y) + const."""
        y = self._y(backend, parameters, noise)
        first = self.slopes(backend.xp, y)[1]
        return {"loc": first, "log_scale": 1.0 + first * (y - parameters["loc"])}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return the mean of `entropy_pathwise` over ε, by the trapezoid rule."""
        xp = backend.xp
        node, weight = (xp.astype(backend.asarray(part, None), parameters["loc"].dtype) for part in RULE)
        away = xp.exp(parameters["log_scale"])[..., None] * node
        first = self.slopes(xp, parameters["loc"][..., None] + away)[1]
        return {"loc": xp.sum(weight * first, axis=-1), "log_scale": 1.0 + xp.sum(weight * first * away, axis=-1)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle, scale = self.forward(np, parameters["loc"]), np.exp(parameters["log_scale"])
        width = scale * np.exp(self.slopes(np, parameters["loc"])[0])
        low, high = 0.0 * middle, np.ones_like(middle)
        if self.transform == "sigmoid":
            return SupportAndTails(low, middle, high, np.minimum(width, middle * (1.0 - middle)))
        above = HEAVY if self.transform == "exp" else Tail(2.0, 0.5 / scale**2)
        return SupportAndTails(low, middle, high + np.inf, np.minimum(width, middle), BOUNDED, above)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return E g(y)ⁿ and E n gⁿ⁻¹ g′ ∂y, by the trapezoid rule; for exp in ε − n σ, where the mass is."""
        scale = np.exp(parameters["log_scale"])[:, None]
        finer = 1 if self.transform == "exp" else math.ceil(float(scale.max()) / COARSE)
        if finer * COARSE > LARGEST:
            raise NotApplicable(f"moments of family {self.name} are exact up to scale={LARGEST:g}")
        node, weight = _rule(finer)
        shift = order * scale if self.transform == "exp" else 0.0 * scale
        epsilon = node + shift
        tilt = weight * np.exp(-shift * node - 0.5 * shift * shift)
        y = parameters["loc"][:, None] + scale * epsilon
        z = self.forward(np, y)
        moment = np.sum(tilt * z**order, axis=1)
        if order == 0:
            return np.ones_like(moment), {name: np.zeros_like(moment) for name in self.blocks}
        moved = order * tilt * z ** (order - 1) * np.exp(self.slopes(np, y)[0])
        return moment, {"loc": np.sum(moved, axis=1), "log_scale": np.sum(moved * scale * epsilon, axis=1)}
