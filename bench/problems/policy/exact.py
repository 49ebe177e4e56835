"""Exact values of the problem `policy`: sums over every sequence of every prompt, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.problems.arrays import Arrays, log_softmax
from gradmeter.bench.problems.policy.objective import NEVER, TokenObjective
from gradmeter.estimators.families.sequence_policy import Steps, sequences, walk

#: Sequences that are listed at a time.
CHUNK = 2**10


@dataclass(frozen=True)
class Values:
    """Exact values for the logits of every prompt.

    Attributes
    ----------
    reward, divergence
        E_π Σ_t r_t and KL(π ‖ π_ref), averaged over prompts.
    slope
        ∇ of the objective in the logits [P, N, V].
    """

    reward: float
    divergence: float
    slope: np.ndarray


def enumerated(objective: TokenObjective, data: Arrays, logits: np.ndarray) -> Values:
    """Return the exact values at given logits.

    Parameters
    ----------
    objective
        The objective.
    data
        Arrays that the objective reads.
    logits
        [P, N, V].
    """
    policy, beta, share = log_softmax(np, logits), float(data["beta"]), float(data["share"])
    prompts, prefixes, vocabulary = logits.shape
    every = sequences(vocabulary, data["targets"].shape[1])
    reward = divergence = 0.0
    slope = np.zeros_like(logits)
    for z in np.array_split(every, -(-len(every) // CHUNK)):
        path, tokens, steps = steps_on(z, vocabulary)
        active = path >= 0
        for p in range(prompts):
            log = np.where(active, policy[p, path, tokens], 0.0).sum(axis=-1)
            log_reference = np.where(active, data["reference"][p, path, tokens], 0.0).sum(axis=-1)
            rewards = objective.rewards(np, data, z[None], steps, {"rows": np.full((1, 1), p)})
            earned, q = rewards.reshape(z.shape).sum(axis=-1), np.exp(log)
            reward += float(q @ earned)
            divergence += float(q @ (log - log_reference))
            credit = (q * (earned - beta * (log - log_reference)))[:, None] * active
            np.add.at(slope[p], (path[active], tokens[active]), credit[active])
            visited = np.bincount(path[active], credit[active], minlength=prefixes)
            slope[p] -= visited[:, None] * np.exp(policy[p])
    return Values(share * reward, share * divergence, share * slope)


def steps_on(z: np.ndarray, vocabulary: int) -> tuple[np.ndarray, np.ndarray, Steps]:
    """Return the prefixes [n, T] of sequences z [n, T], −1 after the end, their tokens, and what rewards read."""
    path, tokens = walk(z, vocabulary), z.astype(np.int64)
    active = path >= 0
    one_hot = np.eye(vocabulary)[tokens] * active[..., None]
    return path, tokens, Steps(np.zeros(0), one_hot, active.astype(np.float64))


def rare_share(
    objective: TokenObjective, data: Arrays, logits: np.ndarray, behaviour: np.ndarray | None, rarest: float
) -> float:
    """Return a bound on the norm of the gradient's part from rare sequences, relative to the norm of the gradient.

    A sequence z is rare if μ draws it with a probability above 0 and at most `rarest`. Its part is at most
    π(z) |f(z) − E f| ‖∇ log π(z)‖ with a baseline E f, and ‖∇ log π(z)‖ ≤ √(2 tokens). Gradients are those in the
    logits.

    Parameters
    ----------
    objective
        The objective whose gradient it is.
    data
        Rewards and whatever else the objective reads, by name.
    logits
        Those of π [P, N, V].
    behaviour
        log μ [P, N, V], below `NEVER` / 2 for tokens that μ never draws; π if absent.
    rarest
        Probability at or below which a sequence is rare.
    """
    policy, beta = log_softmax(np, logits), float(data["beta"])
    found, vocabulary = enumerated(objective, data, logits), logits.shape[-1]
    every = sequences(vocabulary, data["targets"].shape[1])
    part = np.zeros(len(logits))
    for z in np.array_split(every, -(-len(every) // CHUNK)):
        path, tokens, steps = steps_on(z, vocabulary)
        active = path >= 0
        for p in range(len(logits)):
            at = p, path, tokens
            log = np.where(active, policy[at], 0.0).sum(axis=-1)
            log_drawn = log if behaviour is None else np.where(active, behaviour[at], 0.0).sum(axis=-1)
            never = False if behaviour is None else np.any(active & (behaviour[at] < 0.5 * NEVER), axis=-1)
            rare = (log_drawn <= np.log(rarest)) & ~np.asarray(never)
            log_ratio = log - np.where(active, data["reference"][at], 0.0).sum(axis=-1)
            earned = objective.rewards(np, data, z[None], steps, {"rows": np.full((1, 1), p)}).reshape(z.shape)
            f = earned.sum(axis=-1) - beta * log_ratio
            away = np.abs(f - (found.reward - beta * found.divergence)) * np.sqrt(2.0 * active.sum(axis=-1))
            part[p] += float(np.exp(log[rare]) @ away[rare])
    size = float(np.linalg.norm(found.slope))
    return float(np.linalg.norm(data["share"] * part)) / size if size > 0.0 else math.inf


def mean_length(logits: np.ndarray) -> float:
    """Return the mean number of tokens of a sequence, averaged over prompts, for logits [P, N, V].

    It is the sum over all prefixes of the probability that a token is drawn after it.
    """
    p, branches = np.exp(log_softmax(np, logits)), logits.shape[-1] - 1
    visited = np.zeros(p.shape[:2])
    visited[:, 0] = 1.0
    for n in range(1, p.shape[1]):  # prefix n follows prefix (n − 1) // b by token (n − 1) mod b + 1
        parent, token = divmod(n - 1, branches)
        visited[:, n] = visited[:, parent] * p[:, parent, token + 1]
    return float(visited.sum() / len(p))
