"""The gamma distribution and two of its members: Erlang (integer shape) and chi-squared (fixed scale)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.gamma_path import (
    accepted_slope,
    gamma_noise,
    log_gamma_slope,
    log_standard_gamma,
    standard_gamma,
    standardised_slope,
    trigamma,
)
from gradmeter.estimators.families.gamma_weak import (
    COUPLED,
    WEAK,
    one_more_noise,
    shrink_noise,
    shrinkage,
    weak_gamma_noise,
)
from gradmeter.estimators.families.logs import Logs, above_zero, log_from_zero
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: The smallest shape α: log z is of order 1/α, and smaller values are not tested.
SMALLEST = 1e-3
REJECTION = "its sample path is a rejection, which a mirror image would accept elsewhere"


@dataclass(frozen=True)
class Gamma(MeanField):
    """The gamma family, with density rateᵅ zᵅ⁻¹ exp(−rate z)/Γ(α) on z > 0.

    Parameters: `log_concentration` [D] (the shape is α = exp(log_concentration)) and `log_rate` [D], both
    unconstrained. The pathwise derivative with respect to α is implicit; that with respect to log rate is −z.
    """

    name: ClassVar[str] = "gamma"
    summary: ClassVar[str] = "gamma distribution by rejection; parameters log_concentration, log_rate"
    blocks: ClassVar[tuple[str, ...]] = ("log_concentration", "log_rate")
    unsupported: ClassVar[dict[str, str]] = {
        "mirrored": REJECTION,
        "independent_parts": COUPLED,
    }

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        concentration: Values = option(1.0, "shape α of every coordinate", minimum=SMALLEST, per="coordinate")
        rate: Values = option(1.0, "rate of every coordinate, one over its scale", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Gamma()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return gamma_noise((*sample_shape, dimension))

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        return {"": np.exp(parameters["log_concentration"])}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = g/rate."""
        xp = backend.xp
        g = standard_gamma(backend, xp.exp(parameters["log_concentration"]), noise)
        return above_zero(xp, g * xp.exp(-parameters["log_rate"]))

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        concentration = backend.xp.exp(parameters["log_concentration"])
        return (Logs(log_standard_gamma(backend, concentration, noise) - parameters["log_rate"]),)

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp, log_rate = backend.xp, parameters["log_rate"]
        concentration = xp.exp(parameters["log_concentration"])
        log_z = logs.low if logs else log_from_zero(xp, z, concentration)
        constant = concentration * log_rate - backend.special.gammaln(concentration)
        return constant + (concentration - 1.0) * log_z - xp.exp(log_rate) * z

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp = backend.xp
        return (xp.exp(parameters["log_concentration"]) - 1.0) / z - xp.exp(parameters["log_rate"])

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return (1.0 - backend.xp.exp(parameters["log_concentration"])) / (z * z) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Blocks:
        """Return α (log(rate z) − ψ(α)) and α − rate z."""
        xp, log_rate = backend.xp, parameters["log_rate"]
        concentration = xp.exp(parameters["log_concentration"])
        log_z = logs.low if logs else log_from_zero(xp, z, concentration)
        away = log_z + (log_rate - backend.special.digamma(concentration))
        return {"log_concentration": concentration * away, "log_rate": concentration - xp.exp(log_rate) * z}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂log_concentration = z α ∂ log g/∂α (implicit) and ∂z/∂log_rate = −z."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        relative = log_gamma_slope(backend, concentration, xp.log(z) + parameters["log_rate"])
        along = cotangent * z
        return {"log_concentration": along * concentration * relative, "log_rate": -along}

    def accepted(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array
    ) -> tuple[Blocks, Blocks]:
        """Return the derivatives for accepted proposals; the rate only scales the accepted sample."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        moved, score = accepted_slope(backend, concentration, noise, z)
        return (
            {"log_concentration": concentration * moved, "log_rate": -z},
            {"log_concentration": concentration * score, "log_rate": xp.zeros_like(z)},
        )

    def standardised(
        self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None
    ) -> tuple[Blocks, Blocks]:
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        log_z = logs.low if logs else log_from_zero(xp, z, concentration)
        slope, score = standardised_slope(backend, concentration, log_z + parameters["log_rate"])
        return (
            {"log_concentration": concentration * z * slope, "log_rate": -z},
            {"log_concentration": concentration * score, "log_rate": xp.zeros_like(z)},
        )

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ α − log rate + log Γ(α) + (1 − α) ψ(α), which is α (1 + (1 − α) ψ′(α)) and −1."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        curved = trigamma(backend, concentration)
        slope = concentration * (1.0 + (1.0 - concentration) * curved)
        return {"log_concentration": slope, "log_rate": -xp.ones_like(slope)}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        shape = (*sample_shape, dimension)
        number = weak_gamma_noise(shape)
        return {"log_concentration": number | shrink_noise(shape), "log_rate": number | one_more_noise(shape)}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return the weak derivatives by block.

        log_concentration: g and s g, with a random weight (`gamma_weak.py`). log_rate: c = α, with g and g + e, where e
        is an additional exponential (Mohamed et al. 2020, table 1; here for log rate).
        """
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        mean = xp.exp(-parameters["log_rate"])
        log_g = log_standard_gamma(backend, concentration, noise, WEAK)
        weight, log_s = shrinkage(backend, concentration, noise)
        g, shrunk = xp.exp(log_g), xp.exp(log_g + log_s)
        z = above_zero(xp, mean * g)
        return {
            "log_concentration": (weight, z, above_zero(xp, mean * shrunk)),
            "log_rate": (concentration, z, mean * (g + noise["one_more"])),
        }

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        concentration, rate = np.exp(parameters["log_concentration"]), np.exp(parameters["log_rate"])
        middle = concentration / rate
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=Tail(1.0, rate))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return Γ(α + n)/Γ(α)/rateⁿ, whose ∂log α is α Σ_k 1/(α + k) times itself."""
        concentration = np.exp(parameters["log_concentration"])
        rising, slope = rising_factorial(concentration, order)
        moment = rising * np.exp(-order * parameters["log_rate"])
        return moment, {"log_concentration": concentration * slope * moment, "log_rate": -order * moment}


def rising_factorial(start: Array, order: int) -> tuple[Array, Array]:
    """Return α (α + 1) … (α + n − 1), and the derivative of its logarithm."""
    terms = np.arange(order) + np.asarray(start)[..., None]
    return np.prod(terms, axis=-1), np.sum(1.0 / terms, axis=-1)


@dataclass(frozen=True)
class Erlang(MeanField):
    """The time of the k-th event at a given rate: gamma with integer shape k = `events`, which is a static field.

    Parameter: `log_rate` [D], unconstrained. A sample is a sum of k exponentials, so its path is differentiable.
    """

    name: ClassVar[str] = "erlang"
    summary: ClassVar[str] = "Erlang distribution, a sum of exponentials; parameter log_rate"
    blocks: ClassVar[tuple[str, ...]] = ("log_rate",)

    events: int = 2

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        events: int = option(2, "number of exponentials that are added up", minimum=1, maximum=1000)
        rate: Values = option(1.0, "rate of every one of them", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Erlang(self.events)

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension, self.events))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = Σ_j e_j/rate."""
        return backend.xp.sum(noise["base"], axis=-1) * backend.xp.exp(-parameters["log_rate"])

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, log_rate = backend.xp, parameters["log_rate"]
        constant = self.events * log_rate - math.lgamma(self.events)
        return constant + (self.events - 1.0) * xp.log(z) - xp.exp(log_rate) * z

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return (self.events - 1.0) / z - backend.xp.exp(parameters["log_rate"])

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return (1.0 - self.events) / (z * z) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return k − rate z."""
        return {"log_rate": self.events - backend.xp.exp(parameters["log_rate"]) * z}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivative from ∂z/∂log_rate = −z."""
        return {"log_rate": -cotangent * z}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ −log_rate + const, which is −1."""
        return {"log_rate": -backend.xp.ones_like(parameters["log_rate"])}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        shape = (*sample_shape, dimension)
        sums = {"events": Noise("exponential", (*shape, self.events)), "one_more": Noise("exponential", shape)}
        if not coupling:
            sums["positive"] = Noise("exponential", (*shape, self.events))
        return {"log_rate": sums}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return c = k, with k and k + 1 events; coupled, the k events are the same.

        Source: Mohamed et al. 2020, table 1, gamma; here for log rate.
        """
        xp = backend.xp
        mean, events = xp.exp(-parameters["log_rate"]), xp.sum(noise["events"], axis=-1)
        positive = events if coupling else xp.sum(noise["positive"], axis=-1)
        constant = self.events * xp.ones_like(mean)
        return {"log_rate": (constant, mean * positive, mean * (events + noise["one_more"]))}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        rate = np.exp(parameters["log_rate"])
        middle = self.events / rate
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=Tail(1.0, rate))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return (k + n − 1)!/(k − 1)!/rateⁿ."""
        rising = math.prod(range(self.events, self.events + order))
        moment = float(rising) * np.exp(-order * parameters["log_rate"])
        return moment, {"log_rate": -order * moment}


@dataclass(frozen=True)
class ChiSquared(MeanField):
    """The sum of ν squared standard normals, for any ν > 0: gamma with shape ν/2 and rate ½.

    Parameter: `log_degrees` [D], unconstrained; ν = exp(log_degrees).
    """

    name: ClassVar[str] = "chi-squared"
    summary: ClassVar[str] = "chi-squared distribution, twice a gamma number; parameter log_degrees"
    blocks: ClassVar[tuple[str, ...]] = ("log_degrees",)
    unsupported: ClassVar[dict[str, str]] = {
        "mirrored": REJECTION,
        "independent_parts": COUPLED,
    }

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        degrees: Values = option(
            3.0, "degrees of freedom of every coordinate", minimum=2.0 * SMALLEST, per="coordinate"
        )

        @property
        def family(self) -> Family:
            return ChiSquared()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return gamma_noise((*sample_shape, dimension))

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        return {"": 0.5 * np.exp(parameters["log_degrees"])}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = 2 g."""
        return above_zero(backend.xp, 2.0 * standard_gamma(backend, self._concentration(backend, parameters), noise))

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        return (Logs(log_standard_gamma(backend, self._concentration(backend, parameters), noise) + math.log(2.0)),)

    def _concentration(self, backend: Backend, parameters: Blocks) -> Array:
        return 0.5 * backend.xp.exp(parameters["log_degrees"])

    def _log_g(self, backend: Backend, half: Array, z: Array, logs: Logs | None) -> Array:
        return (logs.low if logs else log_from_zero(backend.xp, z, half)) - math.log(2.0)

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        half = self._concentration(backend, parameters)
        constant = backend.special.gammaln(half) + math.log(2.0)
        return (half - 1.0) * self._log_g(backend, half, z, logs) - 0.5 * z - constant

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        return (self._concentration(backend, parameters) - 1.0) / z - 0.5

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return (1.0 - self._concentration(backend, parameters)) / (z * z) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Blocks:
        """Return ν/2 (log(z/2) − ψ(ν/2))."""
        half = self._concentration(backend, parameters)
        return {"log_degrees": half * (self._log_g(backend, half, z, logs) - backend.special.digamma(half))}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivative from ∂z/∂log ν = z ν/2 ∂ log g/∂α, implicit."""
        half = self._concentration(backend, parameters)
        return {"log_degrees": cotangent * z * half * log_gamma_slope(backend, half, backend.xp.log(0.5 * z))}

    def accepted(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array
    ) -> tuple[Blocks, Blocks]:
        half = self._concentration(backend, parameters)
        moved, score = accepted_slope(backend, half, noise, z)
        return {"log_degrees": half * moved}, {"log_degrees": half * score}

    def standardised(
        self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None
    ) -> tuple[Blocks, Blocks]:
        half = self._concentration(backend, parameters)
        slope, score = standardised_slope(backend, half, self._log_g(backend, half, z, logs))
        return {"log_degrees": half * z * slope}, {"log_degrees": half * score}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ α + log Γ(α) + (1 − α) ψ(α) + log 2, α = ν/2, which is α (1 + (1 − α) ψ′(α))."""
        half = self._concentration(backend, parameters)
        return {"log_degrees": half * (1.0 + (1.0 - half) * trigamma(backend, half))}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        shape = (*sample_shape, dimension)
        return {"log_degrees": weak_gamma_noise(shape) | shrink_noise(shape)}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return the weak derivative as for gamma's log_concentration, since ∂log ν is ∂log α."""
        half = self._concentration(backend, parameters)
        xp, log_g = backend.xp, log_standard_gamma(backend, half, noise, WEAK)
        weight, log_s = shrinkage(backend, half, noise)
        z, shrunk = (above_zero(xp, 2.0 * xp.exp(each)) for each in (log_g, log_g + log_s))
        return {"log_degrees": (weight, z, shrunk)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = np.exp(parameters["log_degrees"])
        return SupportAndTails(
            np.zeros_like(middle), middle, middle + np.inf, middle, above=Tail(1.0, 0.5 + 0.0 * middle)
        )

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return ν (ν + 2) … (ν + 2n − 2)."""
        half = 0.5 * np.exp(parameters["log_degrees"])
        rising, slope = rising_factorial(half, order)
        moment = 2.0**order * rising
        return moment, {"log_degrees": half * slope * moment}
