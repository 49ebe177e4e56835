"""The gate says what became worse, by how much, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.performance import gate

NAME = "tests/benchmarks/test_estimators.py::test_throughput[numpy-pathwise]"


def written(
    file: Path,
    middle: float = 1.0,
    spread: float = 0.02,
    variance: float = 3.0,
    name: str = NAME,
    machine: str = "A",
    to: str = "the reference workload",
) -> Path:
    ratio = [middle, middle * (1 - spread), middle * (1 + spread)]
    extra = {"ratio": ratio, "ratio_to": to, "variance": variance}
    benchmarks = [{"fullname": name, "extra_info": extra}, {"fullname": "other", "extra_info": {}}]
    document: dict[str, Any] = {"machine_info": {"machine": machine}, "benchmarks": benchmarks}
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


@pytest.fixture
def gated(tmp_path, capsys):
    """Exit status and output of the gate on two runs that differ as given."""

    def called(*more: str, **present: Any) -> tuple[int, str]:
        files = written(tmp_path / "baseline.json"), written(tmp_path / "present.json", **present)
        status = gate.main(["--baseline", str(files[0]), "--present", str(files[1]), *more])
        return status, capsys.readouterr().out

    return called


def test_the_same_passes(gated):
    status, printed = gated()
    assert status == 0
    assert "none fails" in printed


def test_slower_fails_with_its_name_and_factor(gated):
    status, printed = gated(middle=1.5)
    assert status == 1
    assert f"FAILED {NAME}: time is 1.50 [1.46, 1.54] times the baseline's" in printed


def test_more_variable_fails(gated):
    status, printed = gated(variance=4.5)
    assert status == 1
    assert f"FAILED {NAME}: variance is 1.50 times the baseline's" in printed


@pytest.mark.parametrize(
    "present",
    [{"middle": 1.2}, {"middle": 0.5}, {"middle": 1.3, "spread": 0.3}, {"variance": 1.0}],
    ids=["below the threshold", "faster", "not certain", "less variable"],
)
def test_what_does_not_fail(gated, present):
    assert gated(**present)[0] == 0


def test_the_threshold_is_an_option(gated):
    assert gated("--threshold", "1.6", middle=1.5)[0] == 0
    assert gated("--threshold", "1.15", middle=1.2)[0] == 1


def test_a_new_benchmark_is_no_error(gated):
    status, printed = gated(name="new[one]")
    assert status == 0
    assert "1 new: new[one]" in printed
    assert f"1 not run: {NAME}" in printed


def test_ratios_to_other_work_are_not_compared(gated):
    status, printed = gated(middle=1.5, to="something else")
    assert status == 0
    assert "1 not compared in time" in printed
    assert gated(variance=4.5, to="something else")[0] == 1


def test_another_machine_is_said_and_judged_mildly(gated):
    status, printed = gated(middle=1.5, machine="B")
    assert status == 0
    assert "another machine (A)" in printed
    assert gated(middle=2.5, machine="B")[0] == 1


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_no_baseline_is_one_line(tmp_path, capsys, content):
    file = tmp_path / "baseline.json"
    if content is not None:
        file.write_text(content)
    assert gate.main(["--baseline", str(file), "--present", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("gate: error: ")
    assert "make benchmark-baseline" in printed.err
    assert printed.err.count("\n") == 1


def test_an_unlucky_minute_passes_and_a_real_change_does_not(tmp_path, capsys, monkeypatch):
    """Without a present run the gate measures, and what fails once more."""
    baseline = written(tmp_path / "baseline.json", machine=gate._machine())
    for second, status in ((1.0, 0), (1.5, 1)):
        runs = [gate.read(written(tmp_path / f"{i}.json", middle=m))[0] for i, m in enumerate((1.5, second))]
        asked: list[list[str]] = []

        def measure(names=(), runs=runs, asked=asked):
            asked.append(list(names))
            return runs.pop(0)

        monkeypatch.setattr(gate, "measure", measure)
        assert gate.main(["--baseline", str(baseline)]) == status
        assert asked == [[], [NAME]]
    assert "FAILED" in capsys.readouterr().out


def test_the_committed_baseline_is_of_these_benchmarks(request):
    """Every id of it exists, and it names no folder and no host."""
    import platform

    run, machine = gate.read(gate.BASELINE)
    assert len(run) > 20
    assert machine
    text = gate.BASELINE.read_text(encoding="utf-8")
    assert str(gate.ROOT) not in text
    assert f'"{platform.node()}"' not in text
    from gradmeter.bench.tracking.workloads import ELBO_ESTIMATORS, ESTIMATORS
    from gradmeter.estimators.backends import NAMES

    kinds = (("test_kernel", ESTIMATORS), ("test_throughput", ELBO_ESTIMATORS), ("test_latency", ELBO_ESTIMATORS))
    prefix = "tests/benchmarks/test_estimators.py::"
    known = {f"{prefix}{test}[{b}-{e}]" for test, estimators in kinds for b in NAMES for e in estimators}
    assert run.keys() <= known
