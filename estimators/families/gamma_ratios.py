"""Ratios of two gamma variables: beta and F, with the gammas' implicit path derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.gamma import REJECTION, SMALLEST, rising_factorial
from gradmeter.estimators.families.gamma_path import (
    digamma_step,
    gamma_noise,
    log_gamma_slope,
    log_standard_gamma,
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
from gradmeter.estimators.families.logs import Logs, above_zero, from_logit, log_from_one, log_from_zero
from gradmeter.estimators.families.support_and_tails import HEAVY, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class _OfTwo(MeanField):
    """The base of families made from two gamma variables per coordinate."""

    unsupported: ClassVar[dict[str, str]] = {
        "mirrored": REJECTION,
        "independent_parts": COUPLED,
    }

    def _exponentials(self, backend: Backend, parameters: Blocks) -> tuple[Array, ...]:
        """Return exp of the blocks in the order of `blocks`, which a traced dict may not keep."""
        return tuple(backend.xp.exp(parameters[name]) for name in self.blocks)


@dataclass(frozen=True)
class Beta(_OfTwo):
    """The beta family, with density z^(α − 1) (1 − z)^(β − 1)/B(α, β) on (0, 1).

    Parameters: `log_alpha` [D] and `log_beta` [D], both unconstrained.
    """

    name: ClassVar[str] = "beta"
    summary: ClassVar[str] = "beta distribution, a/(a + b) of two gamma numbers; parameters log_alpha, log_beta"
    blocks: ClassVar[tuple[str, ...]] = ("log_alpha", "log_beta")

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        alpha: Values = option(1.0, "α of every coordinate: the power of z, plus 1", minimum=SMALLEST, per="coordinate")
        beta: Values = option(
            1.0, "β of every coordinate: the power of 1 − z, plus 1", minimum=SMALLEST, per="coordinate"
        )

        @property
        def family(self) -> Family:
            return Beta()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        shape = (*sample_shape, dimension)
        return gamma_noise(shape, "alpha_") | gamma_noise(shape, "beta_")

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        return {f"{name}_": np.exp(parameters[f"log_{name}"]) for name in ("alpha", "beta")}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return self._made(backend, parameters, noise)[0]

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        return (self._made(backend, parameters, noise)[1],)

    def _made(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array, Logs]:
        a, b = self.log_gammas(backend, parameters, noise)
        return from_logit(backend.xp, a - b)

    def log_gammas(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], prefix: str = ""
    ) -> tuple[Array, Array]:
        """Return the logarithms of the two gamma variables that a sample is made of."""
        alpha, beta = self._exponentials(backend, parameters)
        above = log_standard_gamma(backend, alpha, noise, f"{prefix}alpha_")
        return above, log_standard_gamma(backend, beta, noise, f"{prefix}beta_")

    def _ends(self, xp: Any, alpha: Array, beta: Array, z: Array, logs: Logs | None) -> Logs:
        return logs or Logs(log_from_zero(xp, z, alpha), log_from_one(xp, z, beta))

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        gammaln = backend.special.gammaln
        alpha, beta = self._exponentials(backend, parameters)
        low, high = self._ends(backend.xp, alpha, beta, z, logs)
        constant = gammaln(alpha + beta) - gammaln(alpha) - gammaln(beta)
        return constant + (alpha - 1.0) * low + (beta - 1.0) * high

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp = backend.xp
        alpha, beta = self._exponentials(backend, parameters)
        rest = above_zero(xp, xp.exp(logs.high)) if logs else 1.0 - z
        return (alpha - 1.0) / z - (beta - 1.0) / rest

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        alpha, beta = self._exponentials(backend, parameters)
        return ((1.0 - alpha) / (z * z) + (1.0 - beta) / ((1.0 - z) * (1.0 - z))) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Blocks:
        """Return α (log z − ψ(α) + ψ(α + β)) and β (log(1 − z) − ψ(β) + ψ(α + β))."""
        digamma = backend.special.digamma
        alpha, beta = self._exponentials(backend, parameters)
        low, high = self._ends(backend.xp, alpha, beta, z, logs)
        both = digamma(alpha + beta)
        return {
            "log_alpha": alpha * (low + (both - digamma(alpha))),
            "log_beta": beta * (high + (both - digamma(beta))),
        }

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        return self.pathwise_of(backend, parameters, self.log_gammas(backend, parameters, noise), cotangent)

    def pathwise_of(
        self, backend: Backend, parameters: Blocks, log_gammas: tuple[Array, Array], cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂α = z (1 − z) ∂ log a/∂α and ∂z/∂β = −z (1 − z) ∂ log b/∂β."""
        xp, (a, b) = backend.xp, log_gammas
        alpha, beta = self._exponentials(backend, parameters)
        small = xp.exp(-xp.abs(a - b))
        along = cotangent * small / ((1.0 + small) * (1.0 + small))
        return {
            "log_alpha": along * alpha * log_gamma_slope(backend, alpha, a),
            "log_beta": -along * beta * log_gamma_slope(backend, beta, b),
        }

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return α ((α + β − 2) ψ′(α + β) − (α − 1) ψ′(α)), and the expression with α and β exchanged."""
        alpha, beta = self._exponentials(backend, parameters)
        both = (alpha + beta - 2.0) * trigamma(backend, alpha + beta)
        return {
            "log_alpha": alpha * (both - (alpha - 1.0) * trigamma(backend, alpha)),
            "log_beta": beta * (both - (beta - 1.0) * trigamma(backend, beta)),
        }

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        shape = (*sample_shape, dimension)
        numbers = weak_gamma_noise(shape, "alpha_") | weak_gamma_noise(shape, "beta_")
        return {f"log_{name}": numbers | shrink_noise(shape, f"{name}_") for name in ("alpha", "beta")}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return the weak derivatives: a and s a, or b and s b, the other variable being fixed (`gamma_weak.py`)."""
        alpha, beta = self._exponentials(backend, parameters)
        a, b = self.log_gammas(backend, parameters, noise, WEAK)
        weight_a, log_s = shrinkage(backend, alpha, noise, "alpha_")
        weight_b, log_t = shrinkage(backend, beta, noise, "beta_")
        z, less, more = (from_logit(backend.xp, a - b + moved)[0] for moved in (0.0, log_s, -log_t))
        return {"log_alpha": (weight_a, z, less), "log_beta": (weight_b, z, more)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        alpha, beta = np.exp(parameters["log_alpha"]), np.exp(parameters["log_beta"])
        zero = np.zeros_like(alpha)
        mirror = {"log_alpha": ("log_beta", 1.0), "log_beta": ("log_alpha", 1.0)}
        return SupportAndTails(zero, alpha / (alpha + beta), zero + 1.0, zero + 1.0, mirror=mirror)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return α (α + 1) …/((α + β)(α + β + 1) …), n factors each."""
        alpha, beta = np.exp(parameters["log_alpha"]), np.exp(parameters["log_beta"])
        above, rise = rising_factorial(alpha, order)
        below, fall = rising_factorial(alpha + beta, order)
        moment = above / below
        return moment, {"log_alpha": alpha * (rise - fall) * moment, "log_beta": -beta * fall * moment}


@dataclass(frozen=True)
class F(_OfTwo):
    """The F family: the ratio of two chi-squared variables, each divided by its degrees of freedom m and n.

    Parameters: `log_numerator` [D] and `log_denominator` [D], the logarithms of m and n. Moments of order below n/2
    exist.
    """

    name: ClassVar[str] = "f"
    summary: ClassVar[str] = "F distribution, a ratio of gamma numbers; parameters log_numerator, log_denominator"
    blocks: ClassVar[tuple[str, ...]] = ("log_numerator", "log_denominator")

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        numerator: Values = option(
            5.0, "degrees of freedom of the numerator", minimum=2.0 * SMALLEST, maximum=1e12, per="coordinate"
        )
        denominator: Values = option(
            30.0, "degrees of freedom of the denominator", minimum=2.0 * SMALLEST, maximum=1e12, per="coordinate"
        )

        @property
        def family(self) -> Family:
            return F()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        shape = (*sample_shape, dimension)
        return gamma_noise(shape, "numerator_") | gamma_noise(shape, "denominator_")

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        return {f"{name}_": 0.5 * np.exp(parameters[f"log_{name}"]) for name in ("numerator", "denominator")}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = (a/m)/(b/n)."""
        (logs,) = self.logs(backend, parameters, noise)
        return above_zero(backend.xp, backend.xp.exp(logs.low))

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        a, b = self.log_gammas(backend, parameters, noise)
        return (Logs(a - b + (parameters["log_denominator"] - parameters["log_numerator"])),)

    def log_gammas(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], prefix: str = ""
    ) -> tuple[Array, Array]:
        """Return the logarithms of the gamma variables of a sample, a ~ Gamma(m/2, 1) and b ~ Gamma(n/2, 1)."""
        m, n = self._exponentials(backend, parameters)
        above = log_standard_gamma(backend, 0.5 * m, noise, f"{prefix}numerator_")
        return above, log_standard_gamma(backend, 0.5 * n, noise, f"{prefix}denominator_")

    def _log_odds(self, backend: Backend, parameters: Blocks, m: Array, z: Array, logs: Logs | None) -> Array:
        """Return log(a/b)."""
        log_z = logs.low if logs else log_from_zero(backend.xp, z, 0.5 * m)
        return log_z + (parameters["log_numerator"] - parameters["log_denominator"])

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp, gammaln = backend.xp, backend.special.gammaln
        m, n = self._exponentials(backend, parameters)
        log_odds = self._log_odds(backend, parameters, m, z, logs)
        constant = gammaln(0.5 * (m + n)) - gammaln(0.5 * m) - gammaln(0.5 * n) + xp.log(m / n)
        return constant + (0.5 * m - 1.0) * log_odds - 0.5 * (m + n) * xp.logaddexp(xp.zeros_like(log_odds), log_odds)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        m, n = self._exponentials(backend, parameters)
        return (0.5 * m - 1.0) / z - 0.5 * (m + n) * m / (n + m * z)

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        m, n = self._exponentials(backend, parameters)
        ratio = m / (n + m * z)
        return ((1.0 - 0.5 * m) / (z * z) + 0.5 * (m + n) * ratio * ratio) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Blocks:
        """Return the derivatives of `log_densities`, where p = m z/(n + m z) is the beta variable behind z."""
        m, n = self._exponentials(backend, parameters)
        log_odds = self._log_odds(backend, parameters, m, z, logs)  # log p/(1 − p)
        p, (log_p, log_rest) = from_logit(backend.xp, log_odds)
        common = 0.5 * (m * (1.0 - p) - n * p)  # through log(m/n)
        above = 0.5 * m * (digamma_step(backend, 0.5 * m, 0.5 * n) + log_p)
        below = 0.5 * n * (digamma_step(backend, 0.5 * n, 0.5 * m) + log_rest)
        return {"log_numerator": above + common, "log_denominator": below - common}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        return self.pathwise_of(backend, parameters, self.log_gammas(backend, parameters, noise), cotangent)

    def pathwise_of(
        self, backend: Backend, parameters: Blocks, log_gammas: tuple[Array, Array], cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂log m = z (½ m ∂ log a/∂α − 1) and ∂z/∂log n = z (1 − ½ n ∂ log b/∂α)."""
        a, b = log_gammas
        m, n = self._exponentials(backend, parameters)
        pulled = cotangent * backend.xp.exp(a - b) * n / m
        return {
            "log_numerator": pulled * (0.5 * m * log_gamma_slope(backend, 0.5 * m, a) - 1.0),
            "log_denominator": pulled * (1.0 - 0.5 * n * log_gamma_slope(backend, 0.5 * n, b)),
        }

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of log B(a, b) + (1 − a) ψ(a) − (1 + b) ψ(b) + (a + b) ψ(a + b) + log(b/a), a = m/2 and b = n/2."""
        a, b = (0.5 * degrees for degrees in self._exponentials(backend, parameters))
        both = (a + b) * trigamma(backend, a + b)
        return {
            "log_numerator": a * (both + (1.0 - a) * trigamma(backend, a)) - 1.0,
            "log_denominator": b * (both - (1.0 + b) * trigamma(backend, b)) + 1.0,
        }

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        shape = (*sample_shape, dimension)
        numbers = weak_gamma_noise(shape, "numerator_") | weak_gamma_noise(shape, "denominator_")
        return {
            f"log_{name}": {
                **numbers,
                **shrink_noise(shape, f"{name}_"),
                **one_more_noise(shape, f"{name}_"),
                f"{name}_coin": Noise("rademacher", shape),
            }
            for name in ("numerator", "denominator")
        }

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return the weak derivatives, in each block by one of two terms that a fair coin chooses.

        m changes both the shape of a ~ Gamma(m/2, 1) and, as z = (a/m)/(b/n), its scale; n does the same to b. The coin
        chooses one of the two terms and doubles it: a and s a (`gamma_weak.py`), or a and a + e with c = m/2. The two
        terms nearly cancel on average, so the variance is that of either term, many times that of pathwise.
        """
        xp = backend.xp
        m, n = self._exponentials(backend, parameters)
        a, b = self.log_gammas(backend, parameters, noise, WEAK)

        def parts(name: str, concentration: Array, log_number: Array) -> tuple[Array, Array]:
            weight, log_s = shrinkage(backend, concentration, noise, f"{name}_")
            heads = noise[f"{name}_coin"] > 0.0
            other = xp.where(heads, log_number + log_s, xp.log(xp.exp(log_number) + noise[f"{name}_one_more"]))
            return 2.0 * xp.where(heads, weight, concentration + xp.zeros_like(weight)), other

        (weight_a, moved_a), (weight_b, moved_b) = parts("numerator", 0.5 * m, a), parts("denominator", 0.5 * n, b)
        z, by_a, by_b = (above_zero(xp, n / m * xp.exp(odds)) for odds in (a - b, moved_a - b, a - moved_b))
        return {"log_numerator": (weight_a, z, by_a), "log_denominator": (weight_b, z, by_b)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = np.ones_like(parameters["log_numerator"])
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=HEAVY)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return (n/m)ᵏ (m/2) (m/2 + 1) …/((n/2 − 1)(n/2 − 2) …), k factors each."""
        m, n = np.exp(parameters["log_numerator"]), np.exp(parameters["log_denominator"])
        if np.any(2 * order >= n * (1.0 - 1e-12)):  # n is rounded by exp(log n)
            raise NotApplicable(f"family f has a moment of order {order} only where denominator is above {2 * order}")
        above, rise = rising_factorial(0.5 * m, order)
        below, fall = rising_factorial(0.5 * n - order, order)
        moment = (n / m) ** order * above / below
        by_m, by_n = 0.5 * m * rise - order, order - 0.5 * n * fall
        return moment, {"log_numerator": by_m * moment, "log_denominator": by_n * moment}
