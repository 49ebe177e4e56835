"""asv keeps working: it takes the benchmarks, runs them, and names what became worse. The whole is `make track`."""

from __future__ import annotations

import dis
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench import cells
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.tracking import measured, workloads
from gradmeter.estimators import Pathwise
from gradmeter.estimators.backends import NAMES
from gradmeter.estimators.backends.recorded import record
from tests.support import draws, setting_of
from tests.tracking.injected import ROOT, SLOWER, Change, environment, main, parse, run

CONFIGURATION = json.loads((ROOT / "asv.conf.json").read_text(encoding="utf-8"))
HERE = ("-E", f"existing:{sys.executable}")


@pytest.fixture
def asv(tmp_path: Path) -> Callable[..., str]:
    """Runs asv on this checkout, with its results and all else that it writes in a scratch folder."""
    folders = {"env_dir": "env", "results_dir": "results", "html_dir": "html"}
    there = {name: str(tmp_path / folder) for name, folder in folders.items()}
    here = {"repo": str(ROOT), "benchmark_dir": str(ROOT / CONFIGURATION["benchmark_dir"])}
    configuration = tmp_path / "asv.conf.json"
    configuration.write_text(json.dumps({**CONFIGURATION, **there, **here}), encoding="utf-8")

    def called(*arguments: str, backends: str = "numpy") -> str:
        command = [sys.executable, "-m", "asv", "--config", str(configuration), *arguments]
        return run(command, tmp_path, **environment(ROOT, tmp_path / "home", backends))

    return called


def test_benchmarks_are_accepted_for_every_backend(asv):
    assert "No problems found" in asv("check", *HERE, backends=" ".join(NAMES))


def test_a_benchmark_of_each_kind_runs(asv):
    """A time, a peak memory, a ratio looked up; nothing is saved."""
    asv("machine", "--yes", "--machine", "canary")
    names = r"kernels\..*\('numpy', 'pathwise'\)"
    printed = asv("run", *HERE, "--quick", "--dry-run", "--show-stderr", "--machine", "canary", "--bench", names)
    assert "failed" not in printed
    memory, ratio, time = (
        # A table's row for NumPy; its second column names the estimator unless that heads a column.
        re.search(rf"kernels\.{name}.*?numpy +(?:pathwise +)?([\d.]+)(?:±[\d.]+)?([A-Za-zμ]*)", printed, re.DOTALL)
        for name in ("Memory", "Floor", "Time")
    )
    assert memory is not None, printed
    assert ratio is not None, printed
    assert time is not None, printed
    assert memory[2] == "M"
    assert 20.0 < float(memory[1]) < 2000.0
    assert 0.8 < float(ratio[1]) < 10.0
    assert time[2] in ("ns", "μs", "ms")


def test_asv_measures_what_is_selected(asv):
    asv("machine", "--yes", "--machine", "canary")
    options = ("--quick", "--dry-run", "--show-stderr", "--machine", "canary")
    printed = asv("run", *HERE, *options, "--bench", r"RealData.track_variance\(.*numpy.*'pathwise'\)")
    assert re.findall("(?:measuring|timing) .*", printed) == ["measuring logistic-regression · pathwise · numpy · S=1"]
    assert re.search(r"numpy +pathwise +1\.?2\d+", printed), printed


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, int]]:
    """Counts cells with statistics and cells with times in the store of a scratch folder, which becomes the current."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workloads, "TERMINAL", tmp_path / "terminal")

    def counted() -> tuple[int, int]:
        with sqlite3.connect(measured.STORE) as db:
            measured_keys = db.execute("SELECT DISTINCT cell_key FROM rows").fetchall()
            timed_keys = db.execute("SELECT DISTINCT cell_key FROM series WHERE name = 'seconds'").fetchall()
        return len(measured_keys), len(timed_keys)

    return counted


PATHWISE, SCORE = ((workloads.TEST_FUNCTION, "numpy", name) for name in ("pathwise", "score-function"))


def test_every_number_of_a_cell(stored, monkeypatch):
    monkeypatch.setattr(measured, "CASES", (PATHWISE, SCORE))
    benchmark = measured.TestFunction()
    variance = benchmark.track_variance(*PATHWISE[1:])
    assert stored() == (1, 0)
    # Var of 2.5 cos z's pathwise derivative, summed over ten coordinates and both blocks, by quadrature.
    assert variance == pytest.approx(_exact_variance(), rel=0.02)
    assert 0.0 < benchmark.track_bias_bound(*PATHWISE[1:]) < 0.1
    assert stored() == (1, 0)
    seconds = benchmark.track_seconds(*PATHWISE[1:])["samples"]
    assert stored() == (1, 2)
    relative = benchmark.track_relative_time(*PATHWISE[1:])["samples"]
    work = benchmark.track_work_normalised_variance(*PATHWISE[1:])["samples"]
    assert stored() == (1, 2)
    assert len(seconds) == len(relative) == len(work) == 20
    assert work == [variance * s for s in seconds]
    assert all(r > 0.0 for r in relative)


def test_statistics_of_all_cells_at_once_are_those_of_each(stored, monkeypatch, capfd):
    monkeypatch.setattr(measured, "CASES", (PATHWISE, SCORE))
    measured.TestFunction().setup_cache()
    assert not measured.STORE.exists()
    monkeypatch.setattr(measured, "AHEAD", True)
    measured.TestFunction().setup_cache()
    assert stored() == (2, 0)
    ahead = measured.statistics(PATHWISE)["variance"]
    assert stored() == (2, 0)
    assert capfd.readouterr().err.count("measuring") == 2
    measured.STORE.unlink()
    assert measured.statistics(PATHWISE)["variance"] == ahead


def test_estimators_that_are_compared_are_timed_in_the_same_rounds(stored, monkeypatch):
    monkeypatch.setattr(measured, "CASES", (PATHWISE, SCORE))
    timed = [measured.rounds(case) for case in (SCORE, PATHWISE)]
    assert stored() == (0, 2)
    assert timed[0]["reference"] == timed[1]["reference"]
    assert timed[0]["seconds"] != timed[1]["seconds"]


def test_a_person_sees_what_is_measured(stored, capfd):
    measured.statistics(PATHWISE)
    said = "measuring cosine[k=2.5,loc=1,dim=10] · pathwise · numpy · S=1"
    assert capfd.readouterr().err.strip() == said
    assert workloads.TERMINAL.read_text(encoding="utf-8").strip() == said


def test_a_changed_source_is_measured_anew(stored, monkeypatch):
    measured.statistics(PATHWISE)
    monkeypatch.setattr(cells, "source_hash", lambda: "another")
    measured.statistics(PATHWISE)
    assert stored() == (2, 0)


def _another_process(case: measured.Case) -> subprocess.Popen[str]:
    program = f"from gradmeter.bench.tracking.measured import statistics; print(statistics({case})['variance'])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no terminal to write to
    )


def test_two_processes_measure_a_cell_once(stored):
    both = [_another_process(PATHWISE) for _ in range(2)]
    printed, said = zip(*(process.communicate() for process in both), strict=True)
    assert printed[0] == printed[1] == f"{measured.statistics(PATHWISE)['variance']}\n"
    assert sorted(map(bool, said)) == [False, True]
    assert stored() == (1, 0)


def test_a_killed_process_leaves_the_store_usable(stored):
    case = (workloads.REAL_DATA, "numpy", "pathwise")
    for _ in range(3):
        with _another_process(case) as killed:
            assert "measuring" in killed.stderr.readline()
            killed.kill()
    assert stored() == (0, 0)
    assert measured.statistics(case)["status"] == "ok"
    assert stored() == (1, 0)


def _exact_variance() -> float:
    """Of d/d(loc, log σ) Σ cos(2.5 z) with z = 1 + σε at σ = 1, in ten dimensions."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    slope = -2.5 * np.sin(2.5 * (1.0 + nodes))
    return 10.0 * sum(float(weights @ g**2 - (weights @ g) ** 2) for g in (slope, slope * nodes))


def test_a_cell_that_failed_says_why(stored, monkeypatch):
    case = (workloads.TEST_FUNCTION, "numpy", "arm")
    monkeypatch.setattr(measured, "CASES", (case, PATHWISE))
    with pytest.raises(RuntimeError, match="n/a: arm needs binary"):
        measured.statistics(case)
    with pytest.raises(RuntimeError, match="exception: not timed"):
        measured.rounds(case)
    assert stored() == (2, 1)
    assert len(measured.rounds(PATHWISE)["seconds"]) == 20


def test_combinations_are_those_that_exist():
    assert all(infeasible(workloads.cell(*case)) is None for case in measured.CASES)
    looked_up = [
        (cls.problem, backend, estimator)
        for cls in (measured.RealData, measured.TestFunction, measured.DiscreteLatents)
        for backend in cls.params[0]
        for estimator in cls.params[1]
        if (backend, estimator) not in getattr(cls, "skip_params", ())
    ]
    assert sorted(looked_up) == sorted(measured.CASES)


def test_pins_are_those_of_the_constraints_file():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = CONFIGURATION["matrix"]["req"]
    different = {name: (pins[name], constraints[name]) for name in pins if name in constraints}
    assert all(pin == [version] for pin, version in different.values()), different
    assert {"numpy", "torch", "jax", "scipy"} <= set(different)


def test_every_dependency_is_in_the_environment_that_asv_makes():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = {re.split(r"[<>=\[]", text)[0] for text in (*project["dependencies"], *extras["torch"], *extras["jax"])}
    assert needed <= set(CONFIGURATION["matrix"]["req"])


def test_a_comparison_is_read():
    table = """
| Change   | Before [1234abcd] <a>   | After [5678abcd] <b>   |   Ratio | Benchmark (Parameter)                   |
|----------|-------------------------|------------------------|---------|-----------------------------------------|
| +        | 4.50±0.06μs             | 6.25±0.09μs            |    1.39 | m.C.track_seconds('numpy', 'pathwise')  |
| -        | 30.7                    | 15.4                   |    0.5  | m.C.track_variance('numpy', 'pathwise') |
"""
    assert parse(table) == [
        Change(True, "4.50±0.06μs", "6.25±0.09μs", 1.39, "m.C.track_seconds('numpy', 'pathwise')"),
        Change(False, "30.7", "15.4", 0.5, "m.C.track_variance('numpy', 'pathwise')"),
    ]


def test_the_planted_slowdown_is_work_that_is_done():
    """The same estimates, to the last bit, by nearly twice the calls of NumPy, which recording them does not save."""
    scope: dict[str, Any] = {"Pathwise": type("Slower", (Pathwise,), {})}
    exec(SLOWER, scope)
    setting = setting_of(workloads.REAL_DATA, "pathwise", "numpy")
    expectation, backend = setting.expectation, setting.backend
    noise = draws(Pathwise().noise_specs(expectation, 1, setting.dimension), 5)
    given = (expectation.data, setting.parameters, noise)

    def replayed(estimator: Pathwise) -> Callable[..., dict[str, np.ndarray]]:
        return record(lambda data, at, noise: estimator.estimate(backend, expectation.bind(data), at, noise, {}), given)

    plain, slower = (replayed(estimator) for estimator in (Pathwise(), scope["Pathwise"]()))
    assert {n: g.tolist() for n, g in slower(*given).items()} == {n: g.tolist() for n, g in plain(*given).items()}
    calls = [sum(i.opname.startswith("CALL") for i in dis.get_instructions(f)) for f in (plain, slower)]
    assert calls[1] > 1.7 * calls[0]


@pytest.mark.slow
def test_a_planted_variance_is_named_and_published(tmp_path: Path):
    """Variances repeat exactly, so what is said of them is exact. Times are named by `make track-injected`."""
    clone, changes = main(tmp_path / "clone")
    statistics = ("track_variance", "track_bias_bound")

    def named(commit: str, *metrics: str) -> list[str]:
        return [c.benchmark for c in changes[commit] if c.worse and c.benchmark.split("(")[0].endswith(metrics)]

    assert named("comment", *statistics) == []
    assert named("slower", *statistics) == []
    assert named("noisier", "track_variance") == [
        "measured.RealData.track_variance('numpy', 'pathwise[antithetic=true]')"
    ]

    clone.asv("publish")
    page = clone.folder / CONFIGURATION["html_dir"]
    assert "<html" in (page / "index.html").read_text(encoding="utf-8")
    assert "measured.RealData.track_variance" in json.loads((page / "index.json").read_text())["benchmarks"]
    graphs = [p for p in (page / "graphs").rglob("measured.RealData.track_variance.json") if "summary" not in p.parts]
    assert len(graphs) == 1
    assert len(json.loads(graphs[0].read_text())) == 4, "one point for each commit"
