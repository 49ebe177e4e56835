"""Ctrl-C, termination and kill −9 of a real process: nothing finished is lost, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gradmeter.bench.sweep.store import Store
from tests.cli.running import Result, command, environment, measured, process

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def grid(cells: int, replicates: str) -> tuple[str, ...]:
    """Cells that go on to their cap, for none is ever precise enough."""
    seeds = (f"--seed={seed}" for seed in range(cells))
    each = ("--precision", "1e-9", "--max-replicates", replicates, "--no-timing", "--json")
    return ("run", "--problem", "square", "--estimator", "score-function", *seeds, *each)


def signalled(folder: Path, arguments: tuple[str, ...], after_rows: int, *signals: int) -> Result:
    """A run that gets signals, 0.1 s apart, once it has printed some rows."""
    with subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        out = "".join(running.stdout.readline() for _ in range(after_rows))
        for number in signals:
            running.send_signal(number)
            time.sleep(0.1)
        out += running.stdout.read()
        return Result(running.wait(timeout=60), out, running.stderr.read())


def stored(folder: Path) -> list[dict[str, object]]:
    with Store.read(folder / ".gradmeter" / "store.sqlite") as store:
        return store.rows()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The rows of a run that nobody interrupted."""
    result = process(*grid(6, "2^19"), cwd=tmp_path_factory.mktemp("whole"))
    assert result.status == 0
    return measured(result.rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_finished_rows_and_the_same_command_goes_on(
    tmp_path: Path, whole: list[dict[str, object]], number: int
) -> None:
    arguments = grid(6, "2^19")
    stopped = signalled(tmp_path, arguments, 3, number)
    assert stopped.status == 130
    assert stopped.err.splitlines() == [
        "store: .gradmeter/store.sqlite",
        "gradmeter: stopped; finished rows are kept, the same command goes on from there",
    ]
    assert 3 <= len(stopped.rows) < 18
    assert len(stopped.rows) % 3 == 0
    assert stored(tmp_path) == stopped.rows
    assert [path.name for path in (tmp_path / ".gradmeter").iterdir()] == ["store.sqlite"]
    resumed = process(*arguments, cwd=tmp_path)
    assert resumed.status == 0
    assert by_seed(measured(resumed.rows)) == by_seed(whole)


def by_seed(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows in the order of cells: they come as cells end."""
    return sorted(rows, key=lambda row: int(str(row["seed"])))


def test_kill_9_loses_no_finished_row(tmp_path: Path, whole: list[dict[str, object]]) -> None:
    arguments = grid(6, "2^19")
    killed = signalled(tmp_path, arguments, 5, signal.SIGKILL)
    assert killed.status == -signal.SIGKILL
    found = stored(tmp_path)
    assert all(row in found for row in killed.rows[: len(killed.rows) // 3 * 3])
    assert 3 <= len(found) < 18
    resumed = process(*arguments, cwd=tmp_path)
    assert resumed.status == 0
    assert all(row in resumed.rows for row in found)
    assert by_seed(measured(resumed.rows)) == by_seed(whole)
    assert [path.name for path in (tmp_path / ".gradmeter").iterdir()] == ["store.sqlite"]
