"""Score-function estimator (REINFORCE, the log-derivative trick).

Approximates   ∇_λ E_{q_λ}[f(z)]
with           (1/S) Σ_s (f(z_s) − b) ∇_λ log q_λ(z_s),     z_s ~ q_λ
requires       log q_λ differentiable in λ; nothing of f.

For an ELBO f = log p − log q_λ; the path through log q_λ itself has expectation zero and is left out, as usual
(Ranganath et al. 2014, equation 3).

Sources: Williams 1992; Mohamed et al. 2020, section 4. Baselines: Weaver & Tao 2001 and Greensmith et al. 2004
(optimal constant), Kool et al. 2019 (leave-one-out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from estimators import sobol
from estimators.errors import NotApplicable
from estimators.estimator import Blocks, Estimator, Knowledge, Requires, mean_over_samples, spread
from estimators.expectation import Array, Expectation
from estimators.families import Family
from estimators.noise import Noise
from estimators.options import option

BASELINES = ("none", "mean", "optimal", "moving-average", "leave-one-out")


@dataclass(frozen=True)
class ScoreFunction(Estimator):
    """Baselines b, every one independent of the sample it is subtracted for, so all unbiased:

    `none` 0; `mean` E f, exact where known, else estimated once; `optimal` E[f s²]/E[s²] for each coordinate,
    likewise; `moving-average` an exponentially decayed mean of f over a warm-up, then frozen; `leave-one-out` the
    mean of f over the other S − 1 samples of the same estimate.

    `draws=sobol` makes the samples from the S points of a scrambled Sobol net (`sobol.py`), which depend on each other:
    `leave-one-out` would then be biased, and is refused.
    """

    name: ClassVar[str] = "score-function"
    summary: ClassVar[str] = "(f(z) − b) ∇ log q: REINFORCE, with a choice of baselines"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    baseline: str = option("none", "what is subtracted from f", choices=BASELINES)
    decay: float = option(0.9, "weight of the past in the moving average", above=0.0, below=1.0)
    draws: str = option("independent", "how the samples are drawn", choices=("independent", "sobol"))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if self.baseline == "leave-one-out" and num_samples < 2:
            raise NotApplicable(f"baseline=leave-one-out needs at least 2 samples, not {num_samples}; use --samples 2")
        if self.draws == "sobol":
            if self.baseline == "leave-one-out":
                raise NotApplicable("baseline=leave-one-out needs independent samples; those of draws=sobol are not")
            sobol.check(family, num_samples, dimension)

    def smallest_num_samples(self) -> int:
        return 2 if self.baseline == "leave-one-out" or self.draws == "sobol" else 1

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        if self.draws == "sobol":
            return {**sobol.specs(expectation.family, num_samples, dimension), **expectation.noise_specs()}
        return super().noise_specs(expectation, num_samples, dimension)

    def fit(self, known: Knowledge) -> Blocks:
        if self.baseline == "mean":
            mean = known.warm_up()[0].mean() if known.objective is None else known.objective
            return {"baseline": np.asarray(mean)}
        if self.baseline == "moving-average":
            values = known.warm_up()[0].mean(axis=1)
            weights = self.decay ** np.arange(len(values) - 1, -1, -1, dtype=float)
            return {"baseline": np.asarray(weights @ values / weights.sum())}
        if self.baseline == "optimal":
            optimal = known.optimal_baseline
            if optimal is None:
                values, scores = known.warm_up()
                squares = {name: score * score for name, score in scores.items()}
                optimal = {k: (spread(values, s) * s).sum((0, 1)) / s.sum((0, 1)) for k, s in squares.items()}
            return {f"baseline_{name}": baseline for name, baseline in optimal.items()}
        return {}

    def estimate_integrand(
        self, backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp = backend.xp
        noise = sobol.as_noise(backend, expectation.family, noise)
        z = expectation.family.sample(backend, parameters, noise)
        value = expectation.value(backend, parameters, z, noise)
        score = expectation.family.score(backend, parameters, z)
        if self.baseline == "optimal":
            return {
                name: mean_over_samples(xp, z, (spread(value, s) - state[f"baseline_{name}"]) * s)
                for name, s in score.items()
            }
        if self.baseline == "leave-one-out":  # f − mean of the others = (f − mean of all) S/(S − 1)
            num_samples = value.shape[1]
            value = (value - xp.mean(value, axis=1, keepdims=True)) * (num_samples / (num_samples - 1))
        elif self.baseline != "none":
            value = value - state["baseline"]
        return {name: mean_over_samples(xp, z, spread(value, s) * s) for name, s in score.items()}
