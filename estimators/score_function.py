"""Score-function estimator (REINFORCE, the log-derivative trick).

Approximates   ∇_λ E_{q_λ}[f(z)]
with           (1/S) Σ_s (f(z_s) − b) ∇_λ log q_λ(z_s),     z_s ~ q_λ
requires       log q_λ differentiable in λ; nothing of f.

For an ELBO, f = log p − log q_λ. The derivative of this log q_λ with respect to λ has expectation zero and is left out,
as usual (Ranganath et al. 2014, equation 3).

Sources: Williams 1992; Mohamed et al. 2020, section 4. Baselines: Weaver & Tao 2001 and Greensmith et al. 2004 (optimal
constant), Ranganath et al. 2014 (fitted coefficients), Kool et al. 2019 (leave-one-out), Mnih & Gregor 2014
(input-dependent: NVIL, but without dividing by a running standard deviation, since that would rescale the gradient).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators import draws, input_baseline
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, WarmupContext, mean_over_samples, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option

BASELINES = (
    *("none", "mean", "optimal", "moving-average", "input-dependent", "fitted", "cross-fitted", "leave-one-out"),
)
#: Baselines made from other samples of the same estimate, and the fewest samples they need.
FROM_OTHERS = {"leave-one-out": 2, "cross-fitted": 2}
#: A score whose standard deviation is less than this, relative to its size, counts as constant: only rounding varies.
CONSTANT = 1e-12


@dataclass(frozen=True)
class ScoreFunction(Estimator):
    """The score-function estimator, with a choice of baselines b.

    Every baseline is independent of the sample it is subtracted for, so all are unbiased:

    - `none`: 0.
    - `mean`: E f, exact where known, else estimated once on a warm-up.
    - `optimal`: E[f s²]/E[s²] for each coordinate, exact where known, else estimated once on a warm-up.
    - `moving-average`: an exponentially decayed mean of f over a warm-up, then frozen.
    - `input-dependent`: a function of the minibatch's rows, learned on a warm-up, then frozen (`input_baseline.py`).
    - `fitted`: the coefficient Cov(f s, s)/Var(s) of s as a control variate, for each coordinate, over a warm-up, then
      frozen.
    - `cross-fitted`: the coefficient Σ f s²/Σ s² over the other half of the samples of the same estimate. Since E s =
      0, Σ s² stands in place of the sample variance of s; the coefficient is then a weighted mean of f, which has
      moments, while a ratio of sample covariances may have none.
    - `leave-one-out`: the mean of f over the other S − 1 samples.

    With `draws` = antithetic, stratified or sobol the samples are dependent (`draws.py`), so `cross-fitted` and
    `leave-one-out` are refused.
    """

    name: ClassVar[str] = "score-function"
    summary: ClassVar[str] = "(f(z) − b) ∇ log q: REINFORCE, with a choice of baselines"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    baseline: str = option("none", "what is subtracted from f", choices=BASELINES)
    decay: float = option(0.9, "weight of the past in the moving average", above=0.0, below=1.0)
    draws: str = option("independent", "how the samples of an estimate are drawn", choices=draws.DRAWS)

    def also_requires(self, entropy: str) -> Requires:
        mirrored = ("mirrored",) if self.draws == "antithetic" else ()
        return Requires(mirrored, inputs=self.baseline == "input-dependent")

    def also_unsupported(self, family: Family) -> str | None:
        return draws.unsupported_reason(self.draws, family)

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if self.baseline in FROM_OTHERS and self.draws != "independent":
            raise NotApplicable(
                f"baseline={self.baseline} needs independent samples; those of draws={self.draws} are not"
            )
        check_baseline(self.baseline, num_samples)
        draws.check(self.draws, family, num_samples, dimension)

    def smallest_num_samples(self) -> int:
        return FROM_OTHERS.get(self.baseline, 1 if self.draws == "independent" else 2)

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        return {**draws.specs(self.draws, expectation.family, num_samples, dimension), **expectation.noise_specs()}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        found = super().discontinuities(expectation, parameters, num_samples, dimension)
        if self.draws == "stratified":
            return draws.stratified_jumps(expectation.family, found, num_samples)
        return draws.mirrored_jumps(expectation.family, found) if self.draws == "antithetic" else found

    def fit(self, known: WarmupContext) -> Blocks:
        if self.baseline == "mean":
            mean = known.warm_up()[0].mean() if known.objective is None else known.objective
            return {"baseline": np.asarray(mean)}
        if self.baseline == "moving-average":
            values = known.warm_up()[0].mean(axis=1)
            weights = self.decay ** np.arange(len(values) - 1, -1, -1, dtype=float)
            return {"baseline": np.asarray(weights @ values / weights.sum())}
        if self.baseline == "input-dependent":
            assert known.pilot is not None
            return input_baseline.learn(*known.pilot())
        if self.baseline == "optimal":
            optimal = known.optimal_baseline
            if optimal is None:
                values, scores = known.warm_up()
                squares = {name: score * score for name, score in scores.items()}
                optimal = {k: _quotient((spread(values, s) * s).sum((0, 1)), s.sum((0, 1))) for k, s in squares.items()}
            return {f"baseline_{name}": baseline for name, baseline in optimal.items()}
        if self.baseline == "fitted":
            values, scores = known.warm_up()
            return {f"baseline_{name}": fitted_coefficient(spread(values, s), s) for name, s in scores.items()}
        return {}

    def family_noise(self, backend: Backend, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
        return draws.as_noise(backend, family, self.draws, noise)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        noise = self.family_noise(backend, expectation.family, noise)
        z = expectation.family.sample(backend, parameters, noise)
        logs = expectation.family.logs(backend, parameters, noise)
        value = expectation.value(backend, parameters, z, noise, *logs)
        score = expectation.family.score(backend, parameters, z, *logs)
        if self.baseline == "input-dependent":
            value = value - input_baseline.of_rows(backend, expectation, noise, state)
            return combine(backend, "none", value, score, state)
        return combine(backend, self.baseline, value, score, state)


def check_baseline(baseline: str, num_samples: int) -> None:
    """Raise NotApplicable if a baseline cannot be made from that many samples."""
    fewest = FROM_OTHERS.get(baseline, 1)
    if num_samples < fewest:
        raise NotApplicable(
            f"baseline={baseline} needs at least {fewest} samples, not {num_samples}; use --samples {fewest}"
        )
    if baseline == "cross-fitted" and num_samples % 2:
        raise NotApplicable(f"baseline=cross-fitted halves the samples, so they must be even, not {num_samples}")


def combine(backend: Backend, baseline: str, value: Array, score: Blocks, state: Blocks) -> Blocks:
    """Return the mean over the samples of (f − b) s, by block.

    Parameters
    ----------
    backend
        Array framework.
    baseline
        Option of the estimator.
    value
        f [R, S], or [R, S, D] with one value per coordinate.
    score
        s [R, S, *shape] by block.
    state
        What the estimator learned on its warm-up.
    """
    xp = backend.xp
    if baseline in ("optimal", "fitted"):
        return {
            name: mean_over_samples(xp, _above(xp, value, state[f"baseline_{name}"], s) * s)
            for name, s in score.items()
        }
    if baseline == "cross-fitted":
        return {name: _cross_fitted(xp, spread(value, s), s) for name, s in score.items()}
    if baseline == "leave-one-out":  # f − mean of the others = (f − mean of all) S/(S − 1)
        num_samples = value.shape[1]
        value = (value - xp.mean(value, axis=1, keepdims=True)) * (num_samples / (num_samples - 1))
    elif baseline != "none":
        value = value - state["baseline"]
    return {name: mean_over_samples(xp, spread(value, s) * s) for name, s in score.items()}


def _above(xp: Any, value: Array, baseline: Array, score: Array) -> Array:
    """Return f − b with one baseline per parameter; for S = 1, in the memory order of the scores."""
    if value.shape[1] == baseline.ndim == 1:
        return xp.matrix_transpose(value[:, 0][None, :] - baseline[:, None])[:, None, :]
    return spread(value, score) - baseline


def fitted_coefficient(value: Array, score: Array) -> Array:
    """Return Cov(f s, s)/Var(s) over a warm-up, for NumPy arrays [W, S, *shape] (Ranganath et al. 2014, equation 9).

    The coefficient is 0 where the score is constant over the warm-up, as for a state that was never drawn.
    """
    product = value * score
    centred = score - score.mean((0, 1))
    rounding = (CONSTANT * score) ** 2
    return _quotient((product * centred).sum((0, 1)), (centred * centred).sum((0, 1)), rounding.sum((0, 1)))


def _quotient(above: Array, below: Array, least: Array | float = 0.0) -> Array:
    """Divide NumPy arrays; the result is 0 where `below` is not more than `least`."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > least)


def _cross_fitted(xp: Any, value: Array, score: Array) -> Array:
    """Return the mean [R, *shape] over samples of (f − b) s, for f and s [R, S, *shape].

    b of each half of the samples is the coefficient from the other half.
    """
    half = score.shape[1] // 2
    square = score * score
    parts = []
    for own, other in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
        size = xp.sum(square[:, other, ...], axis=1, keepdims=True)
        moment = xp.sum((value * square)[:, other, ...], axis=1, keepdims=True)
        nothing = size == 0.0  # every score rounded to 0: any coefficient will do
        coefficient = xp.where(nothing, xp.zeros_like(moment), moment / xp.where(nothing, xp.ones_like(size), size))
        parts.append(xp.mean((value[:, own, ...] - coefficient) * score[:, own, ...], axis=1))
    return 0.5 * (parts[0] + parts[1])
