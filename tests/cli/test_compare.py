"""`gradmeter compare`: what changed between two stores, and the gates. Stores are invented: their noise is known."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from gradmeter.bench.cli import main
from gradmeter.bench.comparison import Comparison, compare, parse_gate
from gradmeter.bench.sweep.store import Store
from tests.report import stores

ROUNDS = 20
PROBLEMS = ("square", "exponential", "cosine", "logistic-regression")
BACKENDS = ("numpy", "torch", "jax")
FIRST = "square[k=2] · pathwise · numpy"


def make(
    path: Path, run: int, slower=None, noisier=None, leave_out=(), untimed=(), scatter=0.025, again=None, **given
) -> Path:
    """A store of four cells a backend, as run number `run` would leave it.

    Rounds of a cell scatter by 2.5 %, those of the reference by 1.5 %, every cell swings by 1 % from run to run, as
    calibration finds; the machine is up to twice as slow in one run as in another. Group means of Q never change.

    Parameters
    ----------
    slower, noisier : factors by (problem, backend).
    again
        The same factors in a second process that times all of it; None where there was none.
    leave_out, untimed : cells that are not there, and cells without rounds.
    """
    slower, noisier = slower or {}, noisier or {}
    noise = np.random.default_rng(run)
    machine = np.exp(noise.uniform(0.0, 0.7))
    reference = machine * 1e-5 * np.exp(0.015 * noise.standard_normal(ROUNDS))
    cells = []
    for i, (backend, problem) in enumerate((b, p) for b in BACKENDS for p in PROBLEMS):
        drawn, cell = np.random.default_rng(1000 + i), (problem, backend)
        level = machine * 1e-6 * slower.get(cell, 1.0) * np.exp(0.01 * noise.standard_normal())
        seconds = level * np.exp(scatter * noise.standard_normal(ROUNDS))
        added = noisier.get(cell, 1.0) - 1.0
        groups = np.exp(0.1 * drawn.standard_normal(64))
        groups = groups + added * np.exp(0.02 * noise.standard_normal(64)) * groups.mean()
        arrays = {"squared_norm:all": groups, "seconds": seconds, "reference": reference}
        if again is not None:
            second = machine * 1e-6 * again.get(cell, 1.0) * np.exp(0.01 * noise.standard_normal())
            arrays["seconds"] = np.append(seconds, second * np.exp(scatter * noise.standard_normal(ROUNDS)))
            arrays["reference"] = np.concatenate([reference, reference])
            arrays["process"] = np.repeat([0.0, 1.0], ROUNDS)
        if cell in untimed:
            arrays = {"squared_norm:all": groups}
        rows = stores.rows(
            f"{i:02d}",
            **{"problem": problem, "backend": backend, "variance": float(groups.mean()), "seconds": level, **given},
        )
        if cell not in leave_out:
            cells.append((rows, arrays))
    stores.fill(path, cells)
    with Store.create(path) as store:
        pair = {name: 1e-6 * np.exp(0.02 * noise.standard_normal(ROUNDS)) for name in ("a:numpy", "again:numpy")}
        store.put_series("timing 2026-11-20", pair)
    return path


def compared(before: Path, after: Path) -> Comparison:
    with Store.read(before) as first, Store.read(after) as second:
        return compare(first, second)


def called(comparison: Comparison) -> set[tuple[str, str]]:
    """What is not the same: (start of the label, word)."""
    changes = (*comparison.cells, *comparison.backends)
    words = {(c.label.split(",")[0], c.word(metric)) for c in changes for metric in c.ratios}
    return {(label, word) for label, word in words if word != "same"}


def status(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return make(tmp_path / "before.sqlite", 0)


def test_ten_runs_of_identical_code_are_the_same(tmp_path, capsys):
    """False-alarm rate: 4 standard errors, once in 16,000 ratios; here 135 of them, with fixed seeds."""
    paths = [make(tmp_path / f"{run}.sqlite", run) for run in range(10)]
    for first, second in itertools.pairwise(paths):
        comparison = compared(first, second)
        assert called(comparison) == set()
        assert {c.ratios["variance"].value for c in comparison.cells} == {1.0}
        assert status(first, second, "--fail", "time:1.01", "--fail", "variance:1.001") == 0
    out = capsys.readouterr().out
    assert "12 cells: 0 slower, 0 faster, 0 more variable, 0 less variable" in out


def test_a_slowdown_of_15_percent_is_named(tmp_path, before, capsys):
    slower = {("square", backend): 1.15 for backend in BACKENDS}
    for run in range(1, 5):
        after = make(tmp_path / f"{run}.sqlite", run, slower=slower)
        assert called(compared(before, after)) == {(f"square[k=2] · pathwise · {b}", "slower") for b in BACKENDS}
        assert called(compared(after, before)) == {(f"square[k=2] · pathwise · {b}", "faster") for b in BACKENDS}
        assert status(before, after, "--fail", "time:1.1") == 1
        assert f"time of {FIRST}" in capsys.readouterr().err
        assert status(before, after, "--fail", "time:1.3", "--fail", "variance:1.01") == 0
        assert status(after, before, "--fail", "time:1.01") == 0


def test_what_slows_one_of_two_processes_is_no_change(tmp_path):
    """At 4 standard errors, 12 cells in 8 comparisons with fixed seeds."""
    slower = {("square", backend): 1.15 for backend in BACKENDS}
    lone, before = {("square", "torch"): 1.3}, make(tmp_path / "before.sqlite", 0, again={})
    for run in range(1, 5):
        after = make(tmp_path / f"{run}.sqlite", run, slower=lone, again={})
        assert called(compared(before, after)) == set()
        assert called(compared(after, before)) == set()
        after = make(tmp_path / f"{run}-slower.sqlite", run, slower=slower, again=slower)
        assert called(compared(before, after)) == {(f"square[k=2] · pathwise · {b}", "slower") for b in BACKENDS}


def test_intervals_hold_the_truth(tmp_path, before):
    """95 % intervals, 240 of them: at least 209 must (a binomial tail of 1e-6)."""
    held = 0
    for run in range(1, 21):
        after = make(tmp_path / f"{run}.sqlite", run, slower={("cosine", "jax"): 1.3})
        for c in compared(before, after).cells:
            truth = 1.3 if c.columns["problem"] == "cosine" and c.columns["backend"] == "jax" else 1.0
            held += c.ratios["time"].low <= truth <= c.ratios["time"].high
    assert held >= 209


def test_a_whole_backend_that_became_slower_is_named(tmp_path, before, capsys):
    after = make(tmp_path / "after.sqlite", 1, slower={(problem, "jax"): 1.15 for problem in PROBLEMS})
    comparison = compared(before, after)
    assert {c.columns["backend"]: c.word("time") for c in comparison.backends} == {
        "numpy": "same",
        "torch": "same",
        "jax": "slower",
    }
    assert status(before, after, "--fail", "time:1.1") == 1
    assert "gradmeter: time of jax as a whole, 4 cells is 1.1" in capsys.readouterr().err


def test_what_all_cells_share_is_divided_out_unless_it_is_large(tmp_path, before, capsys):
    """A machine on which the reference fares 4 % better than before changes nothing; 20 % slower code is slower. (Of
    everything at once, 15 % is where that begins: the reference alone says so, and it swings by 2.5 %.)"""
    for run in range(1, 5):
        swung, slower = (
            make(
                tmp_path / f"{run} {factor}.sqlite",
                run,
                slower={(problem, backend): factor for problem in PROBLEMS for backend in BACKENDS},
            )
            for factor in (1.04, 1.2)
        )
        assert called(compared(before, swung)) == set()
        assert {label for label, word in called(compared(before, slower)) if word == "slower"} >= {
            f"{backend} as a whole" for backend in BACKENDS
        }
        assert status(before, slower, "--fail", "time:1.1") == 1


def test_one_slow_cell_is_not_its_backend(tmp_path, before):
    after = make(tmp_path / "after.sqlite", 1, slower={("square", "jax"): 2.0})
    assert [c.word("time") for c in compared(before, after).backends] == ["same"] * 3


def test_scattered_rounds_call_nothing_and_say_so(tmp_path, before, capsys):
    """On a machine that is busy otherwise, 15 % are beyond what can be seen."""
    after = make(tmp_path / "after.sqlite", 1, slower={("square", "numpy"): 1.15}, scatter=0.4)
    assert called(compared(before, after)) == set()
    status(before, after)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("times: a change is called")]
    assert float(line.split("from ")[1].split("×")[0]) > 1.3
    assert status(before, after, "--fail", "time:1.15") == 0
    assert "gradmeter: --fail time:1.15 cannot trip at its limit in 11 of 12 cells" in capsys.readouterr().err


def test_a_variance_increase_of_5_percent_is_named(tmp_path, before, capsys):
    for run in range(1, 5):
        after = make(tmp_path / f"{run}.sqlite", run, noisier={("square", "numpy"): 1.05})
        comparison = compared(before, after)
        assert called(comparison) == {(FIRST, "more")}
        assert comparison.cells[0].ratios["variance"].value == pytest.approx(1.05, rel=0.01)
        assert called(compared(after, before)) == {(FIRST, "less")}
        assert status(before, after, "--fail", "variance:1.02") == 1
        assert f"variance of {FIRST}" in capsys.readouterr().err
        assert status(before, after, "--fail", "variance:1.1", "--fail", "time:1.01") == 0


def test_a_gate_trips_where_the_interval_reaches_it(tmp_path, before):
    """A change of just the limit would else trip every other time."""
    for run in range(1, 5):
        after = make(tmp_path / f"{run}.sqlite", run, noisier={("square", "numpy"): 1.05})
        ratio = compared(before, after).cells[0].ratios["variance"]
        assert status(before, after, "--fail", f"variance:{ratio.high}") == 1
        assert status(before, after, "--fail", f"variance:{ratio.high * 1.0001}") == 0


def test_what_else_differs_is_said(tmp_path, before, capsys):
    after = make(
        tmp_path / "after.sqlite", 1, machine="another machine, 8 cores", threads=4, versions={"numpy": "2.1.0"}
    )
    assert status(before, after) == 0
    out = capsys.readouterr().out
    assert "machine differs: a machine, 2 cores before, another machine, 8 cores after" in out
    assert "threads differs: 1 before, 4 after; times do not compare" in out
    assert "version of numpy differs: 2.0.0 before, 2.1.0 after" in out


def test_times_beside_different_references_are_not_compared(tmp_path, before, capsys):
    after = make(tmp_path / "after.sqlite", 1, slower={("square", "numpy"): 3.0})
    with Store.create(after) as store:
        store.put_series("timing 2026-11-20", {"reference:something": np.ones(ROUNDS)})
    assert status(before, after) == 0
    out = capsys.readouterr().out
    assert "different reference workloads" in out
    assert "12 cells: 0 slower" in out
    assert status(before, after, "--fail", "time:1.25") == 2


def test_the_noise_floor_of_each_store_is_printed(tmp_path, before, capsys):
    status(before, make(tmp_path / "after.sqlite", 1))
    out = capsys.readouterr().out
    for which in ("before", "after"):
        assert f"noise floor {which} (a cell timed as two, 95 %): numpy " in out
    assert "differs" not in out


def test_cells_of_one_store_only_are_named(tmp_path, before, capsys):
    after = make(tmp_path / "after.sqlite", 1, leave_out={("square", "numpy"), ("cosine", "torch")})
    assert status(before, after, "--fail", "time:1.5") == 0
    out = capsys.readouterr().out
    assert f"measured only before: {FIRST}" in out
    assert out.count("measured only") == 2


def test_a_cell_that_fails_trips_every_gate(tmp_path, before, capsys):
    after = make(tmp_path / "after.sqlite", 1, leave_out={("square", "numpy")})
    rows = stores.failed("00", status="exception", reason="ValueError: no")
    stores.fill(after, [(rows, {})])
    assert status(before, after) == 0
    assert f"failed after: {FIRST}" in capsys.readouterr().out
    assert status(before, after, "--fail", "time:1.5") == 1
    assert "exception, measured before" in capsys.readouterr().err


def test_a_gate_on_what_nobody_timed_is_refused(tmp_path, before, capsys):
    every = {(problem, backend) for problem in PROBLEMS for backend in BACKENDS}
    after = make(tmp_path / "after.sqlite", 1, untimed=every)
    assert status(before, after, "--fail", "variance:1.5") == 0
    assert "not known" in capsys.readouterr().out
    assert status(before, after, "--fail", "time:1.5") == 2
    error = capsys.readouterr().err
    assert "no cell has its time in both stores" in error
    assert error.count("\n") == 1


def test_json_says_the_same(tmp_path, before, capsys):
    after = make(tmp_path / "after.sqlite", 1, slower={("square", "numpy"): 1.3})
    assert status(before, after, "--json", "--fail", "time:1.1") == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in found] == ["cell"] * 12 + ["backend"] * 3
    assert (found[0]["problem"], found[0]["backend"], found[0]["time"]["word"]) == ("square", "numpy", "slower")
    assert found[0]["time"]["low"] < found[0]["time"]["ratio"] < found[0]["time"]["high"]
    assert found[0]["variance"] == {"word": "same", "ratio": 1.0, "low": 1.0, "high": 1.0}


@pytest.mark.parametrize("text", ["time", "tim:1.2", "time:x", "time:1", "variance:nan"])
def test_a_gate_that_makes_no_sense_is_refused(before, capsys, text):
    assert status(before, before, "--fail", text) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradmeter: error: ")
    assert error.count("\n") == 1


def test_gates_are_read():
    assert parse_gate("variance:1.05") == ("variance", 1.05)


def test_stores_without_a_common_cell(tmp_path, before, capsys):
    after = make(tmp_path / "after.sqlite", 1, dtype="float32")
    assert status(before, after) == 2
    error = capsys.readouterr().err
    assert "no measured cell in common" in error
    assert "dtype is float64 in the first and float32 in the second" in error
    assert error.count("\n") == 1


def test_more_replicates_are_no_change(tmp_path):
    """Half of the longer run drew what the shorter one drew: that half is compared, the rest is left out."""
    few = np.exp(0.1 * np.random.default_rng(0).standard_normal(64))
    more = np.concatenate([few.reshape(-1, 2).mean(axis=1), 1.5 * np.ones(32)])
    paths = []
    for groups, replicates in ((few, 65536), (more, 131072)):
        rows = stores.rows("00", variance=float(groups.mean()), replicates=replicates)
        paths.append(stores.fill(tmp_path / f"{replicates}.sqlite", [(rows, {"squared_norm:all": groups})]))
    [change] = compared(*paths).cells
    assert change.word("variance") == "same"
    assert change.ratios["variance"].value == pytest.approx(1.0, rel=1e-12)
