"""Ctrl-C, termination and kill −9 of a real process: nothing finished is lost, and the same command goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
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
    result = process(*grid(6, "2^18"), cwd=tmp_path_factory.mktemp("whole"))
    assert result.status == 0
    return measured(result.rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_the_cell(tmp_path: Path, whole: list[dict[str, object]], number: int) -> None:
    arguments = grid(6, "2^18")
    stopped = signalled(tmp_path, arguments, 3, number)
    assert stopped.status == 130
    assert stopped.err.splitlines() == [
        "gradmeter: finishing the current cell; Ctrl-C again stops at once",
        "store: .gradmeter/store.sqlite",
        "gradmeter: stopped; finished rows are kept, the same command goes on from there",
    ]
    assert 3 <= len(stopped.rows) < 18
    assert len(stopped.rows) % 3 == 0
    assert stored(tmp_path) == stopped.rows
    assert [path.name for path in (tmp_path / ".gradmeter").iterdir()] == ["store.sqlite"]
    resumed = process(*arguments, cwd=tmp_path)
    assert resumed.status == 0
    assert resumed.out.startswith(stopped.out)
    assert measured(resumed.rows) == whole


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    arguments = grid(2, "2^30")  # a cell of many minutes
    with subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, encoding="utf-8"
    ) as running:
        while not (tmp_path / ".gradmeter" / "store.sqlite-wal").exists():
            assert running.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert running.poll() is None
        for _ in range(4):  # of which the last ones may come when it is about to end
            running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 130
        assert running.stderr is not None
        message = running.stderr.read()
    assert message.splitlines()[-1] == (
        "gradmeter: error: interrupted; finished rows are kept, the same command goes on from there"
    )
    assert "Traceback" not in message
    assert stored(tmp_path) == []


def test_kill_9_loses_no_finished_row(tmp_path: Path, whole: list[dict[str, object]]) -> None:
    arguments = grid(6, "2^18")
    killed = signalled(tmp_path, arguments, 5, signal.SIGKILL)
    assert killed.status == -signal.SIGKILL
    found = stored(tmp_path)
    assert found[: len(killed.rows) // 3 * 3] == killed.rows[: len(killed.rows) // 3 * 3]
    assert 3 <= len(found) < 18
    resumed = process(*arguments, cwd=tmp_path)
    assert resumed.status == 0
    assert resumed.rows[: len(found)] == found
    assert measured(resumed.rows) == whole
    assert [path.name for path in (tmp_path / ".gradmeter").iterdir()] == ["store.sqlite"]


DEADLY = """
import os, signal, sys
from dataclasses import dataclass
import gradmeter
from gradmeter.bench.problems.test_functions import Square, SquareIntegrand

class Deadly(SquareIntegrand):
    def derivative(self, xp, data, z):
        os.kill(os.getpid(), signal.SIGKILL)

@dataclass(frozen=True)
class Own(Square):
    integrand = Deadly()

frame = gradmeter.measure(["square", Own(), "cosine"], "pathwise", max_replicates=2**12, timing=False, store="s")
print(*frame["status"][frame["block"] == "all"])
"""


def test_a_cell_that_kills_its_process_is_set_aside_the_third_time(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)

    def run() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "deadly.py"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, encoding="utf-8"
        )
        return done.returncode, done.stdout.strip()

    assert [run(), run()] == [(-signal.SIGKILL, "")] * 2
    assert [run(), run()] == [(0, "ok crashed ok")] * 2


@pytest.mark.slow
def test_no_kill_at_any_moment_loses_a_finished_row(tmp_path: Path) -> None:
    """A cell may come out `crashed` only if it was running at two kills."""
    moments, arguments = random.Random(1), grid(60, "2^16")
    printed: list[str] = []
    for _ in range(12):
        with (tmp_path / "rows").open("w+", encoding="utf-8") as rows:
            running = subprocess.Popen(
                command(*arguments), cwd=tmp_path, env=environment(), stdout=rows, stderr=subprocess.DEVNULL
            )
            time.sleep(moments.uniform(0.2, 1.2))
            running.kill()
            running.wait()
            rows.seek(0)
            lines = [line for line in rows.read().splitlines(keepends=True) if line.endswith("\n")]
        assert lines[: len(printed)] == printed[: len(lines)]
        printed = max(printed, lines, key=len)
    resumed = process(*arguments, cwd=tmp_path)
    assert resumed.out.startswith("".join(printed))
    assert len(resumed.rows) == 3 * 60
    assert {row["status"] for row in resumed.rows} <= {"ok", "crashed"}
    whole = process(*arguments, "--store", "another", cwd=tmp_path)
    finished = [(a, b) for a, b in zip(resumed.rows, whole.rows, strict=True) if a["status"] == "ok"]
    assert len(finished) > 3 * 50
    assert measured([a for a, _ in finished]) == measured([b for _, b in finished])
