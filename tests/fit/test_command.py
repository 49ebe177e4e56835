"""`gradmeter fit`: rows, files, the page; what fails, and what Ctrl-C leaves."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.fit.recipe import Gradient
from gradmeter.bench.fit.rows import COLUMNS
from gradmeter.bench.fit.run import Plan
from gradmeter.bench.optimisation.optimisers import Adam, make_optimiser
from tests.cli.running import Result, Run, command, environment
from tests.support import needs

LEAVE_ONE_OUT = "score-function[baseline=leave-one-out]"
BOTH = ("fit", "linear-regression[scale=0.2]", "--estimator", "pathwise", "--estimator", LEAVE_ONE_OUT)
FEW = ("--steps", "40", "--replicates", "128")


def saved(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_rows_files_and_page(run_cli: Run) -> None:
    result = run_cli(*BOTH, *FEW, "--samples", "4", "--json")
    assert result.status == 0, result.err
    assert result.err == "fit: fit/index.html\n"
    problem: Any = make_problem("linear-regression[scale=0.2]")
    best = problem.exact_at(problem.optimum()).objective
    for row in result.rows:
        assert list(row) == list(COLUMNS)
        assert (row["problem"], row["method"], row["optimiser"], row["status"]) == (
            "linear-regression",
            "gradient",
            "adam",
            "ok",
        )
        assert row["objective"] < best
        assert row["objective_source"] == "closed-form"
        assert row["objective_error"] is None
        assert row["evaluations"] == 4 * row["iteration"]
    for estimator in ("pathwise", "score-function"):
        rows = [row for row in result.rows if row["estimator"] == estimator]
        iterations, clock = [r["iteration"] for r in rows], [r["seconds"] for r in rows]
        assert iterations == sorted(set(iterations))
        assert (iterations[0], iterations[1], iterations[-1]) == (0, 1, 40)
        assert clock == sorted(clock)
        assert clock[0] == 0.0 < clock[-1]
        assert rows[0]["objective"] == problem.exact().objective
        measured = [r for r in rows if r["variance"] is not None]
        assert [r["iteration"] for r in measured][:2] == [0, 1]
        assert measured[-1] is rows[-1]
        assert {tuple(r["variances"]) for r in measured} == {("loc", "log_scale")}
        file = "pathwise.npz" if estimator == "pathwise" else "score-function-baseline-leave-one-out.npz"
        exact = problem.exact_at(saved(Path("fit", file)))
        assert exact.objective == rows[-1]["objective"]
        norm = np.linalg.norm(np.concatenate(list(exact.gradient.values())))
        assert rows[-1]["gradient_norm"] == pytest.approx(norm, rel=1e-14)
    assert Path("fit/rows.jsonl").read_text() == result.out
    table = list(csv.DictReader(io.StringIO(Path("fit/rows.csv").read_text(encoding="utf-8"))))
    assert [float(line["objective"]) for line in table] == [row["objective"] for row in result.rows]
    names = {"index.html", "objective.svg", "variance.svg", "rows.csv", "rows.jsonl", "checkpoints"}
    assert {p.name for p in Path("fit").iterdir()} == names | {p.name for p in Path("fit").glob("*.npz")}
    page = Path("fit/index.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert LEAVE_ONE_OUT.replace("[", "") in re.sub(r"<[^>]*>|\[", "", page)
    assert f"the exact maximum, −{abs(best):.3f}" in page
    assert re.search(r"took [\d,.]+ evaluations of f, \S+ [\d,.]+ \([\d.]+×\)", page)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "<script" not in page
    assert page.count('role="img"') == 6


def test_the_same_command_gives_the_same_rows_and_backends_agree_on_shared_noise(run_cli: Run, eager: None) -> None:
    needs("torch")
    needs("jax")

    def rows(*backends: str) -> list[dict[str, Any]]:
        flags = [f"--backend={name}" for name in backends]
        result = run_cli("fit", "cosine[dim=2]", "--estimator", "pathwise", *FEW, "--noise=shared", *flags, "--json")
        assert result.status == 0
        return [{k: v for k, v in row.items() if k != "seconds"} for row in result.rows]

    first = rows("numpy")
    assert rows("numpy") == first
    for other in rows("torch", "jax"):
        same = first[[r["iteration"] for r in first].index(other["iteration"])]
        assert other["objective"] == pytest.approx(same["objective"], rel=1e-10)
        assert other["variance"] == (None if same["variance"] is None else pytest.approx(same["variance"], rel=1e-9))


def test_a_table_where_rows_are_not_asked_for(run_cli: Run) -> None:
    result = run_cli("fit", "cosine", "--estimator", "pathwise", "--seed", "3", "--seed", "4", *FEW)
    assert result.status == 0
    lines = result.out.splitlines()
    headings = ["method", "iterations", "evaluations of f", "seconds", "objective", "‖gradient‖"]
    assert re.split(r"\s\s+", lines[0].strip()) == [*headings, "variance"]
    assert [line.split("  ")[0] for line in lines[1:]] == ["pathwise · seed 3", "pathwise · seed 4"]


def test_rows_are_where_they_were_asked_for() -> None:
    recipe = Gradient(make_estimator("pathwise"), make_optimiser("adam"), 1)

    def plan(steps: int, every: int = 0, replicates: int = 1024) -> Plan:
        return Plan(make_problem("square"), recipe, steps=steps, every=every, replicates=replicates)

    def logged(found: Plan) -> list[int]:
        return [t for t in range(found.steps + 1) if t in found.schedule]

    assert logged(plan(10, 4)) == [0, 4, 8, 10]
    assert plan(70, 5).measured == {0, 5, 20, 65, 70}
    assert logged(plan(1)) == [0, 1]
    assert plan(1).measured == {0, 1}
    usual = logged(plan(10**4))
    assert (usual[:4], usual[-1]) == ([0, 1, 2, 3], 10**4)
    assert 40 < len(usual) < 50
    assert plan(10**4).measured <= set(usual)
    assert 10**9 in plan(10**9, 3).schedule
    assert plan(100, replicates=0).measured == set()


def test_what_diverges_is_one_line_and_keeps_the_last_good_state(run_cli: Run) -> None:
    """(z − k)² has no maximum: SGD runs away, which takes the other fit nothing."""
    arguments = ("--optimiser", "sgd[forgetting=0]", "--learning-rate", "1", "--learning-rate", "1e-6")
    result = run_cli("fit", "square[k=0.5]", "--estimator", "pathwise", *arguments, "--steps", "700", "--json")
    assert result.status == 1
    fast, slow = ([r for r in result.rows if r["optimiser_options"]["rate"] == rate] for rate in (1.0, 1e-6))
    assert {r["status"] for r in slow} == {"ok"}
    assert slow[-1]["iteration"] == 700
    assert [r["status"] for r in fast[-2:]] == ["ok", "nonfinite"]
    assert fast[-1]["objective"] is None
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"gradmeter: pathwise · sgd\[rate=1.*\]: .*not finite; kept as it was .*", lines[0])
    kept = saved(next(p for p in Path("fit").glob("*.npz") if "1e-06" not in p.name))
    assert all(np.all(np.isfinite(values)) for values in kept.values())
    assert "not finite" in Path("fit/index.html").read_text(encoding="utf-8")


def test_a_fit_that_cannot_be_is_a_row_beside_others(run_cli: Run) -> None:
    result = run_cli(
        "fit", "square", "--estimator", "pathwise[sticking-the-landing=true]", "--estimator", "pathwise", *FEW, "--json"
    )
    assert result.status == 0
    assert result.rows[0]["status"] == "n/a"
    assert "needs an ELBO" in result.rows[0]["reason"]
    assert {r["status"] for r in result.rows[1:]} == {"ok"}
    assert "needs an ELBO" in result.err


def test_what_cannot_be_is_no_line_of_the_table(run_cli: Run) -> None:
    result = run_cli("fit", "gaussian-mixture", "--method", "em", "--estimator", "pathwise", *FEW)
    assert result.status == 0
    assert [line.split()[0] for line in result.out.splitlines()] == ["method", "em"]
    assert "gradmeter: pathwise: pathwise needs a differentiable sample path" in result.err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_keeps_what_was_fitted(tmp_path: Path) -> None:
    arguments = (*BOTH, "--steps", "10^9", "--every", "100", "--json")
    with subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        out = "".join(running.stdout.readline() for _ in range(3))
        running.send_signal(signal.SIGINT)
        out += running.stdout.read()
        stopped = Result(running.wait(timeout=60), out, running.stderr.read())
    assert stopped.status == 130
    assert stopped.err.splitlines() == [
        "gradmeter: finishing the current step; Ctrl-C again stops at once",
        "fit: fit/index.html",
        "gradmeter: stopped; what was fitted is kept, the same command with --resume goes on from there",
    ]
    last = stopped.rows[-1]
    assert (last["status"], last["reason"]) == ("ok", "interrupted")
    assert {row["estimator"] for row in stopped.rows} == {"pathwise"}
    assert (tmp_path / "fit" / "rows.jsonl").read_text() == out
    exact: Any = make_problem("linear-regression").exact_at(saved(tmp_path / "fit" / "pathwise.npz"))
    assert exact.objective == last["objective"]
    assert "interrupted" in (tmp_path / "fit" / "index.html").read_text(encoding="utf-8")
    assert {p.suffix for p in (tmp_path / "fit").iterdir()} == {"", ".html", ".svg", ".csv", ".jsonl", ".npz"}
    assert json.loads(out.splitlines()[-1]) == last


def test_a_second_ctrl_c_keeps_the_rows_too(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a KeyboardInterrupt wherever the program is; here in the middle of the eleventh step."""
    numbers = Adam.numbers

    def interrupted(self: Adam, t: int) -> tuple[float, ...]:
        if t == 11:
            raise KeyboardInterrupt
        return numbers(self, t)

    monkeypatch.setattr(Adam, "numbers", interrupted)
    result = run_cli("fit", "cosine", "--estimator", "pathwise", "--steps", "50", "--every", "5", "--json")
    assert result.status == 130
    assert [row["iteration"] for row in result.rows] == [0, 5, 10]
    assert (
        result.err.splitlines()[-1]
        == "gradmeter: stopped; what was fitted is kept, the same command with --resume goes on from there"
    )
    assert make_problem("cosine").exact_at(saved(Path("fit/pathwise.npz"))).objective == result.rows[-1]["objective"]


def test_an_interrupt_before_the_first_checkpoint_says_that_nothing_goes_on(
    run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Adam, t: int) -> tuple[float, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Adam, "numbers", interrupted)
    result = run_cli("fit", "cosine", "--estimator", "pathwise", "--steps", "50")
    assert result.status == 130
    assert result.err.splitlines()[-1].endswith("no checkpoint was written yet, so the same command begins anew")


@pytest.mark.parametrize(("problem", "rises"), [("square", True), ("linear-regression", False)])
def test_an_objective_without_a_maximum(run_cli: Run, problem: str, rises: bool) -> None:
    result = run_cli("fit", problem, "--estimator", "pathwise", "--steps", "200", "--replicates", "0")
    assert result.status == 0
    assert ("gradmeter: pathwise: its objective rose ever faster" in result.err) is rises
