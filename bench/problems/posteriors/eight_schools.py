"""The eight schools: effects of coaching on test scores, with a prior whose scale is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.posteriors.densities import (
    Addend,
    half_cauchy,
    noncentred_normal,
    normal,
    normal_of_scale,
    parameterisation_option,
)
from gradmeter.bench.problems.posteriors.log_joint import Group
from gradmeter.bench.problems.posteriors.posterior import LocalPosterior
from gradmeter.bench.problems.posteriors.predictor import latents

#: Estimated effect of every school, and its standard error.
EFFECTS = np.asarray([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.asarray([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
#: Prior scale of μ and of τ.
PRIOR = 5.0


@dataclass(frozen=True)
class EightSchools(LocalPosterior):
    """ELBO of the eight schools, exact by one-dimensional quadrature of τ's prior, and in closed form otherwise.

    y_j ~ N(θ_j, σ_j²) with known σ_j, θ_j ~ N(μ, τ²), μ ~ N(0, 5²), τ ~ half-Cauchy(5). Latent are μ, log τ and, for
    every school, θ_j (`centred`) or η_j = (θ_j − μ)/τ ~ N(0, 1) (`non-centred`).

    z is μ, log τ, and θ_1, …, θ_8 or η_1, …, η_8.

    Source: Rubin 1981; the priors are those of the Stan example. Parameterisations: Betancourt & Girolami 2015.
    """

    name: ClassVar[str] = "eight-schools"
    summary: ClassVar[str] = "ELBO of the eight schools (Rubin 1981), centred or not (exact by 1-D quadrature)"

    parameterisation: str = parameterisation_option()

    @property
    def dimension(self) -> int:
        return 2 + len(EFFECTS)

    @property
    def units(self) -> int:
        return len(EFFECTS)

    def log_joint(self) -> Sequence[Group]:
        mean, log_scale, local = latents(1, 1, len(EFFECTS))
        shared = normal(mean, PRIOR) + half_cauchy(log_scale, PRIOR)
        if self.parameterisation == "centred":
            schools = normal_of_scale(local - mean, log_scale) + normal(EFFECTS - local, ERRORS)
        else:
            schools = normal(local) + noncentred_normal((EFFECTS - mean) / ERRORS, local / ERRORS, log_scale)
            schools.append(Addend(-np.log(ERRORS)))
        return [Group(shared), Group(schools, local=True)]
