"""Off-policy score function: importance sampling from any behaviour distribution r, which does not depend on λ.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           (1/S) Σ_s w_s f(z_s) ∇_λ log q_λ(z_s),     w = q_λ(z)/r(z), z_s ~ r
requires       a behaviour distribution with q's support; nothing of f.

r is any family at any options: `off-policy[behaviour=student-t,df=5,loc=1,scale=2]`. The weights are bounded if r has
tails at least as heavy as those of q; otherwise the variance may be infinite. The default, a Cauchy distribution, has
heavier tails than all other families on the real line.

Source: Owen 2013, chapter 9; Precup, Sutton & Singh 2000 for the use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.enumeration import no_sample
from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, dtype_of, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import FAMILIES, Family, FamilyConfig
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.families.cauchy import Cauchy
from gradmeter.estimators.noise import DrawnNoise, Noise
from gradmeter.estimators.options import alternative

#: Prefix of the names of the behaviour's noise.
PREFIX = "behaviour_"


@dataclass(frozen=True)
class OffPolicy(Estimator):
    """The score function with samples of a behaviour distribution, weighted by q/r."""

    name: ClassVar[str] = "off-policy"
    summary: ClassVar[str] = "score function with samples from any behaviour distribution r, weighted by q/r"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    behaviour: FamilyConfig = alternative(
        Cauchy.Config,
        "r, the family of the samples; its options stand beside it",
        name="behaviour",
        classes={name: cls.Config for name, cls in FAMILIES.items()},
    )

    def also_unsupported(self, family: Family) -> str | None:
        own, other = _support(family), _support(self.behaviour.family)
        same_kind = type(family) is type(self.behaviour.family) and family == self.behaviour.family
        if same_kind or (own is not None and own == other):
            return None
        if other is None or own is None:
            which = family.name if own is None else self.behaviour.family.name
            return (
                f"{self.name} needs to know that the behaviour has the support of q, coordinate by coordinate; family "
                f"{which} does not tell its own: give behaviour={family.name}, for one"
            )
        return (
            f"{self.name} needs a behaviour with the support of family {family.name}; {self.behaviour.family.name} has "
            f"another: give behaviour={family.name}, for one"
        )

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        try:
            self.behaviour.check(dimension)
        except NotApplicable:
            raise
        except UsageError as error:
            raise NotApplicable(f"{self.name}: {error}") from None

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        drawn = self.behaviour.family.noise((num_samples,), dimension)
        prefixed = {PREFIX + name: spec for name, spec in drawn.items()}
        return {**no_sample(dimension), **prefixed, **expectation.noise_specs()}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        family = expectation.family
        if not family.discrete and any(at.size for at in family.discontinuities(parameters, dimension).values()):
            raise NotApplicable(f"{self.name} jumps or bends where q does, at no fixed value of the behaviour's noise")
        found = self.behaviour.family.discontinuities(self.behaviour.parameters(dimension), dimension)
        return {PREFIX + name: at for name, at in found.items()}

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        return self.estimate_and_samples(backend, expectation, parameters, noise, state)[0]

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        """Return the estimate with the samples of r and their weights w/S."""
        xp, family, other = backend.xp, expectation.family, self.behaviour.family
        nothing = noise["nothing"]
        at: dict[str, Any] = {
            name: backend.asarray(values.tolist(), dtype_of(nothing))
            for name, values in self.behaviour.parameters(nothing.shape[-1]).items()
        }
        drawn = {name: noise[PREFIX + name] for name in other.noise((), 1)}
        z = other.sample(backend, at, drawn)
        log_weight = family.log_density(backend, parameters, z) - other.log_density(backend, at, z)
        weight = xp.exp(log_weight) / z.shape[1]
        value = expectation.value(backend, parameters, z, noise)
        # Far out q underflows to 0, and f or the score may overflow.
        value = weight * xp.where(weight > 0.0, value, xp.zeros_like(value))
        gradients = {}
        for name, s in family.score(backend, parameters, z).items():
            finite = xp.where(spread(weight, s) > 0.0, s, xp.zeros_like(s))
            gradients[name] = xp.sum(spread(value, s) * finite, axis=1)
        return gradients, z, weight


def _support(family: Family) -> tuple[float, float, bool] | None:
    """Return the ends of the support of one coordinate that λ does not move, and whether z is discrete; else None."""
    if not has(family, "support_and_tails", "log_densities", "score_identity"):
        return None
    found = family.support_and_tails({name: np.zeros(1) for name in family.blocks})
    high = float("inf") if found.discrete and not has(family, "states") else float(found.high[0])
    return float(found.low[0]), high, found.discrete
