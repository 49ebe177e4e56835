"""Relaxed choices as families: Concrete (Gumbel-softmax), and relaxed Bernoullis.

z = softmax((logits + g)/T) with standard Gumbel g, in the interior of a simplex; for two categories z = σ((logit +
l)/T) with a logistic l. As T falls they converge to `categorical` and `bernoulli`. The temperature T is a parameter
like the others.

Sources: Maddison, Mnih & Teh 2017 (densities: equation 10 and appendix B); Jang, Gu & Poole 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.choices import ChoicesConfig, weights_option
from gradmeter.estimators.families.concrete_marginal import ConcreteLogit
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.logs import (
    Logs,
    above_zero,
    from_logit,
    log_from_one,
    log_from_zero,
    log_softmax,
    softmax,
)
from gradmeter.estimators.families.relaxation import TINY, logit, sigmoid
from gradmeter.estimators.families.support_and_tails import Marginals, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: Quadrature over the logistic variable for the moments: the density is 1e-17 at ±REACH, and the step resolves T =
#: 0.05.
REACH, NODES = 40.0, 8001


@dataclass(frozen=True)
class RelaxedBernoulli(MeanField):
    """Independent relaxed Bernoulli coordinates. Parameters: `logits` [D] and `log_temperature` [D]."""

    name: ClassVar[str] = "relaxed-bernoulli"
    summary: ClassVar[str] = "relaxed (binary Concrete) Bernoullis on (0, 1); parameters logits, log_temperature"
    blocks: ClassVar[tuple[str, ...]] = ("logits", "log_temperature")
    unsupported: ClassVar[dict[str, str]] = {
        "entropy_gradient": "its entropy has no closed form",
    }
    moment_source: ClassVar[str] = "quadrature"

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        probability: Values = option(0.5, "P(z > 1/2) of every coordinate", above=0.0, below=1.0, per="coordinate")
        temperature: Values = option(1.0, "T of every coordinate", minimum=0.05, per="coordinate")

        @property
        def family(self) -> Family:
            return RelaxedBernoulli()

        def parameters(self, dimension: int) -> Blocks:
            return {
                "logits": self.each(dimension, logit, "probability"),
                "log_temperature": self.each(dimension, math.log, "temperature"),
            }

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return from_logit(backend.xp, self._logit(backend.xp, parameters, noise))[0]

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        return (from_logit(backend.xp, self._logit(backend.xp, parameters, noise))[1],)

    def _logit(self, xp: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return logit z."""
        u = noise["base"]
        low, high = (xp.where(side > TINY, side, xp.full_like(u, TINY)) for side in (u, 1.0 - u))
        return (parameters["logits"] + xp.log(low) - xp.log(high)) / xp.exp(parameters["log_temperature"])

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return no discontinuity, but name the noise.

        z is of order u^(1/T) near 0, and similarly near 1, so the quadrature must use a rule for singular ends.
        """
        return {"base": np.zeros((1, 0))}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        zero = np.zeros_like(parameters["logits"])
        mirror = {"logits": ("logits", -1.0), "log_temperature": ("log_temperature", 1.0)}
        return SupportAndTails(zero, sigmoid(np, parameters["logits"]), zero + 1.0, zero + 1.0, mirror=mirror)

    def _ends(self, xp: Any, parameters: Blocks, z: Array, logs: Logs | None) -> Logs:
        """Return the logs of z, if necessary from z and a density ∝ z^(T − 1) near 0, and similarly near 1."""
        if logs:
            return logs
        temperature = xp.exp(parameters["log_temperature"])
        return Logs(log_from_zero(xp, z, temperature), log_from_one(xp, z, temperature))

    def _scaled(self, xp: Any, parameters: Blocks, ends: Logs) -> tuple[Array, Array, Array]:
        """Return T, T logit z, and tanh(½ (T logit z − logit)), the negative slope of the logistic log-density."""
        temperature = xp.exp(parameters["log_temperature"])
        scaled = temperature * (ends.low - ends.high)
        return temperature, scaled, xp.tanh(0.5 * (scaled - parameters["logits"]))

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp, ends = backend.xp, self._ends(backend.xp, parameters, z, logs)
        _, scaled, _ = self._scaled(xp, parameters, ends)
        away = xp.abs(scaled - parameters["logits"])
        logistic = -away - 2.0 * xp.log1p(xp.exp(-away))
        return logistic + parameters["log_temperature"] - ends.low - ends.high

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp = backend.xp
        temperature, _, slope = self._scaled(xp, parameters, self._ends(xp, parameters, z, logs))
        both = above_zero(xp, xp.exp(logs.low + logs.high)) if logs else z * (1.0 - z)
        return (2.0 * z - 1.0 - temperature * slope) / both

    def score(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Blocks:
        _, scaled, slope = self._scaled(backend.xp, parameters, self._ends(backend.xp, parameters, z, logs))
        return {"logits": slope, "log_temperature": 1.0 - slope * scaled}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z = z (1 − z) ∂(logit z), with logit z = (logit + l)/T."""
        xp, logit = backend.xp, self._logit(backend.xp, parameters, noise)
        small = xp.exp(-xp.abs(logit))
        along = cotangent * small / ((1.0 + small) * (1.0 + small))
        return {"logits": along * xp.exp(-parameters["log_temperature"]), "log_temperature": -along * logit}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return the derivatives of −log q = log z (1 − z) − log T minus the log-density of l."""
        away = 1.0 - 2.0 * z
        along = away * backend.xp.exp(-parameters["log_temperature"])
        logit = self._logit(backend.xp, parameters, noise)
        return {"logits": along, "log_temperature": -1.0 - away * logit}

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments by the trapezoid rule in l, computed once for each distinct λ_i."""
        pairs, place = np.unique(
            np.stack([parameters[name] for name in self.blocks], axis=1), axis=0, return_inverse=True
        )
        x = np.linspace(-REACH, REACH, NODES)
        weights = sigmoid(np, x) * sigmoid(np, -x) * (2.0 * REACH / (NODES - 1))
        found = np.zeros((len(pairs), 3))
        for row, (location, log_temperature) in zip(found, pairs, strict=True):
            along = (location + x) / math.exp(log_temperature)
            z = sigmoid(np, along)
            slope = order * z ** max(order - 1, 0) * z * (1.0 - z)
            row[:] = (z**order, slope / math.exp(log_temperature), -slope * along) @ weights
        moment, logits, log_temperature = found[place.reshape(-1)].T
        return moment, {"logits": logits, "log_temperature": log_temperature}


@dataclass(frozen=True)
class Concrete(Family):
    """Independent relaxed choices of one of K `categories`, concatenated as in `categorical`.

    Parameters: `logits` [D/K, K] and `log_temperature` [D/K]. The density is that of the first K − 1 numbers of each
    choice.
    """

    name: ClassVar[str] = "concrete"
    summary: ClassVar[str] = "Concrete (Gumbel-softmax) choices on simplices; parameters logits, log_temperature"
    blocks: ClassVar[tuple[str, ...]] = ("logits", "log_temperature")
    unsupported: ClassVar[dict[str, str]] = {
        "weak_derivatives": "the K numbers of a choice sum to 1, so none moves alone",
        "log_density_replaced": "the K numbers of a choice sum to 1, so none is replaced alone",
        "entropy_gradient": "its entropy has no closed form",
        "power_moment": "its moments have no closed form",
    }

    categories: int = 2

    @dataclass(frozen=True)
    class Config(ChoicesConfig):
        temperature: Values = option(1.0, "T", minimum=0.05, per="choice")
        weights: Values = weights_option()

        @property
        def family(self) -> Family:
            return Concrete(self.categories)

        def parameters(self, dimension: int) -> Blocks:
            temperatures = self.each(dimension // self.categories, math.log, "temperature")
            return {"logits": self.logits(dimension), "log_temperature": temperatures}

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        choices = dimension // self.categories
        return {"logits": (choices, self.categories), "log_temperature": (choices,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def _by_choice(self, xp: Any, z: Array) -> Array:
        return xp.reshape(z, (*z.shape[:-1], -1, self.categories))

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        (logs,) = self.logs(backend, parameters, noise)
        return above_zero(backend.xp, backend.xp.exp(logs.low))

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        log = log_softmax(backend.xp, self._perturbed(backend.xp, parameters, noise))
        return (Logs(backend.xp.reshape(log, (*log.shape[:-2], -1))),)

    def _perturbed(self, xp: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return ζ [..., D/K, K], of which z is the softmax."""
        gumbel = -xp.log(self._by_choice(xp, noise["base"]))
        return (parameters["logits"] + gumbel) / xp.exp(parameters["log_temperature"])[:, None]

    def _parts(self, xp: Any, parameters: Blocks, z: Array, logs: Logs | None) -> tuple[Array, Array, Array]:
        """Return T [D/K, 1], log z and logits − T log z [..., D/K, K].

        Without logs, log z is corrected for a density ∝ z^(T − 1) near 0.
        """
        temperature = xp.exp(parameters["log_temperature"])[:, None]
        log = self._by_choice(xp, logs.low) if logs else log_from_zero(xp, self._by_choice(xp, z), temperature)
        return temperature, log, parameters["logits"] - temperature * log

    def log_density(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp, k = backend.xp, self.categories
        _, log, exponents = self._parts(xp, parameters, z, logs)
        largest = xp.max(exponents, axis=-1, keepdims=True)
        total = largest[..., 0] + xp.log(xp.sum(xp.exp(exponents - largest), axis=-1))
        each = xp.sum(exponents - log, axis=-1) - k * total + (k - 1) * parameters["log_temperature"] + math.lgamma(k)
        return xp.sum(each, axis=-1)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Array:
        xp = backend.xp
        temperature, _, exponents = self._parts(xp, parameters, z, logs)
        slope = self.categories * temperature * softmax(xp, exponents) - temperature - 1.0
        return xp.reshape(slope, z.shape) / z

    def score(self, backend: Backend, parameters: Blocks, z: Array, logs: Logs | None = None) -> Blocks:
        xp, k = backend.xp, self.categories
        temperature, log, exponents = self._parts(xp, parameters, z, logs)
        p = softmax(xp, exponents)
        of_temperature = k - 1.0 + temperature[:, 0] * xp.sum((k * p - 1.0) * log, axis=-1)
        return {"logits": 1.0 - k * p, "log_temperature": of_temperature}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives of z = softmax(ζ), ζ = (logits + g)/T, so ∂ζ/∂log T = −ζ."""
        xp = backend.xp
        temperature = xp.exp(parameters["log_temperature"])[:, None]
        perturbed = self._perturbed(xp, parameters, noise)
        z, c = self._by_choice(xp, z), self._by_choice(xp, cotangent)
        along = z * (c - xp.sum(z * c, axis=-1, keepdims=True))
        return {"logits": along / temperature, "log_temperature": -xp.sum(along * perturbed, axis=-1)}

    def marginals(self, parameters: Blocks) -> Marginals:
        """Return relaxed Bernoullis for K = 2, and the distribution of the logits (`concrete_marginal.py`) for K = 3.

        Raises
        ------
        NotApplicable
            There are more than three categories.
        """
        k, logits = self.categories, parameters["logits"]
        if k > 3:
            raise NotApplicable(f"family concrete has laws of single coordinates for 2 or 3 categories, not {k}")
        log_temperature = np.repeat(parameters["log_temperature"], k)
        if k == 2:
            one: Any = RelaxedBernoulli()
            at = {"logits": np.ravel(logits - logits[:, ::-1])}
        else:
            one = ConcreteLogit()
            at = {name: np.ravel(np.roll(logits, -i, axis=1)) for i, name in enumerate(one.blocks[:3])}

        def collect(values: Array, gradient: Blocks) -> tuple[float, Blocks]:
            g = {name: values.reshape(-1, k) for name, values in gradient.items()}
            if k == 2:
                moved = g["logits"] - g["logits"][:, ::-1]
            else:
                moved = sum(np.roll(g[name], i, axis=1) for i, name in enumerate(one.blocks[:3]))
            return float(values.sum()), {"logits": moved, "log_temperature": g["log_temperature"].sum(axis=1)}

        return Marginals(one, {**at, "log_temperature": log_temperature}, collect, logits=k == 3)
