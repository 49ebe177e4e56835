"""Base class of the linear and the nonlinear autoencoder: data, minibatches, (φ, θ) and the expectation."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.data import fingerprint
from gradmeter.bench.problems.minibatch import RowProblem
from gradmeter.bench.problems.problem import Problem
from gradmeter.bench.problems.vae import inputs
from gradmeter.bench.problems.vae.coding import Decoder, NormalEncoder
from gradmeter.bench.problems.vae.network import Perceptron
from gradmeter.estimators import Expectation, UsageError
from gradmeter.estimators.amortised import AmortisedNormal
from gradmeter.estimators.options import option

#: Largest number of test rows, which follow the rows that are fitted.
MOST_TEST = 300


def importance_samples() -> Any:
    """Declare the option `importance_samples` of both autoencoders."""
    return option(1, "K, the importance samples of every datum's bound; 1 is the ELBO", minimum=1, maximum=100_000)


class Autoencoder(RowProblem):
    """Base class of autoencoders; parameter blocks are the layers of both networks.

    L = Σ_n E_{q(z_n | x_n; φ)}[log p(x_n, z_n; θ) − log q], or the bound of K importance samples of every datum.
    `dimension` is that of the z of one datum.
    """

    size: int | None
    latent: int
    kl: str
    importance_samples: int
    #: As in `Decoder`.
    likelihood: str

    @property
    def q(self) -> Any:  # type: ignore[override]
        return AmortisedNormal.Config()

    @property
    def dimension(self) -> int:
        return self.latent

    @property
    def entropy(self) -> str:  # type: ignore[override]
        return self.kl

    def whole(self) -> Problem:
        return replace(self, kl="sampled")  # type: ignore[type-var]

    @property
    def rows(self) -> int:
        """The number of fitted rows N."""
        return inputs.rows(self.dataset)[0] if self.size is None else self.size

    @property
    def columns(self) -> int:
        """The number of columns P."""
        return inputs.rows(self.dataset)[1]

    def check(self) -> None:
        super().check()
        what, there = f"problem {self.name}", inputs.rows(self.dataset)[0]
        if self.size is not None and self.size > there:
            raise UsageError(f"{what}: size is {self.size}; {self.dataset} has {there} rows: give size={there} or less")
        if self.importance_samples > 1 and self.kl != "sampled":
            raise UsageError(
                f"{what}: kl={self.kl} with importance-samples={self.importance_samples}; the bound is of weights "
                "p(x, z)/q(z | x), whose logarithm has no part that could enter exactly: use kl=sampled"
            )

    def content(self) -> str | None:
        return fingerprint(self.dataset) if self.dataset not in inputs.BUNDLED else None

    @abstractmethod
    def all_inputs(self) -> np.ndarray:
        """Return all rows of the data set [rows, P]."""

    def inputs(self) -> np.ndarray:
        """Return the rows that are fitted, the first `size` of the data set [N, P]."""
        return self.all_inputs()[: self.rows]

    def test_inputs(self) -> np.ndarray:
        """Return the test rows, at most `MOST_TEST` after the fitted rows; possibly none."""
        return self.all_inputs()[self.rows : self.rows + MOST_TEST]

    def labels(self) -> np.ndarray | None:
        """Return the classes of all rows, or None where unknown; the fit does not use them."""
        return inputs.labels(self.dataset)

    @property
    def side(self) -> int | None:
        """The side of square images in pixels, or None if the rows are not images."""
        return None

    @property
    @abstractmethod
    def hidden_sizes(self) -> tuple[int, ...]:
        """The widths of the encoder's hidden layers; the decoder has them in reverse order."""

    @property
    def encoder(self) -> NormalEncoder:
        return NormalEncoder(Perceptron("encoder", (self.columns, *self.hidden_sizes, 2 * self.latent)))

    @property
    def integrand(self) -> Decoder:
        """The decoder."""
        sizes = (self.latent, *self.hidden_sizes[::-1], self.columns)
        return Decoder(Perceptron("decoder", sizes), self.likelihood, prior=self.kl == "sampled")

    def held_out(self) -> Expectation | None:
        there, found = self.test_inputs(), replace(self, kl="sampled", batch=None, importance_samples=1)  # type: ignore[type-var]
        return found.expectation().bind({"inputs": there}) if len(there) else None

    def data(self) -> Vectors:
        return {"inputs": self.inputs(), **self.minibatch()}

    def initial(self) -> Vectors:
        """Return random weights, the same on every machine, and log scales of 0."""
        networks = {**self.encoder.network.initial(), **self.integrand.network.initial()}
        return {**networks, **{n: np.zeros(s) for n, s in self.integrand.model_shapes().items() if n not in networks}}
