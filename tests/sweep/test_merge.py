"""gradmeter merge: the cells of several stores in one, or one line and nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.measurement.timing import median_interval
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep.store import Store
from gradmeter.bench.sweep.store.merging import TIMING, Merged, merge
from gradmeter.estimators import UsageError
from tests.cli.running import Run, environment
from tests.report import stores
from tests.sweep.corruption import contents

Cell = tuple[list[Row], dict[str, np.ndarray]]


def rounds(seconds: float, process: int = 0) -> dict[str, np.ndarray]:
    """Twenty timing rounds of one process, with a median of about `seconds`."""
    drift = 1.0 + 0.01 * np.random.default_rng(process).standard_normal(20)
    times = {"seconds": seconds * drift, "latency": 2.0 * seconds * drift, "reference": drift}
    return {**times, "process": np.zeros(20)}


def cell(key: str, timed: dict[str, np.ndarray] | None = None, **changes: Any) -> Cell:
    """A cell with the timing columns of its rounds; without rounds, untimed."""
    rows = [{**row, **dict.fromkeys(TIMING), **changes} for row in stores.rows(key)]
    if timed is not None:
        values = median_interval(timed["seconds"]), median_interval(timed["latency"])
        names = (("seconds", "seconds_low", "seconds_high"), ("latency", "latency_low", "latency_high"))
        columns = {n: v for name, value in zip(names, values, strict=True) for n, v in zip(name, value, strict=True)}
        rows = [{**r, **columns, "work_normalised_variance": r["variance"] * values[0][0]} for r in rows]
    return rows, {"squared_norm:all": np.arange(64.0), **(timed or {})}


def one(path: Path) -> tuple[list[Row], dict[str, np.ndarray]]:
    """The rows and the series of the cell `a`."""
    with Store.read(path) as store:
        return store.rows_of("a"), store.series("a")


def test_different_cells_and_timing_runs_are_all_kept(tmp_path: Path) -> None:
    paths = [stores.fill(tmp_path / key, [cell(key, rounds(1e-6))]) for key in "cab"]
    for i, path in enumerate(paths):
        with Store.create(path) as store:
            store.put_series("timing at the same moment", {"reference": np.full(3, float(i // 2))})
    before = [path.read_bytes() for path in paths]
    assert merge(paths, tmp_path / "out") == Merged(3, 0)
    found, parts = contents(tmp_path / "out"), [contents(path) for path in paths]
    assert sorted(found[0], key=str) == sorted((row for rows, _, _ in parts for row in rows), key=str)
    assert found[1] == parts[0][1] | parts[1][1] | parts[2][1]
    assert found[2] == [{"reference": [0.0] * 3}, {"reference": [1.0] * 3}]
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "out"]


def test_rounds_of_both_processes_are_kept_once_each(tmp_path: Path) -> None:
    """The second store is a copy of the first, timed again; the third was timed alone."""
    first, second, third = rounds(1e-6), rounds(3e-6, 1), rounds(2e-6, 2)
    both = {name: np.concatenate([first[name], second[name]]) for name in first}
    both["process"] = np.repeat([0.0, 1.0], 20)
    alone = dict.fromkeys(("started", "finished"), "2026-11-21")
    paths = [
        stores.fill(tmp_path / "1", [cell("a", first, compile_seconds=0.25)]),
        stores.fill(tmp_path / "2", [cell("a", both, compile_seconds=0.25)]),
        stores.fill(tmp_path / "3", [cell("a", third, compile_seconds=0.75, **alone)]),
    ]
    assert merge(paths, tmp_path / "out") == Merged(1, 1)
    rows, series = one(tmp_path / "out")
    expected = np.concatenate([both["seconds"], third["seconds"]])
    assert series["seconds"].tolist() == expected.tolist()
    assert series["process"].tolist() == [0.0] * 20 + [1.0] * 20 + [2.0] * 20
    assert series["squared_norm:all"].tolist() == list(range(64))
    for row in rows:
        assert (row["seconds"], row["seconds_low"], row["seconds_high"]) == median_interval(expected)
        assert row["work_normalised_variance"] == row["variance"] * row["seconds"]
        assert (row["compile_seconds"], row["finished"]) == (0.25, stores.rows("a")[0]["finished"])


def test_rounds_by_the_clock_of_a_device_are_joined_where_every_process_has_them(tmp_path: Path) -> None:
    clocked = [{**rounds(1e-6, n), "device_seconds": np.full(20, 1.0 + n)} for n in range(2)]
    paths = [stores.fill(tmp_path / str(n), [cell("a", clocked[n], peak_memory=[None, 7][n])]) for n in range(2)]
    merge(paths, tmp_path / "out")
    rows, series = one(tmp_path / "out")
    assert series["device_seconds"].tolist() == [1.0] * 20 + [2.0] * 20
    assert {(row["device_seconds"], row["peak_memory"]) for row in rows} == {(1.5, 7)}
    merge([paths[0], stores.fill(tmp_path / "2", [cell("a", rounds(1e-6, 2))])], tmp_path / "mixed")
    rows, series = one(tmp_path / "mixed")
    assert "device_seconds" not in series
    assert {(row["device_seconds"], row["peak_memory"]) for row in rows} == {(None, None)}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_cell_that_one_store_timed_is_timed(tmp_path: Path, order: tuple[int, int]) -> None:
    timed = cell("a", rounds(1e-6), finished="2026-11-21", machine="another")
    paths = [stores.fill(tmp_path / "0", [cell("a")]), stores.fill(tmp_path / "1", [timed])]
    merge([paths[i] for i in order], tmp_path / "out")
    rows, series = one(tmp_path / "out")
    assert rows == timed[0]
    assert {name: values.tolist() for name, values in series.items()} == {n: v.tolist() for n, v in timed[1].items()}


DIFFERENT = [
    (cell("a", variance=3.0), "has variance 2.0 in {a} and 3.0 in {b} for loc, so nothing is merged; leave one of"),
    (cell("a", status="n/a", reason="x"), "has status ok in {a} and n/a in {b}"),
    (cell("a", rounds(3e-6, 1), machine="other"), "has times for machine a machine, 2 cores in {a} and other in {b}"),
    (cell("a", rounds(3e-6, 1), threads=2), "has times for threads 1 in {a} and 2 in {b}"),
    ((cell("a")[0], {"squared_norm:all": np.ones(64)}), "has different series squared_norm:all in {a} and {b}"),
    ((cell("a")[0][1:], {}), "has different parameter blocks in {a} and {b}"),
]


@pytest.mark.parametrize(("other", "said"), DIFFERENT, ids=[said[4:20] for _, said in DIFFERENT])
def test_a_cell_that_differs_is_named_and_nothing_is_written(
    run_cli: Run, tmp_path: Path, other: Cell, said: str
) -> None:
    stores.fill(tmp_path / "a", [cell("a", rounds(1e-6)), cell("b")])
    stores.fill(tmp_path / "b", [other, cell("c")])
    result = run_cli("merge", "a", "b", "--output", "out")
    assert result.status == 2
    assert result.err.startswith("gradmeter: error: cell a ")
    assert said.format(a="a", b="b") in result.err
    assert result.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_bad_usage_of_merge_writes_nothing(run_cli: Run, tmp_path: Path) -> None:
    stores.fill(tmp_path / "a", [cell("a")])
    for arguments, said in (
        (("a", "--output", "out"), "merge needs two stores or more"),
        (("a", "a", "--output", "a"), "--output a exists already; give a new file"),
        (("a", "b", "--output", "out"), "there is no store at b"),
        (("a", "a", "--output", "b/out"), "b/out cannot be written: its folder does not exist; give another --output"),
    ):
        result = run_cli("merge", *arguments)
        assert result.status == 2
        assert said in result.err
        assert result.err.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_merge_leaves_nothing_and_one_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    paths = [stores.fill(tmp_path / key, [cell(key)]) for key in "ab"]
    with pytest.raises(KeyboardInterrupt):
        merge(paths, tmp_path / "out", stop=lambda: True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    stores.fill(tmp_path / ".out.merging", [cell("z")])
    merge(paths, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out"]
    with Store.read(tmp_path / "out") as store:
        assert {row["cell_key"] for row in store.rows()} == {"a", "b"}


def test_a_file_that_lacks_its_last_cells_does_not_appear(tmp_path: Path) -> None:
    """A reader, or a full disk, keeps the log from being brought into the file."""
    paths = [stores.fill(tmp_path / key, [cell(key)]) for key in "ab"]
    readers: list[Store] = []

    def stop() -> bool:
        readers.append(Store.read(tmp_path / ".out.merging"))
        return False

    with pytest.raises(UsageError, match="merging-wal could not be brought into it"):
        merge(paths, tmp_path / "out", stop)
    readers[0].close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


#: Kills a merge at random moments, and keeps what it left under another name.
KILLING = """
import os, random, signal, sys, time
from pathlib import Path
from gradmeter.bench.measurement import cost
from gradmeter.bench.sweep.store.merging import merge
out, moments = Path("out"), random.Random(1)
for number in range(int(sys.argv[1])):
    child = os.fork()
    if not child:
        while True:
            merge([Path("a"), Path("b")], out)
            out.unlink()
    time.sleep(moments.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if out.exists():
        out.rename(f"left-{number}")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("kills", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_a_merge_killed_at_any_moment_leaves_no_store_or_a_whole_one(tmp_path: Path, kills: int) -> None:
    for name in "ab":
        stores.fill(tmp_path / name, [cell(f"{name}{i}", rounds(1e-6)) for i in range(20)])
    before = {name: (tmp_path / name).read_bytes() for name in "ab"}
    whole = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "whole")
    subprocess.run([sys.executable, "-c", KILLING, str(kills)], cwd=tmp_path, env=environment(), check=True)
    assert {name: (tmp_path / name).read_bytes() for name in "ab"} == before
    for left in tmp_path.glob("left-*"):
        assert contents(left) == contents(tmp_path / "whole")
        left.unlink()
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out", "whole"]


def test_a_cell_that_failed_in_one_store_is_told_as_failed(tmp_path: Path) -> None:
    failed = dict.fromkeys(("replicates", "variance", "verdict")) | {"status": "timeout", "reason": "not finished"}
    paths = [stores.fill(tmp_path / "good", [cell("a")]), stores.fill(tmp_path / "bad", [cell("a", **failed)])]
    for first, second in (paths, paths[::-1]):
        with pytest.raises(UsageError, match=r"has status (ok|timeout) in .* and (ok|timeout) in ") as caught:
            merge([first, second], tmp_path / "out")
        assert f"or measure the cell again: --retry timeout --store {paths[1]} (" in str(caught.value)
    assert not (tmp_path / "out").exists()
