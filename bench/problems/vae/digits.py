"""Variational autoencoder of images with two multilayer perceptrons, on scikit-learn's digits (8 × 8 pixels) or a file.

Each network has `depth` hidden layers of equal width with tanh, and a linear last layer. If z has one coordinate, or
two for few images, the gradient is exact by quadrature over each image's z.

Sources: Kingma & Welling 2014; Rezende et al. 2014.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.identity.content import Same
from gradmeter.bench.optimisation.optimisers import Adam
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.options import batch_option, differentiate_option, entropy_option
from gradmeter.bench.problems.problem import Exact
from gradmeter.bench.problems.vae import inputs
from gradmeter.bench.problems.vae.autoencoder import MOST_TEST, Autoencoder, importance_samples
from gradmeter.bench.problems.vae.coding import LIKELIHOODS
from gradmeter.bench.problems.vae.quadrature import exact_by_quadrature
from gradmeter.estimators import Pathwise, draw
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import stream_root
from gradmeter.estimators.options import option

#: Default minibatch size of a fit.
MINIBATCH = 100
#: Steps and step size of the Adam run that defines at=trained.
STEPS, RATE = 300, 0.01


@dataclass(frozen=True)
class Vae(Autoencoder):
    """ELBO of a variational autoencoder of images; for a Gaussian likelihood, θ includes the log of its scale."""

    name: ClassVar[str] = "vae"
    summary: ClassVar[str] = "ELBO of a variational autoencoder of digits (exact by quadrature for latent=1)"

    dataset: str = option("digits", "digits, or an .npy or .csv file of images, one a row")
    size: int = option(100, "images fitted, the first; up to 300 after them are test data", minimum=1)
    likelihood: str = option("bernoulli", "of a pixel; bernoulli binarises digits", choices=LIKELIHOODS)
    latent: int = option(2, "coordinates of z", minimum=1, maximum=1000)
    hidden: int = option(32, "width of every hidden layer", minimum=1, maximum=10_000)
    depth: int = option(1, "hidden layers of each network", minimum=1, maximum=100)
    at: str = option(
        "trained",
        f"both networks: random weights, or those after {STEPS} steps of Adam from there",
        choices=("initial", "trained"),
    )
    batch: int | None = batch_option("images")
    kl: str = entropy_option("how KL(q(z | x) ‖ p(z)) enters")
    importance_samples: int = importance_samples()
    differentiate: str = differentiate_option()

    learning_rate: ClassVar[float | None] = RATE
    steps: ClassVar[int] = 2000  # enough for legible generated images

    @classmethod
    def fitted_options(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options of a fit: random weights and, if no size is given, most of the data in minibatches.

        A fifth of the data, at most 300, remains as test data.
        """
        dataset, large = given.get("dataset", "digits"), {}
        if "size" not in given and inputs.known(dataset, ("digits",)):
            there = inputs.rows(dataset)[0]
            size = there - min(MOST_TEST, there // 5)
            large = {"size": str(size), "batch": str(min(MINIBATCH, size))}
        return {"at": "initial", "hidden": "128", **large, **given}

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        return (self.hidden,) * self.depth

    def check(self) -> None:
        inputs.check(self.dataset, ("digits",), f"problem {self.name}")
        super().check()
        if self.dataset not in inputs.BUNDLED:  # a file may hold any numbers
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
        return dict(trained(Same(plain), self.content()))

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values, or None for too many coordinates or images, or without convergence."""
        return exact_by_quadrature(replace(self, batch=None, differentiate="closed-form"), parameters)


@functools.lru_cache(maxsize=16)
def trained(same: Same, content: str | None) -> dict[str, Any]:
    """Return (φ, θ) after `STEPS` of Adam on pathwise estimates with one sample per image, from random weights.

    `content` is the fingerprint of a data file, so that the cache distinguishes its versions.
    """
    problem: Vae = same.value
    backend, expectation = get("numpy"), problem.expectation()
    estimator = expectation.estimated_by(Pathwise())
    specs = estimator.noise_specs(expectation, 1, problem.latent)
    roots = {name: backend.root(stream_root("vae", "training", name)) for name in specs}
    adam, at = Adam(rate=RATE), problem.initial()
    memory = adam.initial(np, at)
    for t in range(1, STEPS + 1):
        noise = draw(backend, specs, roots, t, 1, "float64")
        found = estimator.estimate(backend, expectation, at, noise, {})
        at, memory = adam.step(np, at, {name: g[0] for name, g in found.items()}, memory, adam.numbers(t))
    return at
