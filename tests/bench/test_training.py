"""The plain loops that training is held against: the same model from the same weights, and they learn."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_problem
from gradmeter.bench.performance.goals import plain, training
from tests.support import needs

SMALL = "vae[size=60,batch=20,hidden=5,latent=1,at=initial,kl=analytic]"


def test_minibatches_are_an_epoch_after_another() -> None:
    drawn = plain.batches(10, 3, 0)
    for _ in range(3):
        epoch = np.concatenate([next(drawn) for _ in range(3)])
        assert len(set(epoch)) == 9
        assert set(epoch) <= set(range(10))


@pytest.mark.parametrize("backend", plain.LOOPS)
def test_a_plain_loop_trains_the_same_model(backend: str) -> None:
    """From the problem's own weights; Adam's first step moves every number by the rate, up or down as the expected
    gradient of all images says, wherever that is far from 0. After 200 steps both know the digits' mean and more."""
    needs(backend)
    problem: Any = make_problem(SMALL)
    loop, start = plain.plain(backend, problem, 0.01, 0), problem.initial()
    for name, values in loop.parameters().items():
        np.testing.assert_allclose(values, start[name], rtol=1e-6, atol=1e-7, err_msg=name)
    loop.step()
    moved = {name: values - start[name] for name, values in loop.parameters().items()}
    gradient = problem.exact_at(start).gradient
    for name in ("decoder.1.bias", "decoder.1.weight"):
        clear = np.abs(gradient[name]) > 0.5 * np.abs(gradient[name]).max()
        np.testing.assert_allclose(moved[name][clear], 0.01 * np.sign(gradient[name][clear]), rtol=1e-2)
    before = training.after(plain.Loop(lambda: None, loop.parameters), problem)
    for _ in range(200):
        loop.step()
    assert training.after(plain.Loop(lambda: None, loop.parameters), problem) > before + 10.0


@pytest.mark.parametrize("backend", plain.LOOPS)
def test_on_the_same_draws_both_take_the_same_steps(backend: str, eager: None) -> None:
    """Two epochs, in single precision: where a gradient is all rounding, Adam's first steps have either sign."""
    needs(backend)
    problem: Any = make_problem(SMALL)
    own = training.ours(problem, backend, 0, 0.01)
    other = plain.plain(backend, problem, 0.01, 0, training.drawn(problem, backend, 0))
    for _ in range(6):
        own.step()
        other.step()
    found, start = other.parameters(), problem.initial()
    for name, values in own.parameters().items():
        assert np.abs(values - start[name]).max() > 0.02
        np.testing.assert_allclose(np.quantile(np.abs(values - found[name]), 0.9), 0.0, atol=1e-5, err_msg=name)


def test_what_a_fit_draws_is_an_epoch_after_another() -> None:
    problem: Any = make_problem(SMALL)
    draws = list(itertools.islice(training.drawn(problem, "numpy", 0), 4))
    rows, noise = (np.concatenate([each[i] for each in draws]) for i in (0, 1))
    assert sorted(rows[:60]) == list(range(60))
    assert not np.array_equal(rows[:20], rows[60:])
    assert len(np.unique(noise)) == 80


def test_what_is_reached_is_compared_at_equal_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a loop that is our own the difference is 0; of one that stands still it is what was gained."""
    problem: Any = make_problem(SMALL)
    monkeypatch.setattr(training, "STEPS", 3)
    monkeypatch.setattr(training, "SEEDS", 2)
    monkeypatch.setitem(plain.LOOPS, "numpy", lambda made, rate, seed, _: training.ours(made, "numpy", seed, rate))
    same = training.reached(problem, "numpy")
    assert (same.measured.value, same.met) == (0.0, True)
    monkeypatch.setitem(plain.LOOPS, "numpy", lambda *_: plain.Loop(lambda: None, problem.initial))
    assert training.reached(problem, "numpy").measured.value > 0.5
