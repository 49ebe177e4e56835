"""Minibatches of a fit: epochs, what they are set by, and that none is likelier than another."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.cells import make_problem
from gradmeter.bench.fit.gradient import GradientMethod
from gradmeter.bench.fit.minibatches import Minibatches, taken
from gradmeter.bench.fit.recipe import Gradient
from gradmeter.bench.optimisation.optimisers import Adam
from gradmeter.estimators import Pathwise
from gradmeter.estimators.backends import get

SIZE, BATCH = 7, 3


def minibatches(backend: str, seed: int = 0, size: int = SIZE, noise: str = "native") -> Minibatches:
    problem = make_problem(f"linear-vae[size={size},batch={BATCH}]")
    method = Gradient(Pathwise(), Adam(), 1, backend, noise=noise).prepare(problem, seed)
    assert isinstance(method, GradientMethod)
    return method.stepper.minibatches


def drawn(found: Minibatches, backend: str, t: int) -> np.ndarray:
    made: Any = get(backend)
    places = {n: {**p, "start": made.asarray(p["start"], None)} for n, p in found.places(t).items()}
    (values,) = taken(made, places, found.specs).values()
    array = made.to_numpy(values)
    assert array.shape == (1, BATCH)
    for on_host in found.rows(t).values():
        np.testing.assert_array_equal(on_host, array)
    return np.asarray(array[0])


def test_an_epoch_has_every_row_once_and_leaves_over_what_does_not_fill_a_minibatch(backend_name: str) -> None:
    found = minibatches(backend_name)
    for epoch in range(5):
        seen = np.concatenate([drawn(found, backend_name, 2 * epoch + i) for i in (1, 2)])
        assert len(set(seen.tolist())) == 2 * BATCH
        assert set(seen.tolist()) <= set(range(SIZE))


def test_a_minibatch_is_set_by_seed_and_iteration_alone(backend_name: str) -> None:
    """In whatever order they are asked for."""
    found, again = minibatches(backend_name, size=60), minibatches(backend_name, size=60)
    in_order = [drawn(found, backend_name, t) for t in range(1, 50)]
    for t in (49, 1, 21, 20, 2):
        np.testing.assert_array_equal(drawn(again, backend_name, t), in_order[t - 1])
    other = drawn(minibatches(backend_name, seed=1, size=60), backend_name, 1)
    assert not np.array_equal(other, in_order[0])
    assert not np.array_equal(in_order[20], in_order[0])  # the same place in the next epoch


def test_on_shared_noise_backends_have_the_same(backend_name: str) -> None:
    ours, theirs = (minibatches(name, size=60, noise="shared") for name in (backend_name, "numpy"))
    for t in (1, 20, 21):
        np.testing.assert_array_equal(drawn(ours, backend_name, t), drawn(theirs, "numpy", t))


def test_every_row_is_as_likely_as_another_everywhere(backend_name: str) -> None:
    """Which of 7 rows stands where, in 700 epochs: each count is binomial; none of 42 is 6 deviations away but by a
    chance of 8e-8."""
    found, epochs = minibatches(backend_name), 700
    seen = np.array([[drawn(found, backend_name, 2 * e + i) for i in (1, 2)] for e in range(epochs)]).reshape(
        epochs, -1
    )
    counts = np.array([[np.count_nonzero(seen[:, place] == row) for row in range(SIZE)] for place in range(2 * BATCH)])
    assert np.all(np.abs(counts - epochs / SIZE) < 6.0 * np.sqrt(epochs * (1 / SIZE) * (1 - 1 / SIZE)))


def test_without_minibatches_nothing_is_drawn() -> None:
    method = Gradient(Pathwise(), Adam(), 1).prepare(make_problem("linear-vae[size=7]"), 0)
    assert isinstance(method, GradientMethod)
    found = method.stepper.minibatches
    assert (found.specs, found.places(1)) == ({}, {})
