"""Sigmoid belief network with one layer of hidden units on binarised digits: an ELBO over Bernoulli variables.

For image n: z_n ∈ {0, 1}^H with probability 2^−H, x_np ~ Bernoulli(σ(c_p + W_p · z_n)), q(z_n) mean-field. The images
are independent, so exact values are sums over 2^H states per image. An importance-weighted bound is that of all images
together, with a sum over all their 2^{images × H} states.

W and c are fixed. The columns of W are the H directions of largest variance of scikit-learn's digits (8 × 8 pixels,
binarised at grey level 7), each of length `LENGTH` and with its largest entry positive; c is such that z = ½ gives the
mean image.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors, oriented, times
from gradmeter.bench.problems.data import binary, bundled
from gradmeter.bench.problems.enumerated import exact_enumerated
from gradmeter.bench.problems.options import differentiate_option, entropy_option
from gradmeter.bench.problems.problem import Exact, Problem
from gradmeter.estimators import Integrand, UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families import Bernoulli
from gradmeter.estimators.families.relaxation import sigmoid
from gradmeter.estimators.families.states import States
from gradmeter.estimators.options import option

PIXELS, LENGTH = 64, 5.0
#: The largest number of hidden units of all images together whose states are summed for an importance-weighted bound.
MOST_UNITS = 12
#: Coordinate ascent stops when no logit changes by more than this, relative to the largest or to 1; largest number of
#: sweeps.
CONVERGED, MOST_SWEEPS = 1e-13, 10_000


@functools.cache
def binarised() -> np.ndarray:
    """Return the digits [1797, 64] with pixels 0 or 1."""
    return binary(bundled("digits").data)


@functools.cache
def network(hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """Return W [H, 64] and c [64]."""
    pixels = binarised()
    mean = pixels.mean(axis=0)
    _, _, directions = np.linalg.svd(pixels - mean, full_matrices=False)
    weights = LENGTH * oriented(directions[:hidden])
    smoothed = (pixels.sum(axis=0) + 0.5) / (len(pixels) + 1.0)
    return weights, np.log(smoothed) - np.log1p(-smoothed) - 0.5 * weights.sum(axis=0)


class SigmoidBelief(Integrand):
    """log p(x, z), summed over images, with z [..., images × H]."""

    def width(self, data: Arrays, dimension: int) -> int:
        return int(data["pixels"].shape[0]) * PIXELS

    def _by_image(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.reshape(z, (*z.shape[:-1], -1, data["weights"].shape[0]))

    def _predictors(self, xp: Any, data: Arrays, z: Array) -> Array:
        """Return the logits of the pixels [..., images, 64]."""
        return times(xp, self._by_image(xp, data, z), data["weights"]) + data["bias"]

    def _log_likelihood(self, xp: Any, predictors: Array, pixels: Array) -> Array:
        softplus = xp.logaddexp(xp.zeros_like(predictors), predictors)
        return xp.sum(pixels * predictors - softplus, axis=-1)

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        each = self._log_likelihood(xp, self._predictors(xp, data, z), data["pixels"])
        return xp.sum(each, axis=-1) + z.shape[-1] * data["log_prior"]

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        left = data["pixels"] - sigmoid(xp, self._predictors(xp, data, z))
        return xp.reshape(times(xp, left, xp.matrix_transpose(data["weights"])), z.shape)

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        predictors = self._predictors(xp, data, z)
        along = self._predictors(xp, {**data, "bias": xp.zeros_like(data["bias"])}, vector)
        bent = -sigmoid(xp, predictors) * sigmoid(xp, -predictors) * along
        return xp.reshape(times(xp, bent, xp.matrix_transpose(data["weights"])), z.shape)

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return for each hidden unit the terms that contain it: its image's likelihood and its prior."""
        each = self._log_likelihood(xp, self._predictors(xp, data, z), data["pixels"])[..., None]
        terms = each + xp.zeros_like(self._by_image(xp, data, z)) + data["log_prior"]
        return xp.reshape(terms, z.shape)

    def replaced(self, backend: Backend, data: Arrays, z: Array, replacement: Array, noise: Arrays) -> Array:
        """Replace each hidden unit by moving the logits of its image along one row of W."""
        xp = backend.xp
        predictors = self._predictors(xp, data, z)
        old = self._log_likelihood(xp, predictors, data["pixels"])
        step = self._by_image(xp, data, replacement - z)[..., None] * data["weights"]  # [..., images, H, 64]
        new = self._log_likelihood(xp, predictors[..., None, :] + step, data["pixels"][:, None, :])
        total = xp.sum(old, axis=-1)[..., None, None] + new - old[..., None] + z.shape[-1] * data["log_prior"]
        return xp.reshape(total, z.shape)


@dataclass(frozen=True)
class SigmoidBeliefNetwork(Problem):
    """ELBO of the network with λ = `logits` [images × H]; exact by enumeration."""

    name: ClassVar[str] = "sigmoid-belief-network"
    summary: ClassVar[str] = "ELBO of a one-layer sigmoid belief network on binarised digits, exact by enumeration"

    images: int = option(10, "how many, the first of the data", minimum=1, maximum=1797)
    hidden: int = option(6, "H, hidden units an image", minimum=1, maximum=12)
    at: str = option(
        "halfway", "q: the prior, the best mean-field q, or half its logits", choices=("prior", "halfway", "fitted")
    )
    entropy: str = entropy_option()
    importance_samples: int = option(
        1, "K, the importance samples of the bound; 1 is the ELBO", minimum=1, maximum=100_000
    )
    differentiate: str = differentiate_option()

    q = Bernoulli.Config()
    integrand = SigmoidBelief()

    @property
    def dimension(self) -> int:
        return self.images * self.hidden

    def check(self) -> None:
        super().check()
        if self.importance_samples == 1:
            return
        given = f"problem {self.name}: importance-samples={self.importance_samples}"
        if self.dimension > MOST_UNITS:
            raise UsageError(
                f"{given} needs images × hidden ≤ {MOST_UNITS}, since every state of all hidden units is summed; here "
                f"it is {self.dimension}: give images={max(1, MOST_UNITS // self.hidden)}"
            )
        if self.entropy != "sampled":
            raise UsageError(f"{given} is a bound of weights p/q, which has no separate entropy: give entropy=sampled")

    def data(self) -> Vectors:
        weights, bias = network(self.hidden)
        pixels = binarised()[: self.images]
        return {"pixels": pixels, "weights": weights, "bias": bias, "log_prior": np.asarray(-np.log(2.0))}

    def parameters(self) -> Vectors:
        share = {"prior": 0.0, "halfway": 0.5, "fitted": 1.0}[self.at]
        return {"logits": share * fitted(self.images, self.hidden).ravel() if share else np.zeros(self.dimension)}

    def exact(self) -> Exact | None:
        found = super().exact()
        stationary = self.at == "fitted" and self.importance_samples == 1
        return found.stationary() if found is not None and stationary else found

    def exact_at(self, parameters: Vectors) -> Exact | None:
        if self.importance_samples > 1:
            return exact_enumerated(self.expectation(), parameters, self.dimension)
        states, joint = enumerated(self.images, self.hidden)
        logits = parameters["logits"].reshape(self.images, self.hidden)
        p = sigmoid(np, logits)
        log_q = states @ logits.T - np.logaddexp(0.0, logits).sum(axis=1)  # [N, images]
        q, f = np.exp(log_q), joint - (log_q if self.entropy == "sampled" else 0.0)
        score = states[:, None, :] - p  # [N, images, H]
        gradient = np.einsum("ni,nih->ih", q * f, score)
        each = (q * f).sum(axis=0)
        square = np.einsum("ni,nih->ih", q * f, score**2) / np.where(p * (1.0 - p) > 0.0, p * (1.0 - p), 1.0)
        optimal = square + (each.sum() - each)[:, None]  # other images are independent of this score
        if self.entropy == "analytic":
            (entropy,) = Bernoulli().entropy_gradient(get("numpy"), {"logits": logits}).values()
            gradient = gradient + entropy
        return Exact({"logits": gradient.ravel()}, "enumeration", float(each.sum()), {"logits": optimal.ravel()})


@functools.lru_cache(maxsize=8)
def enumerated(images: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden states [2^H, H] and log p(x_n, z) of each state and image [2^H, images]."""
    weights, bias = network(hidden)
    states = States(((0.0,), (1.0,)), hidden).listed(get("numpy"), "float64")
    predictors = states @ weights + bias
    joint = predictors @ binarised()[:images].T - np.logaddexp(0.0, predictors).sum(axis=1, keepdims=True)
    return states, joint - hidden * np.log(2.0)


@functools.lru_cache(maxsize=8)
def fitted(images: int, hidden: int) -> np.ndarray:
    """Return the logits [images, H] of the mean-field q to which coordinate ascent from the prior converges."""
    states, joint = enumerated(images, hidden)
    logits = np.zeros((images, hidden))
    for _ in range(MOST_SWEEPS):
        before = logits.copy()
        for h in range(hidden):
            others = logits.copy()
            others[:, h] = 0.0
            weight = np.exp(states @ others.T - np.logaddexp(0.0, others).sum(axis=1)) * 2.0
            side = np.where(states[:, h] == 1.0, 1.0, -1.0)
            logits[:, h] = (weight * joint * side[:, None]).sum(axis=0)
        if np.abs(logits - before).max() < CONVERGED * max(1.0, float(np.abs(logits).max())):
            break
    return logits
