"""A negative binomial regression: counts with a log link, overdispersed, with a latent shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.posteriors.densities import Addend, normal
from gradmeter.bench.problems.posteriors.links import SOFTPLUS
from gradmeter.bench.problems.posteriors.log_joint import Group
from gradmeter.bench.problems.posteriors.posterior import LocalPosterior
from gradmeter.bench.problems.posteriors.predictor import latents, linear
from gradmeter.bench.problems.regression import PoissonRegression, load
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class NegativeBinomialRegression(LocalPosterior):
    """ELBO of the regression, exact by one-dimensional quadrature. z is w, then log φ. A unit is a row.

    y_n has mean exp(x_nᵀw) and variance mean + mean²/φ; w ~ N(0, I) and log φ ~ N(0, 1). With η = x_nᵀw and ψ = log φ,

        log p(y | η, φ) = Σ_{k<y} log(k + φ) + y (η − ψ) − (y + φ) log(1 + exp(η − ψ)) − log y!,

    where log(k + φ) = log k + log(1 + exp(ψ − log k)). So every term is a function of η − ψ or of ψ, one times exp(ψ).
    The counts are those of `poisson-regression`.

    Source: Hilbe 2011, chapter 8.
    """

    name: ClassVar[str] = "negative-binomial-regression"
    summary: ClassVar[str] = "ELBO of a negative binomial regression, shape learnt (exact by 1-D quadrature)"

    dataset: str = option(
        "linnerud",
        "scikit-learn's bundled data: chin-ups, or the progression score",
        choices=tuple(PoissonRegression.shapes),
    )

    @property
    def dimension(self) -> int:
        return PoissonRegression.shapes[self.dataset][1] + 2

    @property
    def units(self) -> int:
        return PoissonRegression.shapes[self.dataset][0]

    def log_joint(self) -> Sequence[Group]:
        design, y = load(self.dataset, counts=True)
        weights, log_shape = latents(design.shape[1], 1)
        excess = linear(design, weights) - log_shape
        positive = y[y > 0]
        likelihood = [
            Addend(y, (excess,)),
            Addend(-y, link=SOFTPLUS, argument=excess),
            Addend(-1.0, exponent=log_shape, link=SOFTPLUS, argument=excess),
        ]
        # Σ_n Σ_{k < y_n} log(k + φ) − log y_n!, with the terms of all rows that have the same k collected.
        shared = [*normal(log_shape), Addend(float(len(positive)), (log_shape,)), Addend(-np.log(positive))]
        steps = np.arange(1.0, y.max())
        counts = np.sum(y[:, None] > steps, axis=0).astype(float)
        rising = [Addend(counts, link=SOFTPLUS, argument=log_shape + -np.log(steps))]
        return [Group(normal(weights)), Group(shared), Group(rising), Group(likelihood, local=True)]
