"""The variational autoencoder of images: two multilayer perceptrons, on scikit-learn's digits (8 × 8 pixels) or a file.

The last layers are linear; depth hidden layers of equal width with tanh stand before each. Where z has one coordinate,
or two of few images, the gradient is exact by quadrature over every image's own z: the rest is sums.

Sources: Kingma & Welling 2014; Rezende et al. 2014.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bench.problems.mixtures.points import BUNDLED
from bench.problems.problem import Exact, Vectors
from bench.problems.vae import inputs
from bench.problems.vae.autoencoder import MOST_TEST, Autoencoder, importance_samples
from bench.problems.vae.coding import LIKELIHOODS
from bench.problems.vae.quadrature import exact_by_quadrature
from estimators import Pathwise, draw
from estimators.backends import get
from estimators.noise import stream_root
from estimators.options import option

#: Digits that a fit is made to, unless another number is asked for: all but as many as it is tested by.
FITTED = BUNDLED["digits"][0] - MOST_TEST
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
    importance_samples: int = importance_samples()
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    learning_rate: ClassVar[float | None] = 0.01

    @classmethod
    def fitted_options(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        """From random weights; all digits but 300, in minibatches, where neither data nor size is said."""
        large = {} if {"dataset", "size"} & set(given) else {"size": str(FITTED), "batch": "100"}
        return {"at": "initial", "hidden": "64", **large, **given}

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        return (self.hidden,) * self.depth

    def check(self) -> None:
        inputs.check(self.dataset, ("digits",), f"problem {self.name}")
        super().check()
        if self.dataset not in inputs.BUNDLED:  # a file may hold anything
            inputs.images(self.dataset, self.likelihood)

    def all_inputs(self) -> np.ndarray:
        return inputs.images(self.dataset, self.likelihood)

    @property
    def side(self) -> int | None:
        found = math.isqrt(self.columns)
        return found if found * found == self.columns else None

    def parameters(self) -> Vectors:
        if self.at == "initial":
            return self.initial()
        plain = replace(
            self, at="initial", batch=None, kl="analytic", importance_samples=1, differentiate="closed-form"
        )
        return dict(trained(plain, self.content()))

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """None for too many coordinates or images, and where quadrature has not converged."""
        return exact_by_quadrature(replace(self, batch=None, differentiate="closed-form"), parameters)


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
