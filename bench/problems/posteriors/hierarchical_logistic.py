"""A logistic regression whose intercept varies between groups."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.posteriors.densities import bernoulli, half_normal, normal, normal_of_scale
from gradmeter.bench.problems.posteriors.log_joint import Group
from gradmeter.bench.problems.posteriors.posterior import LocalPosterior
from gradmeter.bench.problems.posteriors.predictor import latents, linear
from gradmeter.estimators.options import option

#: The true μ, β and τ.
TRUTH = (-0.3, (0.8, -0.5), 0.7)
SEED = 20262
PRIOR, PRIOR_SCALE = 2.0, 1.0


@functools.cache
def generated(groups: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x [groups · size, 2] and y [groups · size], group by group."""
    mean, slopes, between = TRUTH
    stream = np.random.Generator(np.random.PCG64(SEED))
    intercepts = np.repeat(mean + between * stream.standard_normal(groups), size)
    x = stream.standard_normal((groups * size, len(slopes)))
    probability = 1.0 / (1.0 + np.exp(-(intercepts + x @ np.asarray(slopes))))
    return x, (stream.random(groups * size) < probability).astype(float)


@dataclass(frozen=True)
class HierarchicalLogistic(LocalPosterior):
    """ELBO of the regression, exact by one-dimensional quadrature. z is μ, β_1, β_2, log τ, α_1, …, α_J.

    y_ji ~ Bernoulli(sigmoid(α_j + β·x_ji)), α_j ~ N(μ, τ²), μ, β ~ N(0, 2²), τ ~ half-normal(1). Latent are μ, β, log τ
    and α_j.

    The data are generated, with two covariates N(0, 1), μ = −0.3, β = (0.8, −0.5) and τ = 0.7.

    Source: Gelman & Hill 2007, chapter 14.
    """

    name: ClassVar[str] = "hierarchical-logistic"
    summary: ClassVar[str] = "ELBO of a logistic regression with an intercept per group (exact by 1-D quadrature)"

    groups: int = option(8, "J, the number of groups", minimum=1, maximum=100)
    size: int = option(10, "observations of a group", minimum=1, maximum=100)

    @property
    def dimension(self) -> int:
        return 4 + self.groups

    @property
    def units(self) -> int:
        return self.groups

    def log_joint(self) -> Sequence[Group]:
        x, y = generated(self.groups, self.size)
        mean, slopes, log_between, intercepts = latents(1, 2, 1, self.groups)
        shared = normal(mean, PRIOR) + half_normal(log_between, PRIOR_SCALE)
        prior = normal_of_scale(intercepts - mean, log_between)
        likelihood = bernoulli(intercepts.repeat(self.size) + linear(x, slopes), y)
        return [
            Group(shared),
            Group(normal(slopes, PRIOR)),
            Group(prior, local=True),
            Group(likelihood, local=True),
        ]
