"""A Normal taken to the simplex by breaking a stick: the logistic-Normal distribution in unconstrained coordinates.

Of D numbers z on the simplex, v_k = z_k/t_k is the share that the k-th piece takes of what is left, t_k = Σ_{j≥k} z_j,
and v_k = 1/(1 + (D − k) exp(−y_k)) for k = 1, …, D − 1, with independent Normals y_k. At y = 0 all z are equal. The
Jacobian is |∂z/∂y| = Π_j z_j, over all D numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig
from gradmeter.estimators.families.logs import above_zero
from gradmeter.estimators.families.relaxation import sigmoid
from gradmeter.estimators.families.transformed_normal import RULE
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class StickBreakingNormal(Family):
    """The family of z = stick(loc + σ ε), with D − 1 Normals for D numbers on the simplex.

    Parameters: `loc` [D − 1] and `log_scale` [D − 1], those of y, both unconstrained. The density is a function of the
    first D − 1 numbers. D is at least 2.

    Sources: the Stan reference manual, unit simplex transform; Kucukelbir et al. 2017 for the use.
    """

    name: ClassVar[str] = "stick-breaking-normal"
    summary: ClassVar[str] = "Normal taken to the simplex by breaking a stick; parameters loc, log_scale (of D − 1)"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")
    unsupported: ClassVar[dict[str, str]] = {
        "weak_derivatives": "its coordinates sum to 1, so none moves alone",
        "log_density_replaced": "its coordinates sum to 1",
    }
    moment_source: ClassVar[str] = "quadrature"

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        loc: float = option(0.0, "location of every Normal")
        scale: float = option(1.0, "scale of every Normal", above=0.0)

        @property
        def family(self) -> Family:
            return StickBreakingNormal()

        def parameters(self, dimension: int) -> Blocks:
            return {
                "loc": np.full(dimension - 1, self.loc),
                "log_scale": np.full(dimension - 1, math.log(self.scale)),
            }

        def check(self, dimension: int) -> None:
            if dimension < 2:
                raise UsageError("family stick-breaking-normal needs at least 2 coordinates, since they sum to 1")
            super().check(dimension)

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(self.blocks, (dimension - 1,))

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("normal", (*sample_shape, dimension - 1))}

    def _left(self, xp: Any, values: Array) -> Array:
        """Return Σ_{j > k} values_j for k = 1, …, D − 1 [..., D − 1]."""
        return xp.flip(xp.cumulative_sum(xp.flip(values[..., 1:], axis=-1), axis=-1), axis=-1)

    def _pieces(self, backend: Backend, like: Array) -> Array:
        """Return D − k, how many pieces are left after the k-th [D − 1]."""
        count = like.shape[-1]
        return backend.xp.astype(backend.asarray(range(count, 0, -1), None), like.dtype)

    def _y(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array, Array]:
        """Return what is left after each piece, (y − loc)/σ and 1/σ."""
        xp, left = backend.xp, self._left(backend.xp, z)
        inverse = xp.exp(-parameters["log_scale"])
        y = xp.log(z[..., :-1]) - xp.log(left) + xp.log(self._pieces(backend, left))
        return left, (y - parameters["loc"]) * inverse, inverse

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        xp = backend.xp
        y = parameters["loc"] + xp.exp(parameters["log_scale"]) * noise["base"]
        logit, nothing = y - xp.log(self._pieces(backend, y)), xp.zeros_like(y)
        rest = xp.cumulative_sum(-xp.logaddexp(nothing, logit), axis=-1)  # log t_{k+1}
        before = xp.concat([nothing[..., :1], rest[..., :-1]], axis=-1)
        logs = xp.concat([before - xp.logaddexp(nothing, -logit), rest[..., -1:]], axis=-1)
        return above_zero(xp, xp.exp(logs))

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log N(y) − Σ_j log z_j."""
        xp, (_, x, _) = backend.xp, self._y(backend, parameters, z)
        each = -0.5 * x * x - parameters["log_scale"] - 0.5 * math.log(2.0 * math.pi)
        return xp.sum(each, axis=-1) - xp.sum(xp.log(z), axis=-1)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return the gradient of the density's formula for free z; along the simplex it is that of log q."""
        xp = backend.xp
        left, x, inverse = self._y(backend, parameters, z)
        by_y = -x * inverse
        return self._pulled(xp, by_y, 1.0 / z, 1.0 / left) - 1.0 / z

    def _pulled(self, xp: Any, by_y: Array, inverse_z: Array, inverse_left: Array) -> Array:
        """Return by_y · ∂y/∂z: by_y_k/z_k for its own number, less by_y_k/t_{k+1} for every later one."""
        nothing = xp.zeros_like(by_y[..., :1])
        later = xp.cumulative_sum(by_y * inverse_left, axis=-1)
        own = xp.concat([by_y, nothing], axis=-1) * inverse_z
        return own - xp.concat([nothing, later], axis=-1)

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        xp = backend.xp
        left, x, inverse = self._y(backend, parameters, z)
        moved = self._left(xp, vector)
        by_y = -x * inverse
        change = -(vector[..., :-1] / z[..., :-1] - moved / left) * inverse * inverse
        bent = self._pulled(xp, by_y, -vector / (z * z), -moved / (left * left))
        return self._pulled(xp, change, 1.0 / z, 1.0 / left) + bent + vector / (z * z)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return x/σ and x² − 1, the Normal's score at y."""
        _, x, inverse = self._y(backend, parameters, z)
        return {"loc": x * inverse, "log_scale": x * x - 1.0}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z_k/∂y_k = z_k (1 − v_k) and ∂z_j/∂y_k = −z_j v_k for j > k."""
        xp = backend.xp
        away = xp.exp(parameters["log_scale"]) * noise["base"]
        y = parameters["loc"] + away
        logit = y - xp.log(self._pieces(backend, y))
        each = z * cotangent
        by_y = each[..., :-1] * sigmoid(xp, -logit) - sigmoid(xp, logit) * self._left(xp, each)
        return {"loc": by_y, "log_scale": by_y * away}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ log σ + E Σ_j log z_j, whose ∂y_k is 1 − v_k − (D − k) v_k; by the trapezoid rule over ε."""
        xp, loc = backend.xp, parameters["loc"]
        node, weight = (xp.astype(backend.asarray(part, None), loc.dtype) for part in RULE)
        away = xp.exp(parameters["log_scale"])[..., None] * node
        pieces = self._pieces(backend, loc)[..., None]
        logit = loc[..., None] + away - xp.log(pieces)
        slope = weight * (sigmoid(xp, -logit) - pieces * sigmoid(xp, logit))
        return {"loc": xp.sum(slope, axis=-1), "log_scale": 1.0 + xp.sum(slope * away, axis=-1)}

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return E v_kⁿ Π_{j<k} E (1 − v_j)ⁿ, by the trapezoid rule over each ε."""
        loc, scale = parameters["loc"][:, None], np.exp(parameters["log_scale"])[:, None]
        node, weight = (np.asarray(part) for part in RULE)
        logit = loc + scale * node - np.log(np.arange(len(loc), 0, -1.0))[:, None]
        taken, kept = sigmoid(np, logit), sigmoid(np, -logit)
        moments = np.stack([taken**order, kept**order]) @ weight  # [2, D − 1]
        slopes = np.stack([order * taken**order * kept, -order * kept**order * taken])
        before = np.concatenate([[1.0], np.cumprod(moments[1])])
        found = before * np.concatenate([moments[0], [1.0]])
        later = np.cumsum(found[::-1])[::-1][1:]
        gradient = {}
        for name, along in (("loc", np.ones_like(node)[None]), ("log_scale", scale * node)):
            own, others = (slopes * along) @ weight / moments
            gradient[name] = found[:-1] * own + later * others
        return found, gradient
