"""`audit` on gradients as users write them: wrong, right and hostile ones.

The means of the estimators are exact and come from `cases.py`. The budget in gradients is what limits the quick tests;
the seconds are many, so that a loaded machine gives the same verdicts.
"""

from __future__ import annotations

import functools
import io
import math
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jax")

import jax
import jax.numpy as jnp
import torch

import gradmeter as gm
from gradmeter.bench.audit import calls, source
from tests.audit import null
from tests.audit.cases import RIGHT, WRONG, Case

UsageError = gm.UsageError

RARE = "a mean that rests on an event of probability 1e-6 is called biased"
#: Name of the case -> reason: what `audit` gets wrong today.
KNOWN: dict[str, str] = {
    "rare-rare_beside_noise_torch": RARE,
    "rare-rare_beside_noise_jax": RARE,
    "28-standardised_torch": "an internal error of torch.func.vmap is shown instead of the state between calls",
    "7-no_entropy_score_numpy": "the quadrature spends the seconds, and the message blames the gradients",
    "8-no_entropy_pathwise_numpy": "the quadrature spends the seconds, and the message blames the gradients",
}
#: Name of the case -> reason: faults that are missing or wrong today.
KNOWN_FAULTS: dict[str, str] = {
    case.name: reason
    for number, reason in {
        "12": "the missing score term is not recognised",
        "13": "a cut tail is called a scale",
    }.items()
    for case in WRONG
    if case.number == number
} | dict.fromkeys(("15-float16_numpy", "15-float16_jax"), "the same offset in all coordinates is not recognised")


def parameters(cases: list[Case], *, quick: bool, known: dict[str, str]) -> list[Any]:
    """Return the cases as parameters of a test, those that fail today marked."""
    chosen = [case for case in cases if case.quick or not quick]
    return [
        pytest.param(
            case,
            id=f"{case.name}-{i}",
            marks=[pytest.mark.xfail(strict=True, reason=known[case.name])] if case.name in known else [],
        )
        for i, case in enumerate(chosen)
    ]


@functools.cache
def _audited(cases: str, place: int, quick: bool) -> Any:
    case = (WRONG if cases == "wrong" else RIGHT)[place]
    budget: dict[str, Any] = {"replicates": 2**13, "seconds": 120.0} if quick else {"seconds": 20.0}
    try:
        return gm.audit(case.gradient, **case.arguments, **budget)
    except UsageError as error:
        return error


def audited(case: Case, *, quick: bool) -> Any:
    """Return the audit of a case, or the error that it raised; each case is audited once."""
    cases = WRONG if case in WRONG else RIGHT
    return _audited("wrong" if cases is WRONG else "right", cases.index(case), quick)


def is_dependent(result: Any) -> bool:
    """Return whether the replicates were found to depend on each other, or on more than their randomness."""
    if isinstance(result, UsageError):
        return "not a function of its randomness" in str(result)
    return any(row["variance_flag"] == "dependent" for row in result.rows)


def is_found(result: Any) -> bool:
    """Return whether the audit found the gradient to be wrong."""
    return is_dependent(result) or (not isinstance(result, UsageError) and result.verdict in {"biased", "disagrees"})


def check_wrong(case: Case, result: Any) -> None:
    """Check that a wrong gradient is found, or that the bound leaves room for its bias."""
    if case.dependent:
        assert is_dependent(result), result
        return
    assert not isinstance(result, UsageError), result
    bound = result.bias_bound
    assert bound is None or bound >= case.bias * (1 - 1e-3), f"bound below the true bias {case.bias:.4g}:\n{result}"
    assert result.verdict in {"biased", "disagrees", "inconclusive", "unbiased", "agrees"}


def check_right(result: Any) -> None:
    """Check that a right gradient is not called wrong."""
    assert not isinstance(result, UsageError), result
    assert result.verdict in {"unbiased", "agrees", "inconclusive"}, result


def check_fault(case: Case, result: Any) -> None:
    """Check that the fault of a gradient that was found to be wrong is the right one."""
    if not is_found(result):
        pytest.skip("not found within the budget")
    fault = getattr(result, "fault", None)
    assert re.search(case.fault or "", fault or ""), f"fault {fault!r}, not {case.fault!r}"


@pytest.mark.parametrize("case", parameters(WRONG, quick=True, known=KNOWN))
def test_wrong(case: Case) -> None:
    """The verdict is right, and so is the fault that is named, but for those that are known not to be."""
    found = audited(case, quick=True)
    check_wrong(case, found)
    if case.fault is not None and case.name not in KNOWN_FAULTS and is_found(found):
        check_fault(case, found)


@pytest.mark.parametrize("case", parameters(RIGHT, quick=True, known=KNOWN))
def test_right(case: Case) -> None:
    check_right(audited(case, quick=True))


WITH_FAULT = [case for case in WRONG if case.fault is not None]


@pytest.mark.slow
@pytest.mark.parametrize("case", parameters(WRONG, quick=False, known=KNOWN))
def test_wrong_in_every_framework(case: Case) -> None:
    check_wrong(case, audited(case, quick=False))


@pytest.mark.slow
@pytest.mark.parametrize("case", parameters(RIGHT, quick=False, known=KNOWN))
def test_right_in_every_framework(case: Case) -> None:
    check_right(audited(case, quick=False))


@pytest.mark.slow
@pytest.mark.parametrize("case", parameters(WITH_FAULT, quick=False, known=KNOWN_FAULTS))
def test_fault_is_named_in_every_framework(case: Case) -> None:
    check_fault(case, audited(case, quick=False))


@pytest.mark.slow
def test_most_wrong_gradients_are_found() -> None:
    missed = [case.name for case in WRONG if not is_found(audited(case, quick=False))]
    assert len(missed) <= 0.15 * len(WRONG), missed


def test_correct_gradients_are_not_called_biased() -> None:
    verdicts, biased = null.count(range(12))
    assert not biased, "\n".join(biased)
    assert sum(verdicts.values()) == 12


@pytest.mark.slow
def test_a_thousand_correct_gradients_are_not_called_biased() -> None:
    _, biased = null.count(range(1000))
    assert not biased, "\n".join(biased)


def test_a_heavy_tail_in_one_block_does_not_hide_the_bias_of_another() -> None:
    def wrong_sign(rng: np.random.Generator) -> Any:
        e = rng.standard_normal(1)
        f = (e**2 + 4) / 1.0  # the mean over ±e of (z − 2)²: times e it has mean zero, not −4
        return {"loc": f * e, "log_scale": f * (e**2 - 1)}

    result = gm.audit(wrong_sign, problem="square[k=2]", replicates=2**15, seconds=120.0)
    assert result.verdict == "biased"


def test_two_coordinates_by_quadrature_do_not_take_millions_of_calls() -> None:
    calls = 0

    def log_density(q: Any, z: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 300_000:
            raise RuntimeError("300,000 calls of the density")
        return -0.5 * ((z - q["loc"]) ** 2).sum() - math.log(2 * math.pi)

    def gradient(q: Any, rng: np.random.Generator) -> Any:
        return {"loc": 2 * (q["loc"] + rng.standard_normal(2) - 2)}

    gm.audit(
        gradient,
        {"loc": np.zeros(2)},
        log_density=log_density,
        integrand=lambda z: ((z - 2) ** 2).sum(),
        replicates=256,
        seconds=120.0,
    )


# Hostile callables ----------------------------------------------------------------------------------------------------


def refusal(gradient: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """Return the message of the `UsageError`, after checking that it is one line that names the function."""
    keywords = {"replicates": 2**11, "seconds": 60.0, "exact": 1.0, **keywords}
    with pytest.raises(UsageError) as caught:
        gm.audit(gradient, *arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    assert gradient.__name__ in message
    return message


def accepted(gradient: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Return the audit of a correct gradient, after checking that it is not called biased."""
    keywords = {"replicates": 2**11, "seconds": 60.0, "exact": 1.0, **keywords}
    result = gm.audit(gradient, *arguments, **keywords)
    assert result.verdict in {"unbiased", "inconclusive"}
    assert not is_dependent(result)
    return result


def test_raises() -> None:
    def broken(rng: np.random.Generator) -> float:
        raise ValueError("first line\nsecond line")

    message = refusal(broken)
    assert "ValueError: first line" in message
    assert "test_cases.py" in message


def test_raises_after_a_while() -> None:
    calls = 0

    def tired(rng: np.random.Generator) -> float:
        nonlocal calls
        calls += 1
        if calls > 300:
            raise RuntimeError("no more")
        return 1 + rng.standard_normal()

    assert "RuntimeError: no more" in refusal(tired)


def test_raises_under_a_batch() -> None:
    def broken(key: Any) -> Any:
        return jax.random.normal(key, (3,)) @ jnp.ones(2)

    assert "TypeError" in refusal(broken)


def _rarely_nan(rng: np.random.Generator) -> float:
    return np.nan if rng.random() < 0.005 else 1 + rng.standard_normal()


def _rarely_inf(generator: torch.Generator) -> Any:
    z = torch.randn((), generator=generator)
    return torch.where(z > 2.5, torch.inf, 1 + z)


def _nan_jax(key: Any) -> Any:
    z = jax.random.normal(key)
    return jnp.where(z > 2.5, jnp.nan, 1 + z)


@pytest.mark.parametrize(
    ("gradient", "word"), [(_rarely_nan, "nan"), (_rarely_inf, "inf"), (_nan_jax, "nan")], ids=["numpy", "torch", "jax"]
)
def test_rarely_not_finite(gradient: Callable[..., Any], word: str) -> None:
    message = refusal(gradient)
    assert word in message
    assert "finite" in message


def test_wrong_shape() -> None:
    def three_numbers(rng: np.random.Generator) -> Any:
        return rng.standard_normal(3)

    with pytest.raises(UsageError, match=r"\(2,\).*\(3,\)"):
        gm.audit(three_numbers, exact=np.ones(2), replicates=256)


def test_wrong_keys_in_exact() -> None:
    def gradient(rng: np.random.Generator) -> Any:
        return {"loc": 1 + rng.standard_normal(2), "log_scale": 2 + rng.standard_normal(2)}

    with pytest.raises(UsageError, match="scale"):
        gm.audit(gradient, exact={"loc": np.ones(2), "scale": np.full(2, 2.0)}, replicates=256)


def test_exact_without_the_keys_of_the_gradient() -> None:
    def gradient(rng: np.random.Generator) -> Any:
        return {"loc": 1 + rng.standard_normal(2)}

    with pytest.raises(UsageError, match="loc"):
        gm.audit(gradient, exact=np.ones(2), replicates=256)


def test_changing_shape() -> None:
    def ragged(rng: np.random.Generator) -> Any:
        return np.ones(int(rng.integers(1, 4)))

    assert re.search("shape|form must not change", refusal(ragged, exact=np.ones(2)))


def test_changing_keys() -> None:
    def fickle(rng: np.random.Generator) -> Any:
        return {"a" if rng.random() < 0.95 else "b": 1 + rng.standard_normal()}

    assert "b" in refusal(fickle, exact={"a": 1.0})


def test_prints_a_lot() -> None:
    def chatty(rng: np.random.Generator) -> float:
        print("step " * 40)
        return 1 + rng.standard_normal()

    text = io.StringIO()
    with redirect_stdout(text):
        accepted(chatty)


def test_reseeds_global_generators() -> None:
    def reseeding(rng: np.random.Generator) -> float:
        np.random.seed(0)  # noqa: NPY002
        return 1 + rng.standard_normal()

    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    accepted(reseeding)
    after = np.random.get_state()[1]  # noqa: NPY002
    assert (after == before).all(), "the state of numpy.random is not restored"


def test_reseeds_torch_before_it_draws() -> None:
    def reseeding() -> Any:
        torch.manual_seed(0)
        return 1 + torch.randn(())

    result = gm.audit(reseeding, exact=1.0, replicates=2**11, seconds=60.0)
    assert is_dependent(result)


def test_seeds_both_generators_and_draws_from_numpy() -> None:
    def reseeding(rng: np.random.Generator) -> float:
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        return 1 + rng.standard_normal()

    accepted(reseeding)


def test_mutates_its_parameters() -> None:
    def greedy(parameters: Any, rng: np.random.Generator) -> Any:
        parameters["w"] -= 0.1
        return {"w": 1 + rng.standard_normal(2)}

    assert "w differs after a call" in refusal(greedy, {"w": np.zeros(2)}, exact={"w": np.ones(2)})


def test_mutates_torch_parameters() -> None:
    def greedy(w: Any, generator: torch.Generator) -> Any:
        w -= 0.1
        return 1 + torch.randn(2, generator=generator)

    refusal(greedy, torch.zeros(2), exact=np.ones(2))


def test_not_vmappable() -> None:
    def branching(key: Any) -> Any:
        z = jax.random.normal(key)
        return 1 + z if float(z) > 0 else 1 + 0.5 * z + 0.5 * z

    result = accepted(branching, replicates=256)
    assert any("not in batches" in remark for remark in result.remarks)


def test_backward() -> None:
    def loss(w: Any, generator: torch.Generator) -> Any:
        w = w.detach().requires_grad_()
        ((w + torch.randn(2, generator=generator)) ** 2).sum().backward()
        return w.grad

    accepted(loss, torch.full((2,), 3.0), exact=np.full(2, 6.0))


def test_backward_without_zero_grad() -> None:
    def accumulates(w: Any, generator: torch.Generator) -> Any:
        ((w + torch.randn(2, generator=generator)) ** 2).sum().backward()
        return w.grad

    assert re.search(r"grad|accumulate", refusal(accumulates, torch.ones(2, requires_grad=True), exact=np.full(2, 2.0)))


def test_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "GRACE", 0.5)

    def endless(rng: np.random.Generator) -> float:
        while True:
            pass

    start = time.monotonic()
    assert "did not return" in refusal(endless, seconds=0.5)
    assert time.monotonic() - start < 15


@pytest.mark.slow
def test_ends_rarely_not() -> None:
    def stuck(rng: np.random.Generator) -> float:
        z = float(rng.standard_normal())
        while z > 2.5:
            time.sleep(0.01)
        return 1 + z

    start = time.monotonic()
    assert "did not return" in refusal(stuck, seconds=1)
    assert time.monotonic() - start < 15


def test_exits() -> None:
    def leaving(rng: np.random.Generator) -> float:
        sys.exit(3)

    assert "SystemExit" in refusal(leaving)


def test_keyboard_interrupt_goes_through() -> None:
    def interrupted(rng: np.random.Generator) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gm.audit(interrupted, exact=1.0)


def test_returns_none() -> None:
    def forgets(rng: np.random.Generator) -> None:
        rng.standard_normal()

    message = refusal(forgets)
    assert "None" in message
    assert "return" in message


def test_returns_text() -> None:
    def text(rng: np.random.Generator) -> str:
        return "1.0"

    assert "'1.0'" in refusal(text)


def test_returns_complex() -> None:
    def imaginary(rng: np.random.Generator) -> complex:
        return 1 + 1j * rng.standard_normal()

    assert "complex" in refusal(imaginary)


def test_takes_three_arguments() -> None:
    def many(parameters: Any, batch: Any, rng: np.random.Generator) -> float:
        return 1 + rng.standard_normal()

    assert "called as" in refusal(many)
    assert "batch" in refusal(many, np.ones(1)) or "rng" in refusal(many, np.ones(1))


def test_hidden_randomness() -> None:
    def hidden(rng: np.random.Generator) -> float:
        return 1 + rng.standard_normal() + 0.1 * np.random.default_rng().standard_normal()

    assert "not a function of its randomness" in refusal(hidden)


def test_hidden_global_randomness() -> None:
    def hidden(generator: torch.Generator) -> Any:
        return 1 + torch.randn((), generator=generator) + 0.1 * torch.randn(())

    assert "not a function of its randomness" in refusal(hidden)


def test_state_between_calls() -> None:
    total: list[float] = []

    def running_mean(rng: np.random.Generator) -> float:
        total.append(1 + rng.standard_normal())
        return total[-1] - sum(total) / len(total)

    assert "keep nothing between calls" in refusal(running_mean)


def test_ignores_its_seed() -> None:
    def deaf(seed: int) -> float:
        return 1 + np.random.default_rng(3).standard_normal()

    result = gm.audit(deaf, exact=1.0, replicates=256, seconds=60.0)
    assert result.verdict == "inconclusive"
    assert is_dependent(result)
    assert result.fault == "draws repeat"


def test_slow_gradient_is_called_as_often_as_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the gradient moves, the audit takes at least half of its time, at most all of it."""
    made, lasting = 0, 0.5  # seconds
    clock = SimpleNamespace(perf_counter=lambda: lasting * made)
    for module in (calls, source):
        monkeypatch.setattr(module, "time", clock)

    def slow(rng: np.random.Generator) -> float:
        nonlocal made
        made += 1
        return 1 + rng.standard_normal()

    accepted(slow, replicates=10**5, seconds=300.0)
    assert 0.5 * 300.0 <= lasting * made <= 300.0
    made = 0
    accepted(slow, replicates=256, seconds=300.0)
    assert made <= 256
