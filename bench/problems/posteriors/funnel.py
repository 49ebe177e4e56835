"""The funnel: a scale that is latent, and coordinates of that scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.bench.problems.posteriors.densities import normal, normal_of_scale
from gradmeter.bench.problems.posteriors.log_joint import Group
from gradmeter.bench.problems.posteriors.posterior import Posterior
from gradmeter.bench.problems.posteriors.predictor import latents
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Funnel(Posterior):
    """ELBO of Neal's funnel, exact in closed form. z is v, then x_1, …, x_{D−1}.

    v ~ N(0, 3²) and x_i | v ~ N(0, exp(v)), normalised: log ∫ p = 0.

    Source: Neal 2003, section 8.
    """

    name: ClassVar[str] = "funnel"
    summary: ClassVar[str] = "ELBO of Neal's funnel: a latent scale, and coordinates of that scale (closed form)"

    dim: int = option(10, "number of coordinates D", minimum=2, maximum=1000)
    width: float = option(3.0, "standard deviation of v", above=0.0)

    @property
    def dimension(self) -> int:
        return self.dim

    def log_joint(self) -> Sequence[Group]:
        v, x = latents(1, self.dim - 1)
        return [Group(normal(v, self.width)), Group(normal_of_scale(x, 0.5 * v))]
