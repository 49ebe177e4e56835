"""The Kumaraswamy distribution: CDF 1 − (1 − z^a)^b on (0, 1), coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.gamma_path import trigamma
from gradmeter.estimators.families.logs import above_zero, below_one
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: The smallest a and b: the probability near 1 that floating-point numbers cannot tell from 1 grows as b falls.
SMALLEST = 0.5
#: Nodes of the Gauss-Legendre rule for moments.
NODES = 48


@dataclass(frozen=True)
class Kumaraswamy(MeanField):
    """The Kumaraswamy family, which is near the beta family and has an inverse CDF.

    Parameters: `log_a` [D] and `log_b` [D], both unconstrained. With exponential e, 1 − z^a = exp(−e/b).

    Source: Kumaraswamy 1980; Nalisnick & Smyth 2017 for the use.
    """

    name: ClassVar[str] = "kumaraswamy"
    summary: ClassVar[str] = "Kumaraswamy distribution on (0, 1) by its inverse CDF; parameters log_a, log_b"
    blocks: ClassVar[tuple[str, ...]] = ("log_a", "log_b")

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        a: Values = option(2.0, "a of every coordinate", minimum=SMALLEST, per="coordinate")
        b: Values = option(2.0, "b of every coordinate", minimum=SMALLEST, per="coordinate")

        @property
        def family(self) -> Family:
            return Kumaraswamy()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = (1 − exp(−e/b))^(1/a)."""
        xp = backend.xp
        power = -xp.expm1(-noise["base"] * xp.exp(-parameters["log_b"]))
        return below_one(xp, above_zero(xp, power ** xp.exp(-parameters["log_a"])))

    def _powers(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Return a, b, log z, z^a and 1 − z^a."""
        xp, a = backend.xp, backend.xp.exp(parameters["log_a"])
        log_z = xp.log(z)
        return a, xp.exp(parameters["log_b"]), log_z, xp.exp(a * log_z), -xp.expm1(a * log_z)

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        a, b, log_z, _, rest = self._powers(backend, parameters, z)
        constant = parameters["log_a"] + parameters["log_b"]
        return constant + (a - 1.0) * log_z + (b - 1.0) * backend.xp.log(rest)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        a, b, _, power, rest = self._powers(backend, parameters, z)
        return (a - 1.0 - (b - 1.0) * a * power / rest) / z

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        a, b, _, power, rest = self._powers(backend, parameters, z)
        ratio = power / rest
        curved = a * ratio * ((a - 1.0) + a * ratio)  # z² d²/dz² of −log(1 − z^a)
        return -(a - 1.0 + (b - 1.0) * curved) / (z * z) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return 1 + a log z (1 − (b − 1) z^a/(1 − z^a)) and 1 + b log(1 − z^a)."""
        a, b, log_z, power, rest = self._powers(backend, parameters, z)
        by_a = 1.0 + a * log_z * (1.0 - (b - 1.0) * power / rest)
        return {"log_a": by_a, "log_b": 1.0 + b * backend.xp.log(rest)}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂log a = −z log z and ∂z/∂log b = −(z/a) s/(exp(s) − 1), s = e/b."""
        xp, along = backend.xp, cotangent * z
        s = noise["base"] * xp.exp(-parameters["log_b"])
        by_b = -along * xp.exp(-parameters["log_a"]) * s * xp.exp(-s) / -xp.expm1(-s)
        return {"log_a": -along * xp.log(z), "log_b": by_b}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ 1 − 1/b + (1 − 1/a)(ψ(b + 1) + γ) − log ab."""
        xp = backend.xp
        inverse, b = xp.exp(-parameters["log_a"]), xp.exp(parameters["log_b"])
        harmonic = backend.special.digamma(b + 1.0) + float(np.euler_gamma)
        by_b = 1.0 / b + (1.0 - inverse) * b * trigamma(backend, b + 1.0) - 1.0
        return {"log_a": inverse * harmonic - 1.0, "log_b": by_b}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        a, b = np.exp(parameters["log_a"]), np.exp(parameters["log_b"])
        middle = (-np.expm1(-math.log(2.0) / b)) ** (1.0 / a)
        return SupportAndTails(np.zeros_like(a), middle, np.ones_like(a), 0.5 * middle * (1.0 - middle))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return b B(1 + t, b) = Γ(1 + t) Γ(1 + b)/Γ(1 + t + b) with t = n/a.

        log Γ(1 + t + b) − log Γ(1 + b) and its derivative in b are integrals of ψ and ψ′ from 1 + b to 1 + b + t:
        differences of large values would lose their digits.
        """
        from scipy.special import digamma, gammaln, polygamma  # slow to import

        t, b = order * np.exp(-parameters["log_a"]), np.exp(parameters["log_b"])
        node, weight = np.polynomial.legendre.leggauss(NODES)
        at, dt = 1.0 + b[:, None] + 0.5 * t[:, None] * (node + 1.0), 0.5 * t[:, None] * weight
        moment = np.exp(gammaln(1.0 + t) - np.sum(dt * digamma(at), axis=1))
        by_a = -t * (digamma(1.0 + t) - digamma(1.0 + t + b))
        by_b = -b * np.sum(dt * polygamma(1, at), axis=1)
        return moment, {"log_a": by_a * moment, "log_b": by_b * moment}
