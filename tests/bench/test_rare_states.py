"""States of a discrete z that are rarer than uniform noise resolves, and answers that μ almost never draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator
from gradmeter.bench.problems.policy import Policy
from gradmeter.bench.rows import ALL
from tests.support import make_cell, measured

COLD = "policy[behaviour=temperature,amount=0.01]"
WEIGHTED = "policy-gradient[kl=k1-reward,ratio=sequence]"


@pytest.mark.parametrize(
    ("problem", "estimator", "samples"),
    [
        ("square[family=bernoulli,probability=1e-17]", "rloo", 2),
        ("square[family=bernoulli,probability=1e-17,k=0]", "score-function", 1),
        ("categorical-square[categories=3,weights=1:1e-17:1,k=0.5]", "rloo", 2),
        ("square[family=poisson,rate=1e-8]", "score-function", 1),
        ("square[family=binomial,probability=1e-9]", "score-function", 1),
        (COLD, WEIGHTED, 2),
        (COLD, "policy-gradient[ratio=token]", 2),
    ],
)
def test_states_that_are_never_drawn_show_no_bias(problem: str, estimator: str, samples: int) -> None:
    """Estimators that are unbiased, or whose mean rests on answers that μ draws with a probability of e^−100."""
    row = measured(make_cell(problem, estimator, samples, max_replicates=2**10))[ALL]
    assert row["verdict"] in ("unbiased", "inconclusive")
    if row["verdict"] == "inconclusive":
        assert row["bias_bound"] is None
        assert "rarer than" in row["reason"] or "drawn with a probability below" in row["reason"]
    else:
        assert row["bias_bound"] < 1e-7


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        (COLD, "policy-gradient[kl=k1-reward]"),  # nothing corrects for μ
        (COLD, "policy-gradient[ratio=sequence,truncate=2]"),
        ("policy[behaviour=top-p,amount=0.5]", "policy-gradient[ratio=sequence]"),  # the other answers are never drawn
        ("square[family=bernoulli,probability=1e-6,k=0.4]", "injected-self-included-baseline"),
    ],
)
def test_a_bias_that_no_rare_state_explains_is_found(problem: str, estimator: str) -> None:
    row = measured(make_cell(problem, estimator, 2, max_replicates=2**10))[ALL]
    assert row["verdict"] == "biased", row["reason"]


@pytest.mark.parametrize("behaviour", ["on-policy", "temperature"])
@pytest.mark.parametrize("rarest", [1e-3, 0.05, 1.0])
def test_the_share_of_rare_answers_bounds_that_of_plain_loops(behaviour: str, rarest: float) -> None:
    """‖Σ π (f − E f) ∇ log π‖ over the answers that μ draws with at most this probability, V = 2 and T = 3."""
    problem = Policy(prompts=1, vocabulary=2, max_tokens=3, beta=0.3, behaviour=behaviour, amount=0.3)
    data, logits = problem.data(), problem.parameters()["table"][0]

    def log_softmax(table: np.ndarray) -> np.ndarray:
        return np.asarray(table - np.log(np.exp(table).sum(axis=-1, keepdims=True)))

    policy, drawn = log_softmax(logits), log_softmax(logits / (0.3 if behaviour == "temperature" else 1.0))
    target, reference = data["targets"][0], data["reference"][0]
    answers = [(*itertools.repeat(1, t), 0) for t in range(3)] + [(1, 1, 1)]
    assert len(answers) == 4
    parts, everything = np.zeros_like(logits), np.zeros_like(logits)
    values = problem.values(problem.parameters())
    for z in answers:
        log, log_mu, log_ref = (sum(t[n, a] for n, a in enumerate(z)) for t in (policy, drawn, reference))
        f = sum(a == target[n] for n, a in enumerate(z)) / 3 - 0.3 * (log - log_ref)
        score = np.zeros_like(logits)
        for n, a in enumerate(z):
            score[n] += np.eye(2)[a] - np.exp(policy[n])
        part = math.exp(log) * (f - values.reward + 0.3 * values.divergence) * score
        everything += part
        parts += part if math.exp(log_mu) <= rarest else 0.0
    assert np.allclose(everything, values.slope[0], atol=1e-14)
    share = problem.unmet_share(make_estimator(WEIGHTED), rarest)
    assert share is not None
    assert np.linalg.norm(parts) / np.linalg.norm(everything) <= share * (1.0 + 1e-12)
    assert share < 10.0
