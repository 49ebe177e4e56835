"""MIWAE, PIWAE and CIWAE: importance-weighted bounds whose gradients for λ keep their signal as K grows.

Approximate    ∇ E[log (1/K) Σ_k w_k],     w_k = p(x, z_k)/q_λ(z_k)
with           `miwae`: for λ and θ, the mean of `iwae` over M groups of K/M samples
               `piwae`: that for λ, and `iwae` with all K samples for θ
               `ciwae`: β times pathwise of the ELBO plus 1 − β times `iwae`, for λ and θ
require        log p differentiable in z; a differentiable sample path t. Biased.

The estimates of M groups are unbiased for the bound with K/M samples, and those of `ciwae` for β L_1 + (1 − β) L_K:
other objectives with the same optimum if q can be exact. M has to divide K; a single sample is one group, whatever M
is.

Source: Rainforth et al. 2018, section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.importance_weighted import Groups
from gradmeter.estimators.iwae import Iwae
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Miwae(Iwae):
    """The estimator of the bound with fewer samples, averaged over `parts` groups."""

    name: ClassVar[str] = "miwae"
    summary: ClassVar[str] = "mean of iwae over several groups of fewer samples; biased towards the ELBO"
    biased: ClassVar[str | None] = "differentiates the bound with as many samples as each of its groups has"

    parts: int = option(2, "M, the number of groups that the K samples are split into", minimum=1)

    def check_importance_samples(self, importance_samples: int) -> None:
        if importance_samples > 1 and importance_samples % self.parts:
            fits = max(m for m in range(1, min(self.parts, importance_samples) + 1) if importance_samples % m == 0)
            raise NotApplicable(
                f"{self.name} splits {importance_samples} importance samples into parts={self.parts} equal groups, "
                f"which does not go; give parts={fits}, for example"
            )

    def weights(self, groups: Groups) -> Array:
        return groups.normalised_in_parts(self.parts if groups.size > 1 else 1)


@dataclass(frozen=True)
class Piwae(Miwae):
    """The estimator that splits the samples for λ alone."""

    name: ClassVar[str] = "piwae"
    summary: ClassVar[str] = "miwae for the parameters of q, iwae for those of the model; biased for q"
    biased: ClassVar[str | None] = "differentiates another bound for the parameters of q: the one of miwae"

    def model_weights(self, groups: Groups) -> Array:
        return groups.normalised


@dataclass(frozen=True)
class Ciwae(Iwae):
    """The estimator of a convex combination of the ELBO and the bound."""

    name: ClassVar[str] = "ciwae"
    summary: ClassVar[str] = "β times the ELBO's gradient plus 1 − β times iwae; biased towards the ELBO"
    biased: ClassVar[str | None] = "differentiates β times the ELBO plus 1 − β times the bound"

    beta: float = option(0.5, "β, the share of the ELBO", minimum=0.0, maximum=1.0)

    def weights(self, groups: Groups) -> Array:
        return self.beta / groups.size + (1.0 - self.beta) * groups.normalised
