"""Score function by importance sampling, with samples from a wider proposal r.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           (1/S) Σ_s w_s f(z_s) ∇_λ log q_λ(z_s),     w = q_λ(z)/r(z), z_s ~ r
requires       a proposal r of the same family that can be sampled and whose density is known; nothing of f.

r is q with a larger scale: `widen` times the scale of a Normal, so widen² times its variance (in general, the
overdispersed member with dispersion widen²). The weights are bounded for widen ≥ 1. For widen < 1 they are unbounded,
with infinite variance for widen² ≤ ½, so a proposal narrower than its target is refused. In D dimensions the largest
weight is widenᴰ; `overdispersed` avoids this by dispersing one coordinate at a time.

The self-normalised form divides the weights by their mean over the S samples. It has a bias of order 1/S, but the level
of f no longer multiplies the noise of the weights.

Sources: Owen 2013, chapter 9 (both forms); Burda et al. 2016 and Mohamed et al. 2020, section 4.2, for the use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators import backends
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.options import option


def refuse_narrow(estimator: str, name: str, value: float) -> None:
    """Check that a proposal is not narrower than its target.

    Parameters
    ----------
    estimator
        Name of the estimator, for the message.
    name
        Name of the option.
    value
        Its value, the width of the proposal over that of the target.

    Raises
    ------
    UsageError
        The value is below 1.
    """
    if value < 1.0:
        raise UsageError(
            f"estimator {estimator} option '{name}' is {value:g}: a proposal narrower than its target has unbounded "
            "weights; it must be at least 1"
        )


@dataclass(frozen=True)
class ImportanceSampling(Estimator):
    """The importance-sampled score function; `widen` = 1 is the plain score function."""

    name: ClassVar[str] = "importance-sampling"
    summary: ClassVar[str] = "score function with samples from a wider q, weighted by q/r"
    requires: ClassVar[Requires] = Requires(("score", "score_identity", "dispersed"))

    widen: float = option(1.25, "the proposal's scale over that of q, at least 1", above=0.0)

    def __post_init__(self) -> None:
        refuse_narrow(self.name, "widen", self.widen)

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        proposal = expectation.family.dispersed(backends.get("numpy"), parameters, self.widen**2)
        found = expectation.family.discontinuities(proposal, dimension)
        if expectation.explicit_blocks:  # the explicit terms are averaged over samples of q
            own = expectation.family.discontinuities(parameters, dimension)
            found = {name: np.concatenate([at, own[name]], axis=-1) for name, at in found.items()}
        return found

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        proposal = family.dispersed(backend, parameters, self.widen**2)
        z = family.sample(backend, proposal, noise)
        log_weight = family.log_density(backend, parameters, z) - family.log_density(backend, proposal, z)
        value = self.weights(xp, log_weight) * expectation.value(backend, parameters, z, noise)
        score = family.score(backend, parameters, z)
        return {name: mean_over_samples(xp, spread(value, s) * s) for name, s in score.items()}

    def weights(self, xp: Any, log_weight: Array) -> Array:
        """Return the weights w [...] from log w."""
        return xp.exp(log_weight)


@dataclass(frozen=True)
class SelfNormalised(ImportanceSampling):
    """Importance sampling with weights that sum to S over the samples of one estimate."""

    name: ClassVar[str] = "self-normalised"
    summary: ClassVar[str] = "importance sampling with weights divided by their mean; biased of order 1/S"
    biased: ClassVar[str | None] = "weights divided by their mean over S samples: biased of order 1/S"

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if num_samples < 2:
            raise NotApplicable(f"self-normalised needs at least 2 samples, not {num_samples}; use --samples 2")

    def smallest_num_samples(self) -> int:
        return 2

    def weights(self, xp: Any, log_weight: Array) -> Array:
        weight = xp.exp(log_weight - xp.max(log_weight, axis=1, keepdims=True))
        return weight / xp.mean(weight, axis=1, keepdims=True)
