"""The inverse-gamma distribution: one over a gamma number, coordinates independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.gamma import REJECTION
from gradmeter.estimators.families.gamma_path import (
    accepted_slope,
    gamma_noise,
    log_gamma_slope,
    log_standard_gamma,
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
from gradmeter.estimators.families.support_and_tails import HEAVY, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: The smallest shape α: smaller ones make samples that floating-point numbers cannot hold.
SMALLEST = 0.5


@dataclass(frozen=True)
class InverseGamma(MeanField):
    """The inverse-gamma family, with density scaleᵅ z^(−α−1) exp(−scale/z)/Γ(α) on z > 0.

    Parameters: `log_concentration` [D] (the shape is α = exp(log_concentration)) and `log_scale` [D], both
    unconstrained. z = scale/g with a standard gamma number g of shape α. The pathwise derivative with respect to α is
    implicit; that with respect to log scale is z. E zⁿ exists for n < α.
    """

    name: ClassVar[str] = "inverse-gamma"
    summary: ClassVar[str] = "one over a gamma number, by rejection; parameters log_concentration, log_scale"
    blocks: ClassVar[tuple[str, ...]] = ("log_concentration", "log_scale")
    unsupported: ClassVar[dict[str, str]] = {
        "mirrored": REJECTION,
        "independent_parts": COUPLED,
    }

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        concentration: Values = option(8.0, "shape α of every coordinate", minimum=SMALLEST, per="coordinate")
        scale: Values = option(1.0, "scale of every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return InverseGamma()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return gamma_noise((*sample_shape, dimension))

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        return {"": np.exp(parameters["log_concentration"])}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        concentration = backend.xp.exp(parameters["log_concentration"])
        return backend.xp.exp(parameters["log_scale"] - log_standard_gamma(backend, concentration, noise))

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        log_g = parameters["log_scale"] - xp.log(z)
        return concentration * log_g - xp.exp(log_g) - xp.log(z) - backend.special.gammaln(concentration)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, inverse = backend.xp, 1.0 / z
        g = xp.exp(parameters["log_scale"]) * inverse
        return (g - xp.exp(parameters["log_concentration"]) - 1.0) * inverse

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        xp, inverse = backend.xp, 1.0 / z
        g = xp.exp(parameters["log_scale"]) * inverse
        return (xp.exp(parameters["log_concentration"]) + 1.0 - 2.0 * g) * inverse * inverse * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return α (log g − ψ(α)) and α − g, with g = scale/z."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        log_g = parameters["log_scale"] - xp.log(z)
        away = log_g - backend.special.digamma(concentration)
        return {"log_concentration": concentration * away, "log_scale": concentration - xp.exp(log_g)}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂log_concentration = −z α ∂ log g/∂α (implicit) and ∂z/∂log_scale = z."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        relative = log_gamma_slope(backend, concentration, parameters["log_scale"] - xp.log(z))
        along = cotangent * z
        return {"log_concentration": -along * concentration * relative, "log_scale": along}

    def accepted(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array
    ) -> tuple[Blocks, Blocks]:
        """Return the derivatives for accepted proposals; the scale only scales the accepted sample."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        moved, score = accepted_slope(backend, concentration, noise, -z)
        return (
            {"log_concentration": concentration * moved, "log_scale": z},
            {"log_concentration": concentration * score, "log_scale": xp.zeros_like(z)},
        )

    def standardised(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Blocks, Blocks]:
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        slope, score = standardised_slope(backend, concentration, parameters["log_scale"] - xp.log(z))
        return (
            {"log_concentration": -concentration * z * slope, "log_scale": z},
            {"log_concentration": concentration * score, "log_scale": xp.zeros_like(z)},
        )

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ α + log scale + log Γ(α) − (1 + α) ψ(α), which is α (1 − (1 + α) ψ′(α)) and 1."""
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        slope = concentration * (1.0 - (1.0 + concentration) * trigamma(backend, concentration))
        return {"log_concentration": slope, "log_scale": xp.ones_like(slope)}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        shape = (*sample_shape, dimension)
        number = weak_gamma_noise(shape)
        return {"log_concentration": number | shrink_noise(shape), "log_scale": number | one_more_noise(shape)}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return those of the gamma number g, mapped by z = scale/g.

        log_concentration: g and s g, with a random weight (`gamma_weak.py`). log_scale: c = α, with g and g + e, where
        e is an additional exponential.
        """
        xp, concentration = backend.xp, backend.xp.exp(parameters["log_concentration"])
        log_scale = parameters["log_scale"]
        log_g = log_standard_gamma(backend, concentration, noise, WEAK)
        weight, log_s = shrinkage(backend, concentration, noise)
        z = xp.exp(log_scale - log_g)
        return {
            "log_concentration": (weight, z, xp.exp(log_scale - log_g - log_s)),
            "log_scale": (concentration, z, xp.exp(log_scale) / (xp.exp(log_g) + noise["one_more"])),
        }

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = np.exp(parameters["log_scale"] - parameters["log_concentration"])
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=HEAVY)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return scaleⁿ/((α − 1) … (α − n)), whose ∂log α is −α Σ_k 1/(α − k) times itself."""
        concentration = np.exp(parameters["log_concentration"])
        if np.any(concentration <= order * (1.0 + 1e-12)) and order > 0:  # α is rounded by exp(log α)
            least = float(concentration.min())
            raise NotApplicable(
                f"family inverse-gamma with concentration={least:g} has E z^n for n below {least:g} only, not {order}"
            )
        terms = concentration[:, None] - np.arange(1, order + 1)
        moment = np.exp(order * parameters["log_scale"]) / np.prod(terms, axis=-1)
        slope = -concentration * np.sum(1.0 / terms, axis=-1)
        return moment, {"log_concentration": slope * moment, "log_scale": order * moment}
