"""Logistic regression with a horseshoe prior, which shrinks most weights to almost 0 and leaves the others."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.posteriors.densities import (
    Addends,
    bernoulli,
    half_cauchy,
    normal,
    normal_of_scale,
    parameterisation_option,
)
from gradmeter.bench.problems.posteriors.log_joint import Group, LogJoint
from gradmeter.bench.problems.posteriors.posterior import LocalPosterior
from gradmeter.bench.problems.posteriors.predictor import latents, linear
from gradmeter.bench.problems.posteriors.scaled_weights import ScaledWeights
from gradmeter.bench.problems.problem import Exact
from gradmeter.bench.problems.regression import LogisticRegression, load
from gradmeter.bench.problems.rqmc import exact_by_rqmc
from gradmeter.estimators import UsageError
from gradmeter.estimators.options import option

SEED = 20265
#: The true c and w of the generated data, and their number of rows.
TRUTH = (0.5, (2.0, -1.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
ROWS = 80
PRIOR_INTERCEPT = 5.0
#: Numbers of rows and of columns without the intercept.
SHAPES = {"generated": (ROWS, len(TRUTH[1])), **LogisticRegression.shapes}


@functools.cache
def dataset(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return x [N, P] and y [N]."""
    if name != "generated":
        design, response = load(name)
        return design[:, :-1], response
    intercept, weights = TRUTH
    stream = np.random.Generator(np.random.PCG64(SEED))
    x = stream.standard_normal((ROWS, len(weights)))
    probability = 1.0 / (1.0 + np.exp(-(intercept + x @ np.asarray(weights))))
    return x, (stream.random(ROWS) < probability).astype(float)


@dataclass(frozen=True)
class SparseLogistic(LocalPosterior):
    """ELBO of the regression. z is c, w or η, log λ, log τ. A unit is a row.

    y_n ~ Bernoulli(sigmoid(c + x_nᵀw)), w_j ~ N(0, λ_j² τ²), λ_j ~ half-Cauchy(1), τ ~ half-Cauchy(s), c ~ N(0, 5²).
    Latent are c, w_j (`centred`) or η_j = w_j/(λ_j τ) ~ N(0, 1) (`non-centred`), log λ_j and log τ.

    `generated` data are 80 rows of 8 columns N(0, 1), with c = 0.5 and w = (2, −1.5, 1, 0, 0, 0, 0, 0).

    The exact gradient is a one-dimensional quadrature for the centred parameterisation. For the other, the likelihood
    depends on sums of products of Normals and log-Normals, so the reference is by randomised quasi-Monte Carlo.

    Source: Carvalho, Polson & Scott 2010.
    """

    name: ClassVar[str] = "sparse-logistic"
    summary: ClassVar[str] = "ELBO of a logistic regression with a horseshoe prior (1-D quadrature; non-centred, RQMC)"

    dataset: str = option("generated", "generated, or scikit-learn's bundled data", choices=tuple(SHAPES))
    parameterisation: str = parameterisation_option()
    global_scale: float = option(0.1, "s, the scale of τ", above=0.0)

    @property
    def columns(self) -> int:
        return SHAPES[self.dataset][1]

    @property
    def dimension(self) -> int:
        return 2 + 2 * self.columns

    @property
    def units(self) -> int:
        return SHAPES[self.dataset][0]

    @property
    def centred(self) -> bool:
        return self.parameterisation == "centred"

    def check(self) -> None:
        if self.at == "fitted" and not self.centred:
            raise UsageError(f"problem {self.name}: at=fitted is for parameterisation=centred")
        super().check()

    def optimum(self) -> Vectors | None:
        return super().optimum() if self.centred else None

    def _parts(self) -> tuple[Addends, Addends, Addends]:
        """Return the terms of the intercept and of τ, those of the weights and of λ, and the likelihood."""
        x, y = dataset(self.dataset)
        intercept, weights, log_local, log_global = latents(1, self.columns, self.columns, 1)
        shared = normal(intercept, PRIOR_INTERCEPT) + half_cauchy(log_global, self.global_scale)
        prior = normal_of_scale(weights, log_local + log_global) if self.centred else normal(weights)
        return shared, prior + half_cauchy(log_local, 1.0), bernoulli(intercept + linear(x, weights), y)

    def log_joint(self) -> Sequence[Group]:
        shared, local, likelihood = self._parts()
        return [Group(shared), Group(local), Group(likelihood, local=True)]

    @property
    def integrand(self) -> Any:
        whole = super().integrand
        if self.centred:
            return whole
        *plain, scaled = whole.blocks
        return ScaledWeights(LogJoint(tuple(plain)), LogJoint((scaled,)), self.columns)

    def exact(self) -> Exact | None:
        return super().exact() if self.centred else exact_by_rqmc(self, self.parameters())

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values; None for the non-centred parameterisation, whose reference takes seconds."""
        return super().exact_at(parameters) if self.centred else None
