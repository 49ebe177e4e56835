"""Tasks of several cells, as a Dask cluster gets them; the cluster itself is in `test_workers`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.sweep import cluster
from gradmeter.bench.sweep.cluster import MOST_IN_A_TASK, Batches, OnDask, on_worker
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.measuring import Ended
from gradmeter.bench.sweep.processes import Limits, packed
from gradmeter.bench.sweep.run import run
from tests.cli.running import measured
from tests.sweep import poisons

FEW = StoppingCriteria(max_replicates=2**12)


def cells(count: int) -> list[Cell]:
    return [Cell(make_problem("square"), make_estimator("pathwise"), seed=seed, goals=FEW) for seed in range(count)]


def test_a_task_takes_a_second_or_what_keeps_the_scheduler_from_being_busy() -> None:
    sizes = Batches()
    assert sizes.size(1, 10**6) == 1
    sizes.took(1, 4.0)
    assert sizes.size(1, 10**6) == 1
    for _ in range(60):
        sizes.took(10, 1.0)
    sizes.took(0, 0.0)  # of a worker that died
    assert sizes.size(1, 10**6) == sizes.size(100, 10**6) == pytest.approx(10, abs=1)
    assert sizes.size(1000, 10**6) == pytest.approx(50, abs=1)
    assert sizes.size(1000, 10**4) == 2  # so that every worker has some
    assert sizes.size(1000, 1) == 1
    for _ in range(100):
        sizes.took(100, 0.0)
    assert sizes.size(1, 10**6) == MOST_IN_A_TASK


def test_a_poison_in_a_task_is_the_end_of_its_own_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_abandonment", lambda: lambda: False)
    good = cells(2)
    poison = Cell(poisons.problem("kill"), make_estimator("pathwise"), goals=FEW)
    found, _ = on_worker("measured", [packed((each, 0)) for each in (good[0], poison, good[1])], Limits(), 60.0)
    assert isinstance(found[1], Ended)
    assert (found[1].status, len(found)) == ("crashed", 3)
    assert measured([*found[0].rows, *found[2].rows]) == measured(run(good, timing=False))


def test_a_task_that_takes_long_leaves_cells_to_further_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_abandonment", lambda: lambda: False)
    monkeypatch.setattr(cluster, "_twice_at_most", lambda work, sent, limits, abandoned: sent)
    assert on_worker("measured", [b"a", b"b"], Limits(), -1.0)[0] == [b"a"]


class Future:
    def __init__(self, key: str, status: str, held: Any) -> None:
        self.key, self.status, self.held = key, status, held

    def add_done_callback(self, call: Callable[[Future], None]) -> None:
        call(self)

    def result(self) -> Any:
        return self.held

    exception = result


class Killed(Exception):
    pass


class Client:
    """Ends each task at once, as `behave` says: with the cells that are done, a lost worker, or an error."""

    status = "running"

    def __init__(self, behave: Callable[[list[bytes]], Any]) -> None:
        self.behave, self.tasks = behave, list[int]()

    def nthreads(self) -> dict[str, int]:
        return {"a worker": 1}

    def submit(self, function: Any, work: str, batch: list[bytes], *more: Any, key: str, pure: bool) -> Future:
        self.tasks.append(len(batch))
        found = self.behave(batch)
        if found is None:
            return Future(key, "lost", None)
        return Future(key, "error" if isinstance(found, Killed) else "finished", found)

    def gather(self, futures: list[Future]) -> list[Any]:
        return [future.held for future in futures]

    def cancel(self, futures: list[Future]) -> None:
        assert futures == []


def on_client(client: Client) -> OnDask:
    made = object.__new__(OnDask)
    made.__dict__.update(_client=client, _killed=Killed, limits=Limits())
    made.__dict__.update(_limits=Limits(), _timer=type("Timer", (), {"go_on": lambda self: None})())
    return made


def test_each_cell_ends_once_whatever_becomes_of_its_task() -> None:
    wanted = cells(300)
    poison = packed((wanted[250], 0))
    calls = 0

    def behave(batch: list[bytes]) -> Any:
        nonlocal calls
        calls += 1
        if poison in batch:
            return Killed()
        if calls % 7 == 0:
            return None
        done = batch[: max(1, len(batch) // 2)] if calls % 5 == 0 else batch
        return [pickle.loads(each)[0].seed for each in done], 1e-3 * len(done)

    client = Client(behave)
    found = [each for each in on_client(client).measure(wanted, Listener(), Stop()) if each is not None]
    assert {cell.seed for cell, _ in found} == set(range(300))
    assert len(found) == 300
    for cell, result in found:
        if cell is wanted[250]:
            assert (result.status, result.reason) == ("crashed", "the Dask workers that measured it died")
        else:
            assert result == cell.seed
    assert max(client.tasks) > 30
