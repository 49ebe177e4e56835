"""The problem `policy` and its estimators against sums over all sequences, written apart from them in plain loops."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gradmeter.bench.catalogue import entries
from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems.policy import Policy
from gradmeter.bench.rows import ALL
from gradmeter.bench.sweep.measuring import measure_cell
from gradmeter.estimators import ESTIMATORS, NotApplicable, UsageError
from gradmeter.estimators.aliases import TRAINERS
from gradmeter.estimators.backends import get
from tests.support import draws, estimate, estimates, make_cell, measured, needs

Tokens = tuple[int, ...]
#: Gradient in the logits, by prefix and token.
Slope = dict[tuple[Tokens, int], float]
ONE = "policy[prompts=1,vocabulary=3,max-tokens=3,beta=0.3]"


class Plain:
    """One prompt of a problem in plain Python: probabilities by prefix, and sums over sequences.

    A sequence holds its tokens up to the end token 0; it has no such token if it is as long as allowed.
    """

    def __init__(self, problem: Policy, prompt: int = 0, theta: dict[str, np.ndarray] | None = None) -> None:
        data, self.problem = problem.data(), problem
        self.vocabulary, self.length = problem.vocabulary, problem.max_tokens
        self.target = tuple(int(a) for a in data["targets"][prompt])
        logits = problem.encoder.apply(np, {**data, **(theta or problem.parameters())}, None)["logits"][0][prompt]
        self.prefixes = [p for t in range(self.length) for p in itertools.product(range(1, self.vocabulary), repeat=t)]
        self.policy = {p: self._softmax(row.tolist()) for p, row in zip(self.prefixes, logits, strict=True)}
        rows = data["reference"][prompt]
        self.reference = {p: [math.exp(x) for x in row] for p, row in zip(self.prefixes, rows, strict=True)}
        self.behaviour = {
            p: self._behaviour(row.tolist(), drift.tolist())
            for p, row, drift in zip(self.prefixes, logits, data["drift"], strict=True)
        }

    @staticmethod
    def _softmax(logits: list[float]) -> list[float]:
        total = sum(math.exp(x) for x in logits)
        return [math.exp(x) / total for x in logits]

    def _behaviour(self, logits: list[float], drift: list[float]) -> list[float]:
        kind, amount = self.problem.behaviour, self.problem.amount
        if kind == "stale":
            return self._softmax([x - amount * d for x, d in zip(logits, drift, strict=True)])
        if kind == "temperature":
            return self._softmax([x / amount for x in logits])
        p = self._softmax(logits)
        if kind == "top-p":
            kept, total = set(), 0.0
            for token in sorted(range(len(p)), key=lambda i: -p[i]):
                if total < amount:
                    kept.add(token)
                    total += p[token]
            p = [x / total if i in kept else 0.0 for i, x in enumerate(p)]
        return p

    def sequences(self, before: Tokens = ()) -> Iterator[Tokens]:
        for token in range(self.vocabulary):
            if token == 0 or len(before) + 1 == self.length:
                yield (*before, token)
            else:
                yield from self.sequences((*before, token))

    @staticmethod
    def steps(z: Tokens) -> list[tuple[Tokens, int]]:
        return [(z[:t], z[t]) for t in range(len(z))]

    def probability(self, z: Tokens, under: dict[Tokens, list[float]]) -> float:
        return math.prod(under[prefix][token] for prefix, token in self.steps(z))

    def rewards(self, z: Tokens) -> list[float]:
        """By token."""
        kind, padded = self.problem.reward, (*z, *(0,) * (self.length - len(z)))
        if kind == "match":
            return [float(a == b) / self.length for a, b in zip(z, self.target, strict=False)]
        if kind == "length":
            return [1.0 / self.length for _ in z]
        if kind == "sparse":
            last = float(padded == self.target)
        else:
            last = 1.0 - abs(sum(z) - sum(self.target)) / (self.length * (self.vocabulary - 1))
        return [0.0] * (len(z) - 1) + [last]

    def log_ratios(self, z: Tokens, below: dict[Tokens, list[float]]) -> list[float]:
        return [math.log(self.policy[p][a] / below[p][a]) for p, a in self.steps(z)]

    def score(self, z: Tokens, credit: list[float]) -> Slope:
        """Σ_t credit_t ∇ log π(a_t | prefix)."""
        found: Slope = {}
        for (prefix, token), c in zip(self.steps(z), credit, strict=True):
            for other, p in enumerate(self.policy[prefix]):
                found[prefix, other] = found.get((prefix, other), 0.0) + c * (float(other == token) - p)
        return found

    def mean(self, credit: Callable[[Tokens], list[float]], under: dict[Tokens, list[float]] | None = None) -> Slope:
        """E Σ_t credit_t ∇ log π, over all sequences."""
        chosen = self.behaviour if under is None else under
        return total((self.probability(z, chosen), self.score(z, credit(z))) for z in self.sequences())

    def visits(self, prefix: Tokens) -> float:
        return math.prod(self.policy[prefix[:t]][prefix[t]] for t in range(len(prefix)))

    def value(self, policy: dict[Tokens, list[float]]) -> tuple[float, float]:
        """E Σ r and KL(π ‖ π_ref)."""
        reward = divergence = 0.0
        for z in self.sequences():
            p = self.probability(z, policy)
            reward += p * sum(self.rewards(z))
            divergence += p * math.log(p / self.probability(z, self.reference))
        return reward, divergence

    def return_of(self, z: Tokens) -> float:
        return sum(self.rewards(z)) - self.problem.beta * sum(self.log_ratios(z, self.reference))

    def whole(self, z: Tokens) -> list[float]:
        return [self.return_of(z)] * len(z)

    def plain(self, z: Tokens) -> list[float]:
        return [sum(self.rewards(z))] * len(z)

    def array(self, slope: Slope) -> np.ndarray:
        """As the logits [N, V]."""
        return np.array([[slope.get((p, a), 0.0) for a in range(self.vocabulary)] for p in self.prefixes])


def total(parts: Iterator[tuple[float, Slope]]) -> Slope:
    found: Slope = {}
    for weight, slope in parts:
        for place, value in slope.items():
            found[place] = found.get(place, 0.0) + weight * value
    return found


@functools.cache
def plain(text: str) -> Plain:
    problem = make_problem(text)
    assert isinstance(problem, Policy)
    return Plain(problem)


@functools.cache
def mean_of(text: str, estimator: str, samples: int = 1) -> np.ndarray:
    """E ĝ [N, V] of one prompt, integrated over the noise."""
    found = prepare(make_cell(text, estimator, samples)).integrals
    assert found is not None
    return found["table"].mean.reshape(plain(text).array({}).shape)


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12 * np.abs(expected).max())


PROBLEMS = (
    "policy[beta=0.2]",
    "policy[vocabulary=2,max-tokens=4,reward=length]",
    "policy[vocabulary=4,max-tokens=2,reward=digit-sum,reference-spread=0]",
    "policy[reward=sparse,max-tokens=1]",
)


EVERYWHERE = [("numpy", text) for text in PROBLEMS] + [("torch", PROBLEMS[0]), ("jax", PROBLEMS[0])]


@pytest.mark.parametrize(("backend", "text"), EVERYWHERE)
def test_the_exact_gradient_is_that_of_plain_loops(text: str, backend: str) -> None:
    needs(backend)
    problem = make_problem(text)
    assert isinstance(problem, Policy)
    exact, parts = problem.exact(), [Plain(problem, p) for p in range(problem.prompts)]
    assert exact is not None
    assert exact.objective is not None
    expected = np.stack([p.array(p.mean(p.whole, p.policy)) for p in parts]) / problem.prompts
    values = [p.value(p.policy) for p in parts]
    objective = sum(reward - problem.beta * kl for reward, kl in values) / problem.prompts
    assert exact.objective == pytest.approx(objective, rel=1e-12)
    agree(exact.gradient["table"], expected)
    estimator = problem.expectation().estimated_by(make_estimator("enumeration"))
    specs = estimator.noise_specs(problem.expectation(), 1, problem.dimension)
    noise = draws(specs, 1)
    found = estimate(
        get(backend), estimator, problem.expectation(), problem.parameters(), noise, compiled=backend == "jax"
    )
    agree(found["table"][0], expected)


def test_the_exact_gradient_is_the_slope_of_the_exact_value() -> None:
    problem = make_problem(PROBLEMS[0])
    at, step = problem.parameters()["table"], 1e-5
    exact = problem.exact_at({"table": at})
    assert exact is not None
    for place in ((0, 0, 0), (0, 2, 1), (1, 6, 2)):
        ends = []
        for sign in (-1.0, 1.0):
            moved = at.copy()
            moved[place] += sign * step
            ends.append(problem.exact_at({"table": moved}).objective)  # type: ignore[union-attr, arg-type]
        assert (ends[1] - ends[0]) / (2.0 * step) == pytest.approx(exact.gradient["table"][place], abs=1e-9)


PARAMETERISATIONS = ("linear", "recurrent", "attention")


@pytest.mark.parametrize("kind", PARAMETERISATIONS)
def test_the_exact_gradient_of_shared_parameters_is_the_slope_of_plain_loops(kind: str) -> None:
    problem = make_problem(f"policy[parameterisation={kind},beta=0.2]")
    at, exact, step = problem.parameters(), problem.exact(), 1e-4
    assert exact is not None

    def value(theta: dict[str, np.ndarray]) -> float:
        """J in plain loops."""
        found = 0.0
        for prompt in range(2):
            p = Plain(problem, prompt, theta)  # type: ignore[arg-type]
            reward, kl = p.value(p.policy)
            found += 0.5 * (reward - 0.2 * kl)
        return found

    for name, values in at.items():
        place = tuple(size // 2 for size in values.shape)
        ends = []
        for steps in (-2.0, -1.0, 1.0, 2.0):
            moved = {**at, name: values.copy()}
            moved[name][place] += steps * step
            ends.append(value(moved))
        slope = (ends[0] - 8.0 * ends[1] + 8.0 * ends[2] - ends[3]) / (12.0 * step)
        assert slope == pytest.approx(exact.gradient[name][place], abs=1e-11)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        *(("numpy", kind) for kind in PARAMETERISATIONS),
        ("torch", "attention"),
        *(pytest.param("torch", kind, marks=pytest.mark.slow) for kind in ("linear", "recurrent")),
        *(pytest.param("jax", kind, marks=pytest.mark.slow) for kind in PARAMETERISATIONS),
    ],
)
def test_the_exact_gradient_of_shared_parameters_is_that_of_the_framework(backend: str, kind: str) -> None:
    needs(backend)
    problem = make_problem(f"policy[parameterisation={kind},beta=0.2]")
    estimator = problem.expectation().estimated_by(make_estimator("enumeration"))
    noise = draws(estimator.noise_specs(problem.expectation(), 1, problem.dimension), 1)
    arguments = (get(backend), estimator, problem.expectation(), problem.parameters(), noise)
    if backend == "numpy" and kind != "linear":
        with pytest.raises(NotApplicable, match="NumPy cannot differentiate"):
            estimate(*arguments)
        return
    exact = problem.exact()
    assert exact is not None
    for name, found in estimate(*arguments, compiled=backend == "jax").items():
        agree(found[0], exact.gradient[name])


UNBIASED = (
    ("", "score-function", 1),
    ("", "rloo", 2),
    ("", "policy-gradient[kl=k1-reward]", 1),
    ("", "policy-gradient[kl=k1-reward,kl-level=token,advantage=to-go]", 1),
    ("", "policy-gradient[kl=k1-reward,kl-level=token,advantage=to-go,baseline=leave-one-out]", 2),
    ("", "policy-gradient[kl=k2-loss,baseline=leave-one-out]", 2),
    ("", "policy-gradient[kl=k1-ratio]", 1),
    ("", "policy-gradient[kl=k1-reward,ratio=token,clip=0.2]", 1),  # on policy every ratio is 1
    ("stale", "policy-gradient[kl=k1-reward,ratio=sequence]", 1),
    ("stale", "policy-gradient[kl=k1-reward,ratio=sequence,kl-level=token,advantage=to-go]", 1),
    ("stale", "policy-gradient[kl=k3-ratio,ratio=sequence]", 1),
    ("temperature", "policy-gradient[kl=k1-reward,ratio=sequence]", 1),
    ("", "unordered-set", 2),
)


def off(behaviour: str) -> str:
    return f"{ONE[:-1]},behaviour={behaviour}]" if behaviour else ONE


@pytest.mark.parametrize(("behaviour", "estimator", "samples"), UNBIASED)
def test_these_estimate_the_gradient_of_the_regularised_objective(behaviour: str, estimator: str, samples: int) -> None:
    p = plain(off(behaviour))
    agree(mean_of(off(behaviour), estimator, samples), p.array(p.mean(p.whole, p.policy)))


@pytest.mark.parametrize("samples", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_the_group_mean_with_the_sample_itself_scales_by_one_less_its_share(samples: int) -> None:
    row = measured(make_cell(ONE, "policy-gradient[kl=k1-reward,baseline=group-mean]", samples))[ALL]
    assert row["verdict"] == "biased"
    assert row["certificate"] == "integration"
    assert row["scale_factor"] == pytest.approx(1.0 - 1.0 / samples, abs=1e-12)
    assert row["cosine"] == pytest.approx(1.0, abs=1e-12)
    assert row["bias"] == pytest.approx(1.0 / samples, abs=1e-12)


@pytest.mark.parametrize("samples", [2, 3])
def test_normalised_two_valued_rewards_scale_the_gradient(samples: int) -> None:
    """All groups with a success and a failure have the same deviation."""
    text = "policy[prompts=2,reward=sparse,beta=0,vocabulary=2,max-tokens=2]"
    row = measured(make_cell(text, "policy-gradient[baseline=group-mean,normalise=std]", samples, max_replicates=64))[
        ALL
    ]
    assert (row["verdict"], row["certificate"]) == ("biased", "integration")
    assert row["cosine"] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("name", "usual"), [("GRPO", "grpo"), ("dr_grpo", "dr-grpo"), ("Score_Function", "reinforce")])
def test_names_may_have_capitals_and_underscores(name: str, usual: str) -> None:
    assert make_estimator(name) == make_estimator(usual)


@pytest.mark.parametrize("kl", ["k1-loss", "k3-loss", "k3-reward"])
def test_a_row_has_the_size_and_the_direction_of_a_bias(kl: str) -> None:
    p, row = plain(ONE), measured(make_cell(ONE, f"policy-gradient[kl={kl}]", 1, max_replicates=2**14))[ALL]
    beta, reward, g = p.problem.beta, p.array(p.mean(p.plain)).ravel(), p.array(p.mean(p.whole)).ravel()
    other = p.array(reversed_kl(p)).ravel()
    mean = {"k1-loss": reward, "k3-loss": reward - beta * other, "k3-reward": g + beta * other}[kl]
    assert (row["verdict"], row["certificate"]) == ("biased", "integration")
    assert row["bias"] == pytest.approx(np.linalg.norm(mean - g) / np.linalg.norm(g), rel=1e-11)
    assert row["cosine"] == pytest.approx(mean @ g / np.linalg.norm(mean) / np.linalg.norm(g), rel=1e-11)
    assert row["scale_factor"] == pytest.approx(mean @ g / (g @ g), rel=1e-11)
    assert row["scale_low"] <= row["scale_factor"] <= row["scale_high"] <= row["scale_low"] + 1e-9


def reversed_kl(p: Plain) -> Slope:
    """∇KL(π_ref ‖ π) = −E_ref ∇ log π."""
    return p.mean(lambda z: [-1.0] * len(z), p.reference)


def by_prefix(p: Plain, slope: Callable[[Tokens], list[float]]) -> np.ndarray:
    """Σ over prefixes of the probability of a visit times a slope in the logits of that prefix."""
    return np.array([[p.visits(prefix) * s for s in slope(prefix)] for prefix in p.prefixes])


def kl_of_prefix(p: Plain, prefix: Tokens) -> list[float]:
    pi, ratios = p.policy[prefix], [math.log(a / b) for a, b in zip(p.policy[prefix], p.reference[prefix], strict=True)]
    kl = sum(a * k for a, k in zip(pi, ratios, strict=True))
    return [a * (k - kl) for a, k in zip(pi, ratios, strict=True)]


def test_each_kl_term_follows_the_objective_that_is_said_of_it() -> None:
    p = plain(ONE)
    beta, reward, full = p.problem.beta, p.array(p.mean(p.plain)), p.array(p.mean(p.whole))
    other = p.array(reversed_kl(p))
    agree(mean_of(ONE, "policy-gradient"), reward)
    agree(mean_of(ONE, "policy-gradient[kl=k1-loss]"), reward)
    agree(mean_of(ONE, "policy-gradient[kl=k1-loss,kl-level=token]"), reward)
    agree(mean_of(ONE, "policy-gradient[kl=k3-loss]"), reward - beta * other)
    agree(mean_of(ONE, "policy-gradient[kl=k3-reward]"), full + beta * other)
    local = by_prefix(p, lambda prefix: kl_of_prefix(p, prefix))
    squared = p.array(p.mean(lambda z: [0.5 * sum(p.log_ratios(z, p.reference)) ** 2] * len(z)))
    agree(mean_of(ONE, "policy-gradient[kl=k2-reward]"), reward - beta * squared)
    squares = p.array(p.mean(lambda z: [0.5 * sum(k * k for k in p.log_ratios(z, p.reference))] * len(z)))
    agree(mean_of(ONE, "policy-gradient[kl=k2-reward,kl-level=token]"), reward - beta * squares)
    for kl in ("k2-loss", "k1-ratio", "k3-ratio"):
        agree(mean_of(ONE, f"policy-gradient[kl={kl},kl-level=token]"), reward - beta * local)
    reference = by_prefix(p, lambda prefix: [b - a for a, b in zip(p.policy[prefix], p.reference[prefix], strict=True)])
    agree(mean_of(ONE, "policy-gradient[kl=k3-loss,kl-level=token]"), reward + beta * reference)


def test_an_entropy_bonus_follows_the_entropy_of_each_prefix() -> None:
    p = plain(ONE)

    def slope(prefix: Tokens) -> list[float]:
        pi = p.policy[prefix]
        entropy = -sum(a * math.log(a) for a in pi)
        return [-a * (math.log(a) + entropy) for a in pi]

    found = mean_of(ONE, "policy-gradient[kl=k1-reward,entropy-bonus=0.7]")
    agree(found, p.array(p.mean(p.whole)) + 0.7 * by_prefix(p, slope))


def clipped(ratio: float, advantage: float, low: float, high: float) -> float:
    """The slope of min(ρ A, clip(ρ) A) in log π."""
    inside = ratio * advantage
    limited = min(max(ratio, 1.0 - low), 1.0 + high) * advantage
    return inside if inside <= limited else 0.0


LIMITED = {
    "ratio=token,clip=0.1,clip-high=0.2": lambda w, seq, a: [clipped(x, a, 0.1, 0.2) for x in w],
    "ratio=sequence,clip=0.1": lambda w, seq, a: [clipped(seq, a, 0.1, 0.1)] * len(w),
    "ratio=token,truncate=1.05": lambda w, seq, a: [min(x, 1.05) * a for x in w],
    "ratio=sequence,truncate=1.05": lambda w, seq, a: [min(seq, 1.05) * a] * len(w),
    "ratio=sequence,truncate=1.05,drop=true": lambda w, seq, a: [seq * a if seq <= 1.05 else 0.0] * len(w),
    "ratio=token": lambda w, seq, a: [x * a for x in w],
    "ratio=geometric,length=sequence-mean": lambda w, seq, a: [seq ** (1.0 / len(w)) * a / len(w)] * len(w),
    "ratio=none": lambda w, seq, a: [a] * len(w),
}


@pytest.mark.parametrize("options", LIMITED)
@pytest.mark.parametrize("behaviour", ["stale", "temperature", "top-p"])
def test_limited_ratios_have_the_bias_of_plain_loops(options: str, behaviour: str) -> None:
    text = off(behaviour)
    p = plain(text)

    def credit(z: Tokens) -> list[float]:
        if p.probability(z, p.behaviour) == 0.0:
            return [0.0] * len(z)
        ratios = [math.exp(x) for x in p.log_ratios(z, p.behaviour)]
        return LIMITED[options](ratios, math.prod(ratios), p.return_of(z))

    agree(mean_of(text, f"policy-gradient[kl=k1-reward,{options}]"), p.array(p.mean(credit)))


def std(values: list[float]) -> float:
    middle = sum(values) / len(values)
    return math.sqrt(sum((x - middle) ** 2 for x in values) / (len(values) - 1))


GROUPS = {
    "baseline=group-mean,normalise=std": lambda rs, ls, i: (rs[i] - sum(rs) / len(rs)) / (std(rs) + 1e-4),
    "normalise=std": lambda rs, ls, i: rs[i] / (std(rs) + 1e-4),
    "length=token-mean": lambda rs, ls, i: rs[i] * len(ls) / sum(ls),
    "length=sequence-mean": lambda rs, ls, i: rs[i] / ls[i],
    "length=constant": lambda rs, ls, i: rs[i] / 3.0,
    "baseline=leave-one-out,length=sequence-mean": lambda rs, ls, i: (rs[i] - rs[1 - i]) / ls[i],
}


@pytest.mark.parametrize("options", GROUPS)
def test_normalisations_have_the_bias_of_plain_loops_over_pairs(options: str) -> None:
    p = plain(ONE)
    chance = {z: p.probability(z, p.policy) for z in p.sequences()}
    parts = []
    for pair in itertools.product(chance, repeat=2):
        returns, lengths = [p.return_of(z) for z in pair], [len(z) for z in pair]
        for i, z in enumerate(pair):
            credit = [GROUPS[options](returns, lengths, i)] * len(z)
            parts.append((0.5 * chance[pair[0]] * chance[pair[1]], p.score(z, credit)))
    found = mean_of(ONE, f"policy-gradient[kl=k1-reward,{options}]", 2)
    agree(found, p.array(total(iter(parts))))


@pytest.mark.parametrize("reward", ["match", "length"])
def test_the_return_to_go_has_the_variance_of_plain_loops_and_less_than_the_whole(reward: str) -> None:
    text = f"{ONE[:-1]},reward={reward}]"
    p = plain(text)

    def to_go(z: Tokens) -> list[float]:
        each = [r - p.problem.beta * k for r, k in zip(p.rewards(z), p.log_ratios(z, p.reference), strict=True)]
        return [sum(each[t:]) for t in range(len(each))]

    found = {}
    for name, credit in (("whole", p.whole), ("to-go", to_go)):
        square = {z: p.array(p.score(z, credit(z))) for z in p.sequences()}
        chance = {z: p.probability(z, p.policy) for z in square}
        mean = sum(chance[z] * g for z, g in square.items())
        expected = sum(chance[z] * (g - mean) ** 2 for z, g in square.items())
        cell = make_cell(text, f"policy-gradient[kl=k1-reward,kl-level=token,advantage={name}]", 1)
        integrals = prepare(cell).integrals
        assert integrals is not None
        np.testing.assert_allclose(integrals["table"].variance, np.ravel(expected), rtol=1e-9, atol=1e-13)
        found[name] = float(np.sum(expected))
    assert found["to-go"] < 0.9 * found["whole"]


MANY = (
    "policy-gradient[advantage=to-go,kl=k1-reward,kl-level=token,baseline=leave-one-out]",
    "policy-gradient[baseline=group-mean,normalise=std,length=token-mean,kl=k3-ratio,kl-level=token]",
    "policy-gradient[ratio=geometric,clip=0.1,length=sequence-mean,baseline=group-mean,kl=k3-loss,entropy-bonus=0.2]",
    "policy-gradient[ratio=token,truncate=1.2,kl=k2-loss,length=constant]",
    "score-function[baseline=leave-one-out]",
    "unordered-set",
)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("text", ["policy[behaviour=stale,prompts=4,batch=2]", "policy[behaviour=top-p,amount=0.8]"])
def test_backends_agree(text: str, name: str, backend: str) -> None:
    needs(backend)
    problem = make_problem(text)
    expectation = problem.expectation()
    estimator = expectation.estimated_by(make_estimator(name))
    noise = draws(estimator.noise_specs(expectation, 3, problem.dimension), 7)
    arguments = (estimator, expectation, problem.parameters(), noise)
    expected, found = (estimate(get(b), *arguments, compiled=b == "jax")["table"] for b in ("numpy", backend))
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12 * np.abs(expected).max())


def test_token_ratios_times_k3_have_the_gradient_of_k1() -> None:
    problem = make_problem(off("stale"))
    expectation = problem.expectation()
    made = []
    for kl in ("k1-ratio", "k3-ratio"):
        estimator = expectation.estimated_by(make_estimator(f"policy-gradient[kl={kl},kl-level=token]"))
        noise = draws(estimator.noise_specs(expectation, 2, problem.dimension), 50)
        made.append(estimate(get("numpy"), estimator, expectation, problem.parameters(), noise)["table"])
    np.testing.assert_allclose(made[0], made[1], rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("batch", ["", ",batch=2", ",batch=4"])
@pytest.mark.parametrize("name", ["policy-gradient[kl=k1-reward,baseline=group-mean]", "enumeration"])
def test_prompts_are_the_minibatch(batch: str, name: str) -> None:
    """Means are integrals, whatever the batch; variances agree with those of whole estimates."""
    cell = make_cell(f"policy[prompts=4,max-tokens=2{batch}]", name, 2)
    integrals, exact = prepare(cell).integrals, cell.problem.exact()
    assert integrals is not None
    assert exact is not None
    scale = 1.0 if name == "enumeration" else 0.5
    agree(integrals["table"].mean, scale * np.ravel(exact.gradient["table"]))
    noise = draws(prepare(cell).setting.specs, 2**14)
    found = estimates(prepare(cell).setting, noise)["table"]
    variance, kurtosis = found.var(axis=0), ((found - found.mean(axis=0)) ** 4).mean(axis=0)
    error = np.sqrt(kurtosis / len(found))
    assert np.all(np.abs(integrals["table"].variance - variance) <= 5.0 * error + 1e-15)  # 36 of them: 2e-5


@pytest.mark.parametrize(
    ("problem", "estimator", "samples", "said"),
    [
        ("square", "policy-gradient", 2, "needs a policy over tokens"),
        ("square[family=sequence-policy,dim=3]", "policy-gradient[kl=k2-loss]", 2, "has a reference policy"),
        ("policy", "policy-gradient[baseline=group-mean]", 1, "needs at least 2 samples"),
        ("policy", "policy-gradient[clip=0.2]", 1, "limit importance ratios"),
        ("policy", "policy-gradient[ratio=token,drop=true]", 1, "drop is for ratios above truncate"),
    ],
)
def test_what_does_not_apply_says_why(problem: str, estimator: str, samples: int, said: str) -> None:
    row = measure_cell(make_cell(problem, estimator, samples)).rows[0]
    assert row["status"] == "n/a"
    assert said in row["reason"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy[vocabulary=9,max-tokens=6]", "more than 65536 sequences"),
        ("policy[behaviour=top-p,amount=2]", "it is a probability"),
        ("policy[prompts=2,batch=3]", "there are 2 rows"),
    ],
)
def test_bad_options_are_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_problem(text)


@pytest.mark.slow
def test_rare_answers_that_no_draw_met_refuse_no_integral() -> None:
    """π_ref/π is large on answers of probability 1e-6, which neither the replicates nor the defensive draws meet."""
    text = "policy[vocabulary=4,max-tokens=6,prompts=1]"
    row = measured(make_cell(text, "policy-gradient[kl=k3-loss]", 1, max_replicates=2**16))[ALL]
    assert row["certificate"] == "integration"
    assert row["verdict"] == "biased"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_right_or_does_not_apply(name: str) -> None:
    cell = make_cell("policy[prompts=2,batch=1,max-tokens=2]", name, 2, max_replicates=64)
    row = measure_cell(cell).rows[-1]
    assert row["status"] in ("ok", "n/a"), row["reason"]
    assert row["status"] == "ok" or row["reason"]


def test_the_catalogue_names_every_trainer_and_what_it_follows() -> None:
    (entry,) = [e for e in entries("estimators") if e["name"] == "policy-gradient"]
    assert set(entry["aliases"]) == set(TRAINERS)
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text(encoding="utf-8")
    assert all(f"\n| `{alias}` |" in page for alias in TRAINERS)
    assert entry["follows"]["grpo"].startswith("the KL term is KL(π_ref ‖ π) after each prefix")
    assert {"rloo-kl", "tis"} == set(TRAINERS) - set(entry["follows"])  # unbiased on policy
