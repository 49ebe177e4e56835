"""The Dirichlet distribution: gamma variables divided by their sum, with the gammas' implicit path derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, OptionPerBlock
from gradmeter.estimators.families.gamma import REJECTION, SMALLEST, rising_factorial
from gradmeter.estimators.families.gamma_path import gamma_noise, log_gamma_slope, log_standard_gamma, trigamma
from gradmeter.estimators.families.gamma_ratios import Beta
from gradmeter.estimators.families.logs import Logs, above_zero, log_from_zero, log_softmax
from gradmeter.estimators.families.support_and_tails import Marginals
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Dirichlet(Family):
    """The Dirichlet family, with density Γ(Σα) Π z_i^(α_i − 1)/Γ(α_i) on the simplex z > 0, Σ z = 1.

    The density is a function of the first D − 1 coordinates. Parameter: `log_concentration` [D], unconstrained; α =
    exp(log_concentration). D is at least 2.
    """

    name: ClassVar[str] = "dirichlet"
    summary: ClassVar[str] = "Dirichlet distribution, D gamma numbers over their sum; parameter log_concentration"
    blocks: ClassVar[tuple[str, ...]] = ("log_concentration",)
    unsupported: ClassVar[dict[str, str]] = {
        "mirrored": REJECTION,
        "weak_derivatives": "its coordinates sum to 1, so none moves alone",
        "log_density_replaced": "its coordinates sum to 1",
    }

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        concentration: Values = option(1.0, "α of every coordinate", minimum=SMALLEST, per="coordinate")

        @property
        def family(self) -> Family:
            return Dirichlet()

        def check(self, dimension: int) -> None:
            if dimension < 2:
                raise UsageError("family dirichlet needs at least 2 coordinates, since they sum to 1")
            super().check(dimension)

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"log_concentration": (dimension,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return gamma_noise((*sample_shape, dimension))

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        return {"": np.exp(parameters["log_concentration"])}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        (logs,) = self.logs(backend, parameters, noise)
        return above_zero(backend.xp, backend.xp.exp(logs.low))

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        return (Logs(log_softmax(backend.xp, *self.log_gammas(backend, parameters, noise))),)

    def log_gammas(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array]:
        """Return the logarithms of the gamma variables that a sample is made of, [..., D]."""
        return (log_standard_gamma(backend, backend.xp.exp(parameters["log_concentration"]), noise),)

    def log_density(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp, gammaln = backend.xp, backend.special.gammaln
        concentration = xp.exp(parameters["log_concentration"])
        log_z = logs.low if logs else log_from_zero(xp, z, concentration)
        constant = gammaln(xp.sum(concentration)) - xp.sum(gammaln(concentration))
        return constant + xp.sum((concentration - 1.0) * log_z, axis=-1)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        """Return the gradient of the density's formula for free z; along the simplex it is that of log q."""
        return (backend.xp.exp(parameters["log_concentration"]) - 1.0) / z

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return (1.0 - backend.xp.exp(parameters["log_concentration"])) / (z * z) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Blocks:
        """Return α (log z − ψ(α) + ψ(Σα))."""
        xp, digamma = backend.xp, backend.special.digamma
        concentration = xp.exp(parameters["log_concentration"])
        log_z = logs.low if logs else log_from_zero(xp, z, concentration)
        constant = digamma(xp.sum(concentration)) - digamma(concentration)
        return {"log_concentration": concentration * (log_z + constant)}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        return self.pathwise_of(backend, parameters, self.log_gammas(backend, parameters, noise), cotangent)

    def pathwise_of(self, backend: Backend, parameters: Blocks, log_gammas: tuple[Array], cotangent: Array) -> Blocks:
        """Return z_i (cotangent_i − cotangent · z) ∂ log g_i/∂α_i, chained to log α_i."""
        xp, (log_g,) = backend.xp, log_gammas
        concentration = xp.exp(parameters["log_concentration"])
        z = xp.exp(log_softmax(xp, log_g))
        along = z * (cotangent - xp.sum(cotangent * z, axis=-1, keepdims=True))
        return {"log_concentration": along * concentration * log_gamma_slope(backend, concentration, log_g)}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return α ((Σα − D) ψ′(Σα) − (α − 1) ψ′(α))."""
        concentration = backend.xp.exp(parameters["log_concentration"])
        total = backend.xp.sum(concentration)
        both = (total - concentration.shape[0]) * trigamma(backend, total)
        return {"log_concentration": concentration * (both - (concentration - 1.0) * trigamma(backend, concentration))}

    def marginals(self, parameters: Blocks) -> Marginals:
        """Return Beta(α_i, Σα − α_i)."""
        concentration = np.exp(parameters["log_concentration"])
        rest = np.sum(concentration) - concentration

        def collect(values: Array, gradient: Blocks) -> tuple[float, Blocks]:
            by_rest = gradient["log_beta"] / rest
            moved = gradient["log_alpha"] + concentration * (np.sum(by_rest) - by_rest)
            return float(values.sum()), {"log_concentration": moved}

        return Marginals(Beta(), {"log_alpha": parameters["log_concentration"], "log_beta": np.log(rest)}, collect)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return α_i (α_i + 1) …/(Σα (Σα + 1) …), n factors each; every moment depends on every α_j through Σα."""
        concentration = np.exp(parameters["log_concentration"])
        above, rise = rising_factorial(concentration, order)
        below, fall = rising_factorial(np.sum(concentration), order)
        moment = above / below
        return moment, {"log_concentration": concentration * (rise * moment - fall * np.sum(moment))}
