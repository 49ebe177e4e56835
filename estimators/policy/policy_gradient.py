"""Policy gradients of sequence policies, with the choices of the trainers of language models.

Approximates   ∇ (E_π[Σ_t r_t] − β KL(π ‖ π_ref)) of one prompt
with           (1/S) Σ_s w_s Σ_t (ρ_st A_st − β κ_st) ∇ log π(a_st | a_s1 … a_s,t−1),     z_s ~ μ
requires       a sequence policy. π_ref and μ are those of the problem `policy`; elsewhere f is the reward and μ = π.

A is the advantage, ρ an importance ratio π/μ, w a weight by length and κ the derivative of an estimate of the KL
divergence. With k = log π/π_ref, by token or for the sequence:

    k1-loss   k               κ = 1               k1-reward   β k taken off the reward
    k2-loss   k²/2            κ = k               k2-reward   β k²/2 taken off the reward
    k3-loss   e^−k − 1 + k    κ = 1 − e^−k        k3-reward   β (e^−k − 1 + k) taken off the reward
    k1-ratio  κ = ρ k                             k3-ratio    κ = ∇(ρ k3)/∇ log π = ρ (k3 + 1 − e^−k) = ρ k

Expectations under μ = π, from E ∇ log π = 0:

- k1 in the loss has gradient 0: no regularisation at all.
- k2 in the loss, by sequence, has the gradient of the KL divergence. By token, the terms by which a token changes the
  later prefixes are missing: the gradient of Σ_prefix d(prefix) KL(π(· | prefix) ‖ π_ref(· | prefix)) with d, the
  probability of visiting a prefix, held fixed.
- k3 in the loss, by sequence, has the gradient of the other divergence, KL(π_ref ‖ π): E_π[(1 − π_ref/π) ∇ log π] =
  −E_ref[∇ log π]. By token it is −Σ d(prefix) E_ref(· | prefix)[∇ log π], with the same d held fixed.
- k2 in the reward, by sequence: E_π[k²/2 ∇ log π] = ∇(E_π[k²/2] − KL(π ‖ π_ref)), since ∇(k²/2) = k ∇ log π. By token,
  E_π[Σ k²/2] of the tokens takes the place of E_π[k²/2], and the KL divergence is that of k2 in the loss.
- k3 in the reward has the mean of k1, but not its gradient: by sequence E_π[k3 ∇ log π] = ∇KL(π ‖ π_ref) −
  ∇KL(π_ref ‖ π).

Sources: Williams 1992; Schulman et al. 2017 (PPO); Schulman 2020, "Approximating KL divergence" (k1, k2, k3); Shao et
al. 2024 (GRPO); Ahmadian et al. 2024 (RLOO); Liu et al. 2025, arXiv 2503.20783 (Dr. GRPO); Yu et al. 2025, arXiv
2503.14476 (DAPO); Zheng et al. 2025, arXiv 2507.18071 (GSPO); Tang & Munos 2025, arXiv 2506.09477 (KL gradients).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import NOTHING, Blocks, Estimator, Requires
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.families.logs import log_softmax
from gradmeter.estimators.families.sequence_policy import SequencePolicy, Steps, steps_of
from gradmeter.estimators.noise import DrawnNoise, Noise
from gradmeter.estimators.options import option
from gradmeter.estimators.policy.objective import PolicyObjective

#: Added to the standard deviation of the returns, as trainers do.
STABLE = 1e-4
HELD = "after each prefix, with the visits of prefixes held fixed"
#: What takes the place of KL(π ‖ π_ref) in the objective, on policy, by `kl` and `kl_level`.
FOLLOWED = {
    **dict.fromkeys((("none", "sequence"), ("none", "token")), "there is no KL term"),
    **dict.fromkeys((("k1-loss", "sequence"), ("k1-loss", "token")), "the gradient of the KL term has mean 0"),
    **{(kl, "token"): f"the KL term is KL(π ‖ π_ref) {HELD}" for kl in ("k2-loss", "k1-ratio", "k3-ratio")},
    ("k3-loss", "sequence"): "the KL term is KL(π_ref ‖ π)",
    ("k3-loss", "token"): f"the KL term is KL(π_ref ‖ π) {HELD}",
    ("k2-reward", "sequence"): "the KL term is E[k²/2] − KL(π ‖ π_ref)",
    ("k2-reward", "token"): f"the KL term is E[Σ k²/2] of the tokens less KL(π ‖ π_ref) {HELD}",
    ("k3-reward", "sequence"): "the KL term is KL(π ‖ π_ref) − KL(π_ref ‖ π)",
    ("k3-reward", "token"): f"the KL term is KL(π ‖ π_ref) of the sequence less KL(π_ref ‖ π) {HELD}",
}
#: What other options do to the gradient, by option and value.
CHANGED = {
    ("baseline", "group-mean"): "the group mean takes off 1/S of the gradient of the rewards",
    ("normalise", "std"): "advantages are divided by the deviation of their group",
    ("length", "constant"): "the sum over tokens is divided by T",
    ("length", "token-mean"): "tokens are weighted by 1/mean length of their group",
    ("length", "sequence-mean"): "tokens are weighted by 1/length of their sequence",
}
#: The same, where another policy μ draws the samples.
CHANGED_OFF_POLICY = {
    ("ratio", "none"): "sequences are weighted by μ instead of π",
    ("ratio", "token"): "the tokens before and after one are weighted by μ instead of π",
    ("ratio", "geometric"): "sequences are weighted by μ (π/μ)^(1/length) instead of π",
}
KL = ("none", "k1-reward", "k2-reward", "k3-reward", "k1-loss", "k2-loss", "k3-loss", "k1-ratio", "k3-ratio")


@dataclass(frozen=True)
class PolicyGradient(Estimator):
    """The gradient of the loss of a trainer, from S samples of one prompt: its group."""

    name: ClassVar[str] = "policy-gradient"
    summary: ClassVar[str] = "gradient of the loss of a language-model trainer: REINFORCE, GRPO, PPO, GSPO, …"
    requires: ClassVar[Requires] = Requires(("score",))

    advantage: str = option("whole", "rewards that a token is credited with", choices=("whole", "to-go"))
    baseline: str = option(
        "none",
        "what is subtracted: the mean return of the group, with the sample itself or of the others",
        choices=("none", "group-mean", "leave-one-out"),
    )
    normalise: str = option("none", "what advantages are divided by", choices=("none", "std"))
    length: str = option(
        "none",
        "weight of a token: 1, 1/tokens of the group × S, 1/tokens of its sequence, 1/T",
        choices=("none", "token-mean", "sequence-mean", "constant"),
    )
    ratio: str = option(
        "none",
        "importance ratio π/μ: of the token, of the sequence, its geometric mean over the tokens",
        choices=("none", "token", "sequence", "geometric"),
    )
    clip: float = option(0.0, "ε of PPO: ratios beyond 1 ± ε stop the gradient; 0 for none", minimum=0.0)
    clip_high: float = option(0.0, "the upper ε, if it is another; 0 for the same", minimum=0.0)
    truncate: float = option(0.0, "the largest importance ratio, without gradient beyond; 0 for none", minimum=0.0)
    drop: bool = option(False, "whether ratios above `truncate` count as 0 instead")
    kl: str = option("none", "how the KL divergence to π_ref enters", choices=KL)
    kl_level: str = option("sequence", "whether k is of the sequence or of each token", choices=("sequence", "token"))
    entropy_bonus: float = option(0.0, "coefficient of the entropy of π after every prefix visited", minimum=0.0)

    def follows(self, problem: Mapping[str, Any] = NOTHING) -> str | None:
        off_policy = problem.get("behaviour", "on-policy") != "on-policy"
        found = [FOLLOWED[self.kl, self.kl_level]] if (self.kl, self.kl_level) in FOLLOWED else []
        found = found if problem.get("beta") else []
        found += [f"{self.entropy_bonus:g} times the entropy {HELD}, is added"] if self.entropy_bonus else []
        changed = CHANGED | (CHANGED_OFF_POLICY if off_policy else {})
        found += [words for (name, value), words in changed.items() if getattr(self, name) == value]
        limited = off_policy and (self.clip or self.clip_high or self.truncate)
        found += ["ratios beyond the limit are cut"] if limited else []
        found += ["some sequences are never drawn"] if problem.get("behaviour") == "top-p" else []
        return "; ".join(found) or None

    @property
    def weighs_by_ratio(self) -> bool:
        """Whether unlimited importance ratios enter: rare samples from μ may then hold much of the mean."""
        return (self.ratio != "none" and not self.truncate) or self.kl.endswith("-ratio")

    def also_unsupported(self, family: Family) -> str | None:
        if isinstance(family, SequencePolicy):
            return None
        return f"{self.name} needs a policy over tokens; family {family.name} draws none: use problem policy"

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        fewest = self.smallest_num_samples()
        if num_samples < fewest:
            what = f"normalise={self.normalise}" if self.normalise != "none" else f"baseline={self.baseline}"
            raise NotApplicable(f"{what} needs at least {fewest} samples, not {num_samples}; use --samples {fewest}")
        if (self.clip or self.clip_high or self.truncate) and self.ratio == "none":
            raise NotApplicable("clip and truncate limit importance ratios; give ratio=token, sequence or geometric")
        if self.drop and not self.truncate:
            raise NotApplicable("drop is for ratios above truncate; give truncate=2, for example")

    def smallest_num_samples(self) -> int:
        return 2 if self.baseline != "none" or self.normalise != "none" else 1

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        if self.kl != "none" and not isinstance(expectation.integrand, PolicyObjective):
            raise NotApplicable(f"kl={self.kl} needs a problem that has a reference policy: use problem policy")
        return super().noise_specs(expectation, num_samples, dimension)

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        objective = expectation.integrand
        if isinstance(objective, PolicyObjective):
            behaviour = objective.behaviour(np, {**expectation.data, "logits": parameters["logits"][None, None]})
            parameters = {"logits": behaviour[0, 0]}
        return expectation.family.discontinuities(parameters, dimension)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        xp, objective, data = backend.xp, expectation.integrand, expectation.data
        policy = log_softmax(xp, parameters["logits"])
        beta: Array = 0.0
        share: Array = 1.0
        if isinstance(objective, PolicyObjective):
            behaviour, beta, share = objective.behaviour(xp, data), data["beta"], data["share"]
            z = expectation.family.sample(backend, {"logits": behaviour}, noise)
            steps = steps_of(xp, z, policy)
            reference = objective.reference(xp, data, noise)
            rewards = objective.rewards(xp, data, z, steps, noise)
        else:  # f is the reward, at the end
            behaviour = reference = policy
            z = expectation.family.sample(backend, parameters, noise)
            steps = steps_of(xp, z, policy)
            rewards = steps.at_end(xp, expectation.value(backend, parameters, z, noise)[..., None])
        log_policy = steps.read(xp, policy)
        above = log_policy - steps.read(xp, reference)  # log π/π_ref [R, S, T]
        away = log_policy - steps.read(xp, behaviour)  # log π/μ
        advantage = self._advantages(xp, rewards, above, beta)
        weight = self._weights(xp, steps)
        credit = self._ratios(xp, away, steps, advantage) - beta * self._kl_slope(xp, above, away)
        table = xp.exp(policy)[:, 0, ...] if policy.ndim > 2 else xp.exp(policy)
        slope = _pulled(xp, steps, weight * credit, table)
        if self.entropy_bonus:
            slope = slope + self.entropy_bonus * _entropy_slope(xp, steps, weight, table)
        return {"logits": slope * (share / z.shape[1])}

    def _advantages(self, xp: Any, rewards: Array, above: Array, beta: Array) -> Array:
        """Return A [R, S, T], without importance ratios."""
        whole = xp.sum(rewards, axis=-1, keepdims=True) + xp.zeros_like(rewards)
        if self.kl.endswith("-reward"):
            k = self._at_level(xp, above)
            penalty = xp.expm1(-k) + k if self.kl == "k3-reward" else k if self.kl == "k1-reward" else 0.5 * k * k
            if self.kl_level == "token":
                rewards = rewards - beta * penalty
                whole = xp.sum(rewards, axis=-1, keepdims=True) + xp.zeros_like(rewards)
            else:
                whole = whole - beta * penalty
        returns = whole
        if self.advantage == "to-go":  # what was earned before is taken off
            returns = whole - xp.cumulative_sum(rewards, axis=-1) + rewards
        count = returns.shape[1]
        found = returns
        if self.baseline != "none":
            found = returns - xp.mean(returns, axis=1, keepdims=True)
            found = found * (count / (count - 1)) if self.baseline == "leave-one-out" else found
        if self.normalise == "std":
            apart = whole - xp.mean(whole, axis=1, keepdims=True)
            found = found / (xp.sqrt(xp.sum(apart * apart, axis=1, keepdims=True) / (count - 1)) + STABLE)
        return found

    def _at_level(self, xp: Any, by_token: Array) -> Array:
        """Return logarithms of ratios by token, or those of their sequence at every token [R, S, T]."""
        if self.kl_level == "token":
            return by_token
        return xp.sum(by_token, axis=-1, keepdims=True) + xp.zeros_like(by_token)

    def _kl_slope(self, xp: Any, above: Array, away: Array) -> Array:
        """Return κ [R, S, T]."""
        k = self._at_level(xp, above)
        if self.kl == "k1-loss":
            return xp.ones_like(k)
        if self.kl == "k2-loss":
            return k
        if self.kl == "k3-loss":
            return -xp.expm1(-k)
        if self.kl in ("k1-ratio", "k3-ratio"):
            slope = k if self.kl == "k1-ratio" else (xp.expm1(-k) + k) - xp.expm1(-k)
            return xp.exp(self._at_level(xp, away)) * slope
        return xp.zeros_like(k)

    def _ratios(self, xp: Any, away: Array, steps: Steps, advantage: Array) -> Array:
        """Return ρ A [R, S, T] where the loss has a gradient, else 0."""
        if self.ratio == "none":
            return advantage
        log_ratio = away
        if self.ratio != "token":
            log_ratio = xp.sum(away, axis=-1, keepdims=True)
        if self.ratio == "geometric":
            log_ratio = log_ratio / xp.sum(steps.active, axis=-1, keepdims=True)
        ratio = xp.exp(log_ratio) + xp.zeros_like(advantage)
        used = ratio
        if self.truncate:
            most = xp.full_like(ratio, self.truncate)
            used = xp.where(ratio > most, xp.zeros_like(ratio) if self.drop else most, ratio)
        found = used * advantage
        if self.clip or self.clip_high:
            beyond = ratio > 1.0 + (self.clip_high or self.clip)
            stopped = (beyond & (advantage > 0.0)) | ((ratio < 1.0 - self.clip) & (advantage < 0.0))
            found = xp.where(stopped, xp.zeros_like(found), found)
        return found

    def _weights(self, xp: Any, steps: Steps) -> Array:
        """Return w [R, S, 1] or [R, 1, 1]."""
        tokens = xp.sum(steps.active, axis=-1, keepdims=True)
        if self.length == "sequence-mean":
            return 1.0 / tokens
        if self.length == "token-mean":
            return 1.0 / xp.mean(tokens, axis=1, keepdims=True)
        return xp.ones_like(tokens) / (steps.active.shape[-1] if self.length == "constant" else 1.0)


def _pulled(xp: Any, steps: Steps, credit: Array, table: Array) -> Array:
    """Return Σ_s Σ_t credit ∇ log π, in the logits [R, N, V], for π [N, V] or [R, N, V] and credit [R, S, T]."""
    replicates, (prefixes, vocabulary) = credit.shape[0], table.shape[-2:]
    of = xp.reshape(steps.prefixes * credit[..., None], (replicates, -1, prefixes))
    tokens = xp.reshape(steps.tokens, (replicates, -1, vocabulary))
    return xp.matmul(xp.matrix_transpose(of), tokens) - xp.sum(of, axis=1)[..., None] * table


def _entropy_slope(xp: Any, steps: Steps, weight: Array, table: Array) -> Array:
    """Return Σ_s w_s Σ_t ∇ H(π(· | prefix)), with the prefixes held fixed, in the logits [R, N, V]."""
    visits = xp.sum(steps.prefixes * weight[..., None], axis=(1, 2))[..., None]
    log = xp.log(table)
    return -visits * table * (log - xp.sum(table * log, axis=-1, keepdims=True))
