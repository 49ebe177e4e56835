"""VarGrad: the gradient of the log-variance loss, as a score-function estimator.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           1/(S − 1) Σ_s (f(z_s) − f̄)(s_s − s̄),     s_s = ∇_λ log q_λ(z_s), z_s ~ q_λ
requires       log q_λ differentiable in λ; nothing of f.

For an ELBO, with f = log p − log q, it is minus ∇_λ of ½ Var_r[log q_λ − log p] at r = q_λ. The estimate is the
unbiased sample covariance of f and s. So it equals `score-function[baseline=leave-one-out]` (up to rounding, since Σ (f
− f̄) s̄ = 0), and is ½ (f₁ − f₂)(s₁ − s₂) for S = 2. It has a name here because papers compare against it.

Source: Richter et al. 2020, sections 2 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family


@dataclass(frozen=True)
class VarGrad(Estimator):
    """The sample covariance of f and the score."""

    name: ClassVar[str] = "vargrad"
    summary: ClassVar[str] = (
        "sample covariance of f and ∇ log q: score-function[baseline=leave-one-out] by another name"
    )
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if num_samples < 2:
            raise NotApplicable(f"vargrad needs at least 2 samples, not {num_samples}; use --samples 2")

    def smallest_num_samples(self) -> int:
        return 2

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp = backend.xp
        z = expectation.family.sample(backend, parameters, noise)
        logs = expectation.family.logs(backend, parameters, noise)
        value = expectation.value(backend, parameters, z, noise, *logs)
        value = value - xp.mean(value, axis=1, keepdims=True)
        gradients = {}
        for name, s in expectation.family.score(backend, parameters, z, *logs).items():
            s = s - xp.mean(s, axis=1, keepdims=True)
            gradients[name] = xp.sum(spread(value, s) * s, axis=1) / (value.shape[1] - 1)
        return gradients
