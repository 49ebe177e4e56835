"""The variational autoencoder of images: two multilayer perceptrons, on scikit-learn's digits (8 × 8 pixels) or a file.

The last layers are linear; depth hidden layers of equal width with tanh stand before each. Where z has one coordinate,
or two of few images, the gradient is exact by quadrature over every image's own z: the rest is sums.

Sources: Kingma & Welling 2014; Rezende et al. 2014.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bench.problems.problem import Exact, Vectors
from bench.problems.vae import inputs
from bench.problems.vae.autoencoder import Autoencoder
from bench.problems.vae.coding import LIKELIHOODS
from estimators import Pathwise, UsageError, draw
from estimators.backends import get
from estimators.noise import stream_root
from estimators.options import option

#: Of z: with more, no grid is affordable.
MOST_LATENT = 2
#: Trapezoid rules for each coordinate, which converge geometrically; two in turn must agree to `AGREEMENT` of the
#: largest number of every block, with no more points for all images than `MOST_POINTS`.
NODES, REACH, AGREEMENT, MOST_POINTS = (64, 96, 144, 216, 324, 486), 8.0, 1e-11, 2**19
#: Numbers in the largest array of a quadrature.
CHUNK = 2**21
#: Of Adam (Kingma & Ba 2015), which makes the point that at=trained means.
STEPS, RATE, DECAYS, TINY = 300, 0.01, (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Vae(Autoencoder):
    name: ClassVar[str] = "vae"
    summary: ClassVar[str] = "ELBO of a variational autoencoder of digits (exact by quadrature for latent=1)"

    dataset: str = option("digits", "digits, or an .npy or .csv file of images, one a row")
    size: int = option(100, "images used, the first", minimum=1)
    likelihood: str = option("bernoulli", "of a pixel; bernoulli binarises digits", choices=LIKELIHOODS)
    latent: int = option(2, "coordinates of z", minimum=1, maximum=1000)
    hidden: int = option(32, "width of every hidden layer", minimum=1, maximum=10_000)
    depth: int = option(1, "hidden layers of each network", minimum=1, maximum=100)
    at: str = option(
        "trained",
        f"both networks: random weights, or those after {STEPS} steps of Adam from there",
        choices=("initial", "trained"),
    )
    batch: int | None = option(None, "minibatch size (all images if absent)", minimum=1, optional=True)
    kl: str = option("sampled", "how KL(q(z | x) ‖ p(z)) enters", choices=("sampled", "analytic"))
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        return (self.hidden,) * self.depth

    def check(self) -> None:
        if self.dataset in inputs.BUNDLED and self.dataset != "digits":
            raise UsageError(f"problem {self.name}: {self.dataset} holds no images; use dataset=digits or a file")
        super().check()
        inputs.images(self.dataset, self.likelihood)

    def inputs(self) -> np.ndarray:
        return inputs.images(self.dataset, self.likelihood)[: self.rows]

    def parameters(self) -> Vectors:
        if self.at == "initial":
            return self.initial()
        plain = replace(self, at="initial", batch=None, kl="analytic", differentiate="closed-form")
        return dict(trained(plain, self.content()))

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """None for too many coordinates or images, and where quadrature has not converged."""
        if self.latent > MOST_LATENT:
            return None
        key = tuple((name, a.shape, np.asarray(a, dtype=np.float64).tobytes()) for name, a in parameters.items())
        return integrated(replace(self, batch=None, differentiate="closed-form"), key)

    def quadrature(self, parameters: Vectors, nodes: int) -> Exact:
        """With so many nodes for each coordinate of z."""
        x = np.linspace(-REACH, REACH, nodes)
        w = np.exp(-0.5 * x * x)
        grid = np.stack(np.meshgrid(*[x] * self.latent, indexing="ij"), axis=-1).reshape(-1, self.latent)
        weights = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * self.latent, indexing="ij")), axis=0).ravel()
        encoder, decoder = self.encoder, replace(self, kl="analytic").decoder
        data = {"inputs": self.inputs(), **parameters}
        local = {name: values[0] for name, values in encoder.apply(np, data, None).items()}
        scale, prior = np.exp(local["log_scale"]), encoder.exact_gradient(np, local)
        slopes: dict[str, list[np.ndarray]] = {"loc": [], "log_scale": []}
        theta: Vectors = {name: np.zeros(shape) for name, shape in decoder.model_shapes(data).items()}
        objective = 0.0
        each = max(1, CHUNK // (len(grid) * decoder.network.width))
        for first in range(0, self.rows, each):
            some = slice(first, first + each)
            z = local["loc"][some, None, :] + scale[some, None, :] * grid  # [images, nodes, L]
            rows = {"rows": np.arange(self.rows)[some, None]}
            slope = decoder.gradient(np, data, z, rows)
            slopes["loc"].append(np.einsum("k,nkl->nl", weights, slope))
            slopes["log_scale"].append(np.einsum("k,nkl,kl->nl", weights, slope, grid) * scale[some])
            objective += float((decoder.value(np, data, z, rows) @ weights).sum())
            one = {"rows": np.repeat(rows["rows"], len(grid)).reshape(1, -1)}
            moved = decoder.model_pullback(np, data, z.reshape(1, -1, self.latent), np.tile(weights, len(z))[None], one)
            theta = {name: total + moved[name][0] for name, total in theta.items()}
        if self.kl == "sampled":
            objective -= float(np.sum(0.5 * (local["loc"] ** 2 + scale**2 - 1.0) - local["log_scale"]))
        cotangent = {name: (np.concatenate(found) + prior[name])[None] for name, found in slopes.items()}
        phi = encoder.pullback(np, data, None, cotangent)
        return Exact({**{name: g[0] for name, g in phi.items()}, **theta}, "quadrature", objective)


@functools.lru_cache(maxsize=32)
def integrated(problem: Vae, key: tuple[tuple[str, tuple[int, ...], bytes], ...]) -> Exact | None:
    """The exact answer of a whole batch, at parameters given by name, shape and content."""
    parameters = {name: np.frombuffer(content).reshape(shape) for name, shape, content in key}
    found: Exact | None = None
    for nodes in NODES:
        if problem.rows * nodes**problem.latent > MOST_POINTS:
            break
        before, found = found, problem.quadrature(parameters, nodes)
        if before is not None and all(
            np.abs(g - before.gradient[name]).max() <= AGREEMENT * max(1.0, float(np.abs(g).max()))
            for name, g in found.gradient.items()
        ):
            return found
    return None


@functools.lru_cache(maxsize=16)
def trained(problem: Vae, content: str | None) -> dict[str, Any]:
    """(φ, θ) after pathwise estimates of one sample an image have been followed from random weights; `content` tells
    apart what a file held."""
    backend, expectation = get("numpy"), problem.expectation()
    estimator = expectation.estimated_by(Pathwise())
    specs = estimator.noise_specs(expectation, 1, problem.latent)
    roots = {name: backend.root(stream_root("vae", "training", name)) for name in specs}
    at = problem.initial()
    mean, square = ({name: np.zeros_like(a) for name, a in at.items()} for _ in range(2))
    for t in range(1, STEPS + 1):
        noise = draw(backend, specs, roots, t, 1, "float64")
        for name, found in estimator.estimate(backend, expectation, at, noise, {}).items():
            mean[name] = DECAYS[0] * mean[name] + (1.0 - DECAYS[0]) * found[0]
            square[name] = DECAYS[1] * square[name] + (1.0 - DECAYS[1]) * found[0] ** 2
        unbiased = [1.0 - decay**t for decay in DECAYS]
        at = {
            name: a + RATE * (mean[name] / unbiased[0]) / (np.sqrt(square[name] / unbiased[1]) + TINY)
            for name, a in at.items()
        }
    return at
