"""Item response: which person answers which item correctly."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.posteriors.densities import Addend, bernoulli, normal
from gradmeter.bench.problems.posteriors.links import SOFTPLUS
from gradmeter.bench.problems.posteriors.log_joint import Group
from gradmeter.bench.problems.posteriors.posterior import LocalPosterior
from gradmeter.bench.problems.posteriors.predictor import latents
from gradmeter.estimators import UsageError
from gradmeter.estimators.options import option

SEED = 20264
PRIOR_DIFFICULTY, PRIOR_DISCRIMINATION = 2.0, 0.5
#: Largest σ of log a for which the exact gradient is computed; the number of nodes grows as its exponential.
WIDEST = 1.0


@functools.cache
def generated(persons: int, items: int, parameters: int) -> np.ndarray:
    """Return y [persons · items], person by person."""
    stream = np.random.Generator(np.random.PCG64(SEED))
    ability, difficulty = stream.standard_normal((persons, 1)), np.linspace(-1.0, 1.0, items)
    discrimination = np.where(np.arange(items) % 2 == 0, 0.7, 1.4) if parameters == 2 else np.ones(items)
    probability = 1.0 / (1.0 + np.exp(-discrimination * (ability - difficulty)))
    return np.ravel(stream.random((persons, items)) < probability).astype(float)


@dataclass(frozen=True)
class ItemResponse(LocalPosterior):
    """ELBO of the model, exact by quadrature: of one dimension with one parameter per item, of two with two.

    y_pi ~ Bernoulli(sigmoid(a_i (θ_p − b_i))) with abilities θ_p ~ N(0, 1), difficulties b_i ~ N(0, 2²) and
    discriminations a_i, which are 1 with one parameter per item (Rasch), or log a_i ~ N(0, 0.5²) with two. Latent are
    b_i, log a_i and θ_p.

    The data are generated with b_i evenly spaced from −1 to 1 and a_i = 1, with two parameters alternately 0.7 and 1.4.

    z is b_1, …, b_I, then with two parameters log a_1, …, log a_I, then θ_1, …, θ_P. A unit is a person.

    Source: Gelman & Hill 2007, section 14.3.
    """

    name: ClassVar[str] = "item-response"
    summary: ClassVar[str] = "ELBO of item response, one or two parameters per item (exact by 1-D or 2-D quadrature)"

    persons: int = option(16, "P, the number of persons", minimum=1, maximum=200)
    items: int = option(5, "I, the number of items", minimum=1, maximum=50)
    item_parameters: int = option(
        1, "parameters per item: 1, its difficulty; 2, its discrimination too", minimum=1, maximum=2
    )

    @property
    def dimension(self) -> int:
        return self.item_parameters * self.items + self.persons

    @property
    def units(self) -> int:
        return self.persons

    def check(self) -> None:
        super().check()
        scale = float(np.max(getattr(self.q, "scale", 0.0)))
        if self.item_parameters == 2 and self.at == "given" and scale > WIDEST:
            raise UsageError(
                f"problem {self.name}: scale is {scale:g}; its exact gradient is known up to scale={WIDEST:g}"
            )

    def log_joint(self) -> Sequence[Group]:
        y = generated(self.persons, self.items, self.item_parameters)
        sizes = (self.items,) * self.item_parameters
        difficulty, *more, ability = latents(*sizes, self.persons)
        item = np.tile(np.arange(self.items), self.persons)
        away = ability.repeat(self.items) - difficulty[item]
        if more:
            log_scale = more[0][item]
            softplus = Addend(-1.0, link=SOFTPLUS, argument=away, log_scale=log_scale)
            items = normal(difficulty, PRIOR_DIFFICULTY) + normal(more[0], PRIOR_DISCRIMINATION)
            likelihood = [Addend(y, (away,), log_scale), softplus]
        else:
            items, likelihood = normal(difficulty, PRIOR_DIFFICULTY), bernoulli(away, y)
        return [Group(items), Group(normal(ability), local=True), Group(likelihood, local=True)]
