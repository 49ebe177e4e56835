"""Double control variates: leave-one-out REINFORCE applied to f minus a linear model built from the other samples.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           (1/S) Σ_s (v_s − mean of the other v) ∇_λ log q_λ(z_s) + α (1/S) Σ_s ∇f(z_s) · ∂μ/∂λ,
               v_s = f(z_s) − α h_s,     h_s = (mean of ∇f over the other samples) · (z_s − μ),     μ = E z
requires       ∇f at the states of z; μ differentiable in λ; independent samples, at least two. Costs 2 S evaluations.

The slope of h_s is independent of z_s, so E[h_s ∇ log q(z_s)] = E ∇f · ∂μ/∂λ, which is added back; and the h of another
sample has mean 0 given z_s. So the estimate is unbiased for any fixed α. It is linear in α, which is fitted by least
squares on other samples to minimise the variance summed over all parameters, and is then frozen.

Source: Titsias & Shi 2022, who learn α by gradient descent on the variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, WarmupContext, concatenated
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.score_function import check_baseline, combine


@dataclass(frozen=True)
class DoubleControlVariates(Estimator):
    """The leave-one-out estimator of f minus a linear model built from ∇f at the other samples."""

    name: ClassVar[str] = "double-control-variates"
    summary: ClassVar[str] = "leave-one-out of f less a linear model, whose slope is ∇f at the other samples"
    requires: ClassVar[Requires] = Requires(("score", "score_identity", "expected"), ("gradient",))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        check_baseline("leave-one-out", num_samples)

    def smallest_num_samples(self) -> int:
        return 2

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return 2 * num_samples

    def fit(self, known: WarmupContext) -> Blocks:
        assert known.pilot is not None
        backend, expectation, parameters, noise = known.pilot()
        plain, taken = (
            concatenated(backend, blocks) for blocks in self._parts(backend, expectation, parameters, noise)
        )
        plain, taken = plain - plain.mean(axis=0), taken - taken.mean(axis=0)
        size = float((taken * taken).sum())
        return {"coefficient": np.asarray(float((plain * taken).sum()) / size if size > 0.0 else 0.0)}

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        plain, taken = self._parts(backend, expectation, parameters, noise)
        return {name: plain[name] - state["coefficient"] * taken[name] for name in plain}

    def _parts(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]
    ) -> tuple[Blocks, Blocks]:
        """Return the leave-one-out estimate, and the mean-0 term subtracted for α = 1; by block [R, *shape]."""
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        score = family.score(backend, parameters, z)
        slope = expectation.gradient(backend, parameters, z, noise)
        others = (xp.sum(slope, axis=1, keepdims=True) - slope) / (z.shape[1] - 1)
        model = xp.sum(others * (z - family.expected(backend, parameters)), axis=-1)
        value = expectation.value(backend, parameters, z, noise)
        plain, sampled = (combine(backend, "leave-one-out", v, score, {}) for v in (value, model))
        exact = family.expected_pathwise(backend, parameters, slope)
        return plain, {name: sampled[name] - xp.mean(exact[name], axis=1) for name in plain}
