"""The von Mises distribution on [−π, π]: density ∝ exp(κ cos(z − loc)), coordinates independent.

The interval is fixed, also as loc moves: q(z) is not 0 at its ends, which are one point of the circle. So the CDF is
F(z) = ∫_{−π}^z q, and a sample is F⁻¹(u). Its derivatives in λ are exact for every f that is smooth on the interval,
whether or not f is periodic.

F has no closed form. It is tabulated at the ends of `CELLS` equal cells by Gauss-Legendre rules; within its cell, a
sample is found by Newton's method on the same rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: The largest concentration for which the cells resolve the density to rounding.
LARGEST = 50.0
CELLS, NODES, STEPS = 256, 6, 4
WIDTH = 2.0 * math.pi / CELLS


def _rule() -> tuple[list[float], list[float]]:
    """Return the nodes and weights of the Gauss-Legendre rule on (0, 1)."""
    node, weight = np.polynomial.legendre.leggauss(NODES)
    return (0.5 * (node + 1.0)).tolist(), (0.5 * weight).tolist()


RULE = _rule()


@dataclass(frozen=True)
class VonMises(MeanField):
    """The von Mises family. Parameters: `loc` [D], of period 2π, and `log_concentration` [D], log κ.

    Both are unconstrained. Sources: Mardia & Jupp 2000, section 3.5; implicit derivatives, Figurnov et al. 2018.
    """

    name: ClassVar[str] = "von-mises"
    summary: ClassVar[str] = "von Mises distribution on [−π, π] by its inverse CDF; parameters loc, log_concentration"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_concentration")
    moment_source: ClassVar[str] = "quadrature"

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        loc: Values = option(0.0, "mode of every coordinate", per="coordinate")
        concentration: Values = option(1.0, "κ of every coordinate", above=0.0, maximum=LARGEST, per="coordinate")

        @property
        def family(self) -> Family:
            return VonMises()

        def parameters(self, dimension: int) -> Blocks:
            concentration = self.each(dimension, math.log, "concentration")
            return {"loc": self.each(dimension, float, "loc"), "log_concentration": concentration}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def _table(self, backend: Backend, parameters: Blocks) -> tuple[Array, Array]:
        """Return ∫ exp(κ (cos(t − loc) − 1)) dt over every cell [D, CELLS], and the same with a factor cos(t − loc)."""
        left = -math.pi + WIDTH * _numbers(backend, CELLS, parameters["loc"])
        expanded = {name: values[..., None] for name, values in parameters.items()}
        return self._integrals(backend, expanded, left, WIDTH)

    def _integrals(self, backend: Backend, parameters: Blocks, left: Array, width: Any) -> tuple[Array, Array]:
        """Return the integrals from `left` over `width`, unnormalised as in `_table`."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        total, turned = 0.0 * left, 0.0 * left
        for node, weight in zip(*RULE, strict=True):
            cosine = xp.cos(left + node * width - parameters["loc"])
            term = weight * xp.exp(concentration * (cosine - 1.0))
            total, turned = total + term, turned + term * cosine
        return width * total, width * turned

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        xp, u = backend.xp, noise["base"]
        cells, _ = self._table(backend, parameters)
        reached = xp.cumulative_sum(cells, axis=-1)[..., :-1]  # [D, CELLS - 1]
        total = xp.sum(cells, axis=-1)  # in single precision several times as accurate as the last cumulative sum
        passed = xp.astype((u * total)[..., None] >= reached, u.dtype)
        before = xp.sum(passed * cells[..., :-1], axis=-1)
        own = xp.sum(xp.concat([xp.ones_like(passed[..., :1]), passed], axis=-1) * _changes(xp, cells), axis=-1)
        left = -math.pi + WIDTH * xp.sum(passed, axis=-1)
        wanted = u * total - before
        away = WIDTH * wanted / own
        concentration = xp.exp(parameters["log_concentration"])
        for _ in range(STEPS):
            area, _ = self._integrals(backend, parameters, left, away)
            height = xp.exp(concentration * (xp.cos(left + away - parameters["loc"]) - 1.0))
            away = away + (wanted - area) / height
            away = xp.where(away > 0.0, away, xp.zeros_like(away))
            away = xp.where(away < WIDTH, away, xp.full_like(away, WIDTH))
        return left + away

    def _normaliser(self, backend: Backend, parameters: Blocks) -> tuple[Array, Array]:
        """Return log of 2π I₀(κ), and E cos(z − loc) = I₁(κ)/I₀(κ)."""
        xp, special, concentration = backend.xp, backend.special, backend.xp.exp(parameters["log_concentration"])
        scaled = special.i0e(concentration)
        return concentration + xp.log(2.0 * math.pi * scaled), special.i1e(concentration) / scaled

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp = backend.xp
        log_total, _ = self._normaliser(backend, parameters)
        return xp.exp(parameters["log_concentration"]) * xp.cos(z - parameters["loc"]) - log_total

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return -backend.xp.exp(parameters["log_concentration"]) * backend.xp.sin(z - parameters["loc"])

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        xp = backend.xp
        return -xp.exp(parameters["log_concentration"]) * xp.cos(z - parameters["loc"]) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return κ sin(z − loc) and κ (cos(z − loc) − I₁(κ)/I₀(κ))."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        _, mean = self._normaliser(backend, parameters)
        away = z - parameters["loc"]
        return {"loc": concentration * xp.sin(away), "log_concentration": concentration * (xp.cos(away) - mean)}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives −(∂F/∂λ)/q, implicit.

        ∂F/∂loc = q(−π) − q(z) and ∂F/∂log κ = κ ∫_{−π}^z (cos(t − loc) − E cos) q dt.
        """
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        cells, turned = self._table(backend, parameters)
        mean = xp.sum(turned, axis=-1) / xp.sum(cells, axis=-1)
        number = xp.floor((z + math.pi) / WIDTH)
        number = xp.where(number < CELLS - 1.0, number, xp.full_like(number, CELLS - 1.0))
        passed = xp.astype(number[..., None] > _numbers(backend, CELLS, z), z.dtype)
        left = -math.pi + WIDTH * number
        area, turn = self._integrals(backend, parameters, left, z - left)
        area, turn = area + xp.sum(passed * cells, axis=-1), turn + xp.sum(passed * turned, axis=-1)
        density = xp.exp(concentration * (xp.cos(z - parameters["loc"]) - 1.0))
        at_the_end = xp.exp(concentration * (xp.cos(math.pi + parameters["loc"]) - 1.0))
        moved = concentration * (mean * area - turn) / density
        return {"loc": cotangent * (1.0 - at_the_end / density), "log_concentration": cotangent * moved}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ log 2π I₀(κ) − κ A, A = I₁/I₀, which is 0 and −κ² (1 − A² − A/κ)."""
        concentration = backend.xp.exp(parameters["log_concentration"])
        _, mean = self._normaliser(backend, parameters)
        slope = -concentration * (concentration * (1.0 - mean * mean) - mean)
        return {"loc": backend.xp.zeros_like(slope), "log_concentration": slope}

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        """Divide κ by the dispersion."""
        return {
            "loc": parameters["loc"],
            "log_concentration": parameters["log_concentration"] - math.log(dispersion),
        }

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = 0.95 * np.arctan2(np.sin(parameters["loc"]), np.cos(parameters["loc"]))
        width = np.minimum(1.0, np.exp(-0.5 * parameters["log_concentration"]))
        return SupportAndTails(0.0 * middle - math.pi, middle, 0.0 * middle + math.pi, width)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return E zⁿ and Cov(zⁿ, score), by Gauss-Legendre rules on the cells."""
        node, weight = (np.asarray(part) for part in RULE)
        z = (-math.pi + WIDTH * (np.arange(CELLS)[:, None] + node)).ravel()
        away = z - parameters["loc"][:, None]
        concentration = np.exp(parameters["log_concentration"])[:, None]
        weights = np.tile(weight, CELLS) * np.exp(concentration * (np.cos(away) - 1.0))
        weights /= weights.sum(axis=1, keepdims=True)
        moment = weights @ z**order
        apart = weights * (z**order - moment[:, None]) * concentration
        by_loc, by_concentration = (np.sum(apart * part, axis=1) for part in (np.sin(away), np.cos(away)))
        return moment, {"loc": by_loc, "log_concentration": by_concentration}


def _numbers(backend: Backend, count: int, like: Array) -> Array:
    """Return 0, 1, …, count − 1 with the dtype of `like`."""
    return backend.xp.astype(backend.asarray(range(count), None), like.dtype)


def _changes(xp: Any, cells: Array) -> Array:
    """Return the first cell, then the differences of each cell from the one before."""
    return xp.concat([cells[..., :1], cells[..., 1:] - cells[..., :-1]], axis=-1)
