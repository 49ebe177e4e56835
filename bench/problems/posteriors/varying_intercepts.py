"""A linear regression whose intercept varies between groups, and whose scales are learnt."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.posteriors.densities import (
    half_normal,
    noncentred_normal,
    normal,
    normal_of_scale,
    parameterisation_option,
)
from gradmeter.bench.problems.posteriors.log_joint import Group
from gradmeter.bench.problems.posteriors.posterior import LocalPosterior
from gradmeter.bench.problems.posteriors.predictor import latents
from gradmeter.estimators.options import option

#: The true μ, β, τ and σ.
TRUTH = (1.0, -0.5, 0.8, 0.6)
SEED = 20261
PRIOR, PRIOR_SCALE = 5.0, 2.0


@functools.cache
def generated(groups: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, each [groups · size], group by group."""
    mean, slope, between, within = TRUTH
    stream = np.random.Generator(np.random.PCG64(SEED))
    intercepts = np.repeat(mean + between * stream.standard_normal(groups), size)
    x, noise = stream.standard_normal((2, groups * size))
    return x, intercepts + slope * x + within * noise


@dataclass(frozen=True)
class VaryingIntercepts(LocalPosterior):
    """ELBO of the regression, exact in closed form. z is μ, β, log τ, log σ, and α_1, …, α_J or η_1, …, η_J.

    y_ji ~ N(α_j + β x_ji, σ²), α_j ~ N(μ, τ²), μ, β ~ N(0, 5²), τ, σ ~ half-normal(2). Latent are μ, β, log τ, log σ
    and, for every group, α_j (`centred`) or η_j = (α_j − μ)/τ ~ N(0, 1) (`non-centred`).

    The data are generated, x_ji ~ N(0, 1), with μ = 1, β = −0.5, τ = 0.8 and σ = 0.6.

    Source: Gelman & Hill 2007, chapter 12.
    """

    name: ClassVar[str] = "varying-intercepts"
    summary: ClassVar[str] = "ELBO of a regression with an intercept per group, scales learnt (closed form)"

    groups: int = option(8, "J, the number of groups", minimum=1, maximum=100)
    size: int = option(6, "observations of a group", minimum=1, maximum=100)
    parameterisation: str = parameterisation_option()

    @property
    def dimension(self) -> int:
        return 4 + self.groups

    @property
    def units(self) -> int:
        return self.groups

    def log_joint(self) -> Sequence[Group]:
        x, y = generated(self.groups, self.size)
        mean, slope, log_between, log_within, local = latents(1, 1, 1, 1, self.groups)
        shared = normal(mean, PRIOR) + normal(slope, PRIOR)
        shared += half_normal(log_between, PRIOR_SCALE) + half_normal(log_within, PRIOR_SCALE)
        rows, left = local.repeat(self.size), y - slope * x
        if self.parameterisation == "centred":
            prior, likelihood = normal_of_scale(local - mean, log_between), normal_of_scale(left - rows, log_within)
        else:
            prior, likelihood = normal(local), noncentred_normal(left - mean, rows, log_between, log_within)
        return [Group(shared), Group(prior, local=True), Group(likelihood, local=True)]
