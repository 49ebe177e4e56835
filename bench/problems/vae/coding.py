"""Encoder and decoder networks: q(z | x) mean-field Normal, p(x | z) Bernoulli or Normal, p(z) = N(0, I)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradmeter.bench.problems.arrays import Array, Arrays, gathered
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.bench.problems.vae.network import Perceptron
from gradmeter.estimators import Integrand, Noise
from gradmeter.estimators.amortised import Encoder
from gradmeter.estimators.families.relaxation import sigmoid

LIKELIHOODS = ("bernoulli", "gaussian")


@dataclass(frozen=True)
class NormalEncoder(Encoder):
    """An encoder whose network outputs loc and log_scale, concatenated; `data` holds inputs [N, P]."""

    network: Perceptron

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.network.shapes()

    def population(self, data: Arrays) -> int:
        return int(data["inputs"].shape[0])

    def _layers(self, xp: Any, data: Arrays, rows: Array | None) -> tuple[Array, ...]:
        x = data["inputs"][None, :, :] if rows is None else gathered(xp, data["inputs"], rows)
        return self.network.forward(xp, data, x)

    def apply(self, xp: Any, data: Arrays, rows: Array | None) -> Arrays:
        output = self._layers(xp, data, rows)[-1]
        half = output.shape[-1] // 2
        return {"loc": output[..., :half], "log_scale": output[..., half:]}

    def pullback(self, xp: Any, data: Arrays, rows: Array | None, cotangent: Arrays) -> Arrays:
        whole = xp.concat([cotangent["loc"], cotangent["log_scale"]], axis=-1)
        return self.network.pullback(xp, data, self._layers(xp, data, rows), whole)

    def exact_gradient(self, xp: Any, local: Arrays) -> Arrays:
        """Return the gradient of −`divergence` in λ."""
        return {"loc": -local["loc"], "log_scale": 1.0 - xp.exp(2.0 * local["log_scale"])}


def divergence(xp: Any, local: Arrays) -> Array:
    """Return KL(q ‖ N(0, I)) [...] for λ with arrays [..., L]."""
    loc, log_scale = local["loc"], local["log_scale"]
    return xp.sum(0.5 * (loc * loc + xp.exp(2.0 * log_scale) - 1.0) - log_scale, axis=-1)


@dataclass(frozen=True)
class Decoder(Integrand):
    """log p(x | z) of one datum, plus log p(z) if `prior`.

    For `bernoulli`, the network outputs the logits of pixels that are 0 or 1. For `gaussian`, it outputs means, and
    `decoder.log_scale` [1] is the log of the standard deviation of all coordinates. `data` holds inputs [N, P].
    """

    network: Perceptron
    likelihood: str
    prior: bool

    def noise_specs(self, data: Arrays) -> dict[str, Noise]:
        return {"rows": Noise("rows", (1,), population=data["inputs"].shape[0])}

    def width(self, data: Arrays, dimension: int) -> int:
        return self.network.width

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        scale = {"decoder.log_scale": (1,)} if self.likelihood == "gaussian" else {}
        return {**self.network.shapes(), **scale}

    def _inputs(self, xp: Any, data: Arrays, noise: Arrays) -> Array:
        """Return x as [R, 1, P], or [R, S, P] if each sample has its own datum."""
        return gathered(xp, data["inputs"], noise["rows"])

    def _log_likelihood(self, xp: Any, data: Arrays, output: Array, x: Array) -> Array:
        if self.likelihood == "bernoulli":
            return xp.sum(x * output - xp.logaddexp(xp.zeros_like(output), output), axis=-1)
        log_scale = data["decoder.log_scale"]
        away = (x - output) * xp.exp(-log_scale)
        return xp.sum(-0.5 * away * away - log_scale - 0.5 * LOG_2PI, axis=-1)

    def mean(self, xp: Any, data: Arrays, z: Array) -> Array:
        """Return E[x | z] [..., P]."""
        output = self.network.forward(xp, data, z)[-1]
        return sigmoid(xp, output) if self.likelihood == "bernoulli" else output

    def slope(self, xp: Any, data: Arrays, output: Array, x: Array) -> Array:
        """Return ∂log p(x | z)/∂(network outputs) [..., P]."""
        if self.likelihood == "bernoulli":
            return x - sigmoid(xp, output)
        return (x - output) * xp.exp(-2.0 * data["decoder.log_scale"])

    def _terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> tuple[Array, Any]:
        """Return log p(x | z) [...], and log p of every coordinate of z [..., L], or 0 without prior."""
        output = self.network.forward(xp, data, z)[-1]
        likelihood = self._log_likelihood(xp, data, output, self._inputs(xp, data, noise))
        return likelihood, -0.5 * z * z - 0.5 * LOG_2PI if self.prior else xp.zeros_like(z)

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        likelihood, prior = self._terms(xp, data, z, noise)
        return likelihood + xp.sum(prior, axis=-1)

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return for each coordinate the likelihood, which contains all coordinates, plus its own term of the prior."""
        likelihood, prior = self._terms(xp, data, z, noise)
        return likelihood[..., None] + prior

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        layers = self.network.forward(xp, data, z)
        slope = self.slope(xp, data, layers[-1], self._inputs(xp, data, noise))
        found = self.network.input_gradient(xp, data, layers, slope)
        return found - z if self.prior else found

    def model_pullback(self, xp: Any, data: Arrays, z: Array, cotangent: Array, noise: Arrays) -> Arrays:
        x = self._inputs(xp, data, noise)
        layers = self.network.forward(xp, data, z)
        slope = self.slope(xp, data, layers[-1], x)
        found = self.network.pullback(xp, data, layers, cotangent[..., None] * slope)
        if self.likelihood == "gaussian":
            size = xp.sum((x - layers[-1]) * slope - 1.0, axis=-1)
            found = {**found, "decoder.log_scale": xp.sum(cotangent * size, axis=-1)[:, None]}
        return found
