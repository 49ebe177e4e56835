"""What is timed, and beside what; never how long it takes."""

import numpy as np
import pytest

from gradmeter.bench.measurement import cost
from gradmeter.bench.measurement.kernel import TimedCall
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.measurement.timing import interleave, reference_parts
from gradmeter.bench.reading.ratios import timed_as_two
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from tests.support import estimates, make_cell, needs


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_copies_elsewhere_make_the_same_estimates(backend: str) -> None:
    needs(backend)
    ready = prepare(make_cell("logistic-regression", "pathwise", backend=backend))
    moved = cost._moved(ready)
    assert len(moved) == cost.PLACES - 1
    here = ready.setting
    noise = here.noise(here.roots("main"), 0, 8)
    expected = estimates(here, noise)
    for each in moved:
        found = estimates(each.setting, noise)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
        for name, array in here.expectation.data.items():
            assert not np.shares_memory(
                here.backend.to_numpy(array), here.backend.to_numpy(each.setting.expectation.data[name])
            )


def test_huge_arrays_are_not_copied(monkeypatch) -> None:
    monkeypatch.setattr(cost, "MOST_COPIED", 1000)
    assert cost._moved(prepare(make_cell("logistic-regression", "pathwise"))) == []


def test_copies_take_turns() -> None:
    used: list[int] = []
    call = cost._Call([TimedCall(lambda i=i: used.append(i), 1) for i in range(3)])
    for number in range(1, 6):
        call()
        call.elapsed(1)
        call.turn = number
    assert used == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1]


def test_every_round_times_everything_once_in_an_order_of_its_own() -> None:
    log: list[str] = []
    calls = {name: (lambda name=name: log.append(name), 2) for name in "abcdef"}
    seconds = interleave(calls, rounds=5)
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abcdef", 5)
    rounds = ["".join(log[i : i + 12 : 2]) for i in range(0, 60, 12)]
    assert log[::2] == log[1::2]  # the repeats of a call are together
    assert all(sorted(each) == list("abcdef") for each in rounds)
    assert len(set(rounds)) == 5


def test_a_timing_run_keeps_the_reference_and_a_pair_for_each_backend(tmp_path) -> None:
    needs("jax")
    cells = [make_cell("square", "pathwise", backend=backend, max_replicates=2**12) for backend in ("numpy", "jax")]
    with Store.create(tmp_path / "store.sqlite") as store:
        run(cells, store)
        [shared] = store.timing_runs()
        parts = {f"reference:{name}" for name in reference_parts()}
        assert set(shared) == {"reference", *parts, "a:numpy", "again:numpy", "a:jax", "again:jax"}
        mean = np.exp(np.mean([np.log(shared[name]) for name in parts], axis=0))
        np.testing.assert_allclose(shared["reference"], mean, rtol=1e-12)
        for cell in cells:
            np.testing.assert_array_equal(store.series(cell.key)["reference"], shared["reference"])
            np.testing.assert_array_equal(shared[f"a:{cell.backend}"] > 0.0, True)
        assert [backend for backend, _ in timed_as_two(store)] == ["jax", "numpy"]
