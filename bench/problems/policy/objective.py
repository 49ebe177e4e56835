"""The rewards of the problem `policy`, its reference policy, and the policies that draw the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradmeter.bench.problems.arrays import Array, Arrays, gathered
from gradmeter.estimators import Noise
from gradmeter.estimators.families.logs import log_softmax
from gradmeter.estimators.families.sequence_policy import Steps
from gradmeter.estimators.policy.objective import PolicyObjective

REWARDS = ("match", "digit-sum", "sparse", "length")
BEHAVIOURS = ("on-policy", "stale", "temperature", "top-p")
#: log μ of a token that μ never draws.
NEVER = -1e4


@dataclass(frozen=True)
class TokenObjective(PolicyObjective):
    """J of one prompt, with one of the rewards.

    `data` holds targets [P, T], the `reference` log π_ref [P, N, V], `drift` [N, V] of a stale policy, and `amount`.
    """

    reward: str
    behaviour_kind: str

    def noise_specs(self, data: Arrays) -> dict[str, Noise]:
        return {"rows": Noise("rows", (1,), population=data["targets"].shape[0])}

    def width(self, data: Arrays, dimension: int) -> int:
        prefixes, vocabulary = data["reference"].shape[1:]
        return int(max(dimension * (prefixes + vocabulary), prefixes * vocabulary))

    def rewards(self, xp: Any, data: Arrays, z: Array, steps: Steps, noise: Arrays) -> Array:
        """Return the rewards, in [0, 1] for a sequence.

        - `match`: 1/T for every token that is the target's.
        - `sparse`: 1 at the end, if the sequence is the target.
        - `digit-sum`: at the end, 1 less the distance of Σ tokens from the target's sum, over (V − 1) T.
        - `length`: 1/T for every token.
        """
        length = z.shape[-1]
        if self.reward == "length":
            return steps.active / length
        target = gathered(xp, data["targets"], noise["rows"])  # [R, 1, T]
        hit = xp.astype(z == target, z.dtype)
        if self.reward == "match":
            return steps.active * hit / length
        if self.reward == "sparse":
            earned = xp.prod(hit, axis=-1, keepdims=True)
        else:
            most = length * (steps.tokens.shape[-1] - 1)
            earned = 1.0 - xp.abs(xp.sum(z, axis=-1, keepdims=True) - xp.sum(target, axis=-1, keepdims=True)) / most
        return steps.at_end(xp, earned)

    def reference(self, xp: Any, data: Arrays, noise: Arrays) -> Array:
        prompts, prefixes, vocabulary = data["reference"].shape
        flat = gathered(xp, xp.reshape(data["reference"], (prompts, prefixes * vocabulary)), noise["rows"])
        return xp.reshape(flat, (*flat.shape[:-1], prefixes, vocabulary))

    def behaviour(self, xp: Any, data: Arrays) -> Array:
        """Return log μ.

        - `on-policy`: π itself.
        - `stale`: its logits before a change by `amount` times `drift`.
        - `temperature`: its logits divided by `amount`.
        - `top-p`: the most probable tokens that have the probability `amount` together, of every prefix.
        """
        logits = data["logits"]
        if self.behaviour_kind == "stale":
            return log_softmax(xp, logits - data["amount"] * data["drift"])
        if self.behaviour_kind == "temperature":
            return log_softmax(xp, logits / data["amount"])
        log = log_softmax(xp, logits)
        if self.behaviour_kind == "on-policy":
            return log
        p = xp.exp(log)
        before = xp.astype(p[..., None, :] > p[..., :, None], p.dtype)  # the tokens that are more probable
        kept = xp.sum(before * p[..., None, :], axis=-1) < data["amount"]
        total = xp.sum(xp.where(kept, p, xp.zeros_like(p)), axis=-1, keepdims=True)
        return xp.where(kept, log - xp.log(total), xp.full_like(log, NEVER))
