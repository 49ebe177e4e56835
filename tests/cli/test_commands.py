"""What the commands print, and what they leave: rows, suites as filters, lists, exports."""

from __future__ import annotations

import csv
import json
import math
import pickle
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gradmeter
from gradmeter.bench.cells import make_estimator
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.decomposition import from_series
from gradmeter.bench.measurement.timing import ROUNDS
from gradmeter.bench.reading.measured import Measured
from gradmeter.bench.rows import COLUMNS, MEANINGS, to_frame, to_json
from gradmeter.bench.sweep.store import DEFAULT, Store
from gradmeter.estimators import VARIANTS
from gradmeter.estimators.families import FAMILIES
from tests.cli.running import CELL, CHEAP, Result, Run, measured
from tests.report import stores
from tests.support import make_cell

TIMING = ("seconds", "seconds_low", "seconds_high", "latency", "latency_low", "latency_high", "compile_seconds")

# A promise to users, so written out a second time.
PROMISED = re.findall(
    r"\w+",
    """
problem problem_options dimension family estimator estimator_options backend device dtype num_samples block seed noise
replicates status reason exact_norm exact_source exact_error mean_norm bias_norm bias_z bias bias_low bias_high
bias_bound bias_max bias_scale certificate control_gain cosine scale_factor scale_low scale_high assumption verdict
variance variance_low variance_high variance_flag skewness kurtosis tail_k snr
seconds seconds_low seconds_high latency latency_low latency_high compile_seconds device_seconds peak_memory
evaluations work_normalised_variance versions threads machine device_state code_version content cell_key
started finished
""",
)


def strict(result: Result) -> None:
    """Every line is one JSON object with exactly the promised columns, and no NaN."""
    for line in result.out.splitlines():
        row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in a row"))
        assert list(row) == PROMISED


def test_a_run_prints_promised_rows_and_the_same_again_without_measuring(
    run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_cli("run", *CELL, "--json")
    assert first.status == 0
    assert first.err == "store: .gradmeter/store.sqlite\n"
    strict(first)
    assert [row["block"] for row in first.rows] == ["loc", "log_scale", "all"]
    row = first.rows[-1]
    assert (row["problem"], row["status"], row["verdict"], row["seconds"]) == ("square", "ok", "unbiased", None)
    options = {"k": 1, "family": "normal", "loc": 0, "scale": 1, "dim": 1, "differentiate": "closed-form"}
    assert row["problem_options"] == options
    assert (row["backend"], row["device"], row["dtype"], row["num_samples"], row["seed"]) == (
        "numpy",
        "cpu",
        "float64",
        1,
        0,
    )
    monkeypatch.setattr("gradmeter.bench.sweep.executors.measure_cell", lambda *_, **__: pytest.fail("measured again"))
    assert run_cli("run", *CELL, "--json").out == first.out


def test_timing_is_filled_in_afterwards_and_nothing_else_changes(run_cli: Run) -> None:
    without = run_cli("run", *CELL, "--json")
    timed = run_cli("run", *CELL[:-1], "--json")
    strict(timed)
    for before, after in zip(without.rows, timed.rows, strict=True):
        assert all(after[name] > 0 for name in TIMING[:-1])
        assert math.isclose(after["work_normalised_variance"], after["variance"] * after["seconds"])
        changed = {name for name in COLUMNS if before[name] != after[name]}
        assert changed == {*TIMING, "work_normalised_variance"}
    assert run_cli("run", *CELL[:-1], "--json").out == timed.out
    assert run_cli("run", *CELL, "--json").out == timed.out


def test_timing_again_adds_to_the_rounds_and_nothing_else_changes(run_cli: Run) -> None:
    timed = run_cli("run", *CELL[:-1], "--json")
    again = run_cli("run", *CELL[:-1], "--json", "--time-again")
    for before, after in zip(timed.rows, again.rows, strict=True):
        changed = {name for name in COLUMNS if before[name] != after[name]}
        assert {"seconds", "latency"} & changed
        assert changed <= {*TIMING, "work_normalised_variance"} - {"compile_seconds"}
    with Store.read(DEFAULT) as store:
        series = store.series(again.rows[0]["cell_key"])
    assert series["process"].tolist() == [0.0] * ROUNDS + [1.0] * ROUNDS
    assert {len(series[name]) for name in ("seconds", "latency", "reference")} == {2 * ROUNDS}
    assert again.rows[0]["seconds"] == np.median(series["seconds"])
    assert run_cli("run", *CELL[:-1], "--json").out == again.out


def test_measure_gives_the_rows_of_the_command_line(run_cli: Run) -> None:
    printed = run_cli("run", *CELL, "--json", "--samples", "3", "--seed", "5").rows
    frame = gradmeter.measure("square", "pathwise", samples=3, seed=5, max_replicates=2**12, timing=False)
    assert list(frame.columns) == PROMISED
    for row, (_, values) in zip(measured(printed), frame.iterrows(), strict=True):
        for name, value in row.items():
            other = values[name]
            assert pd.isna(other) if value is None else other == value or json.loads(other) == value, name


def test_what_measure_returns_prints_as_the_table_and_is_a_data_frame(run_cli: Run) -> None:
    run_cli("run", *CELL, "--store", "s")
    printed = run_cli("run", *CELL, "--store", "s").out
    frame = gradmeter.measure("square", ["pathwise"], max_replicates=2**12, timing=False)
    table = repr(frame).splitlines()
    assert table[:-1] == [line.rstrip() for line in printed.splitlines()]
    assert table[-1] == f"[3 rows × {len(COLUMNS)} columns, a pandas.DataFrame]"
    assert "<td>● unbiased" in frame._repr_html_()
    assert isinstance(frame, pd.DataFrame)
    whole = frame[frame["block"] == "all"]
    assert repr(whole) == repr(pd.DataFrame(whole))  # what is made from it prints as pandas does
    assert frame.groupby("block")["variance"].sum()["all"] == whole["variance"].iloc[0]
    assert repr(pickle.loads(pickle.dumps(frame))) == repr(frame)
    frame["mine"] = 1
    assert repr(frame) == repr(pd.DataFrame(frame))
    assert "mine" in frame._repr_html_()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"estimator": []}, "there is no estimator; give at least one"),
        ({"backend": None}, "unknown backend 'None'; choose from: numpy, torch, jax"),
        ({"store": 3}, "store is 3; it must be the path of a file, or None"),
        ({"timing": "no"}, "timing is 'no'; it must be True or False"),
        ({"max_replicates": -5}, "max replicates is '-5'; it must be a whole number, at least 64"),
    ],
)
def test_what_measure_cannot_use_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(gradmeter.UsageError) as caught:
        gradmeter.measure(**{"problem": "square", "estimator": "pathwise", **given})
    assert str(caught.value) == message


def test_names_in_a_notebook_are_no_markup() -> None:
    made = stores.rows("a", estimator="<b>mine</b>")
    assert "&lt;b&gt;mine" in Measured(to_frame(made))._repr_html_()


def test_measure_shows_its_progress_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing where standard error is no terminal."""
    shown: list[str] = []

    class Handle:
        def update(self, text: str) -> None:
            shown.append(text)

    kernel = type("ZMQInteractiveShell", (), {})()
    fake = types.SimpleNamespace(get_ipython=lambda: None)
    display = types.SimpleNamespace(Pretty=str, display=lambda *_, **__: Handle())
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    gradmeter.measure("square", "pathwise", max_replicates=2**12, timing=False)
    assert shown == []
    fake.get_ipython = lambda: kernel
    gradmeter.measure("square", "pathwise", max_replicates=2**12, timing=False)
    assert "measuring" in shown[-1]
    assert "1/1" in shown[-1]


def test_without_estimators_all_that_apply(run_cli: Run) -> None:
    rows = run_cli("run", "--problem", "square", "--json", *CHEAP).rows
    cells = {(row["estimator"], json.dumps(row["estimator_options"]), row["num_samples"]) for row in rows}
    assert {row["status"] for row in rows} == {"ok"}
    assert len(cells) == sum(infeasible(make_cell("square", variant)) is None for variant in VARIANTS)
    assert {size for name, options, size in cells if "leave-one-out" in options or '"antithetic": true' in options} == {
        2
    }


def test_an_impossible_cell_among_others_is_a_row_with_its_reason(run_cli: Run) -> None:
    sticking = "pathwise[sticking-the-landing=true]"
    result = run_cli("run", *CELL, "--estimator", sticking, "--json")
    strict(result)
    assert result.status == 0
    assert [row["status"] for row in result.rows] == ["ok"] * 3 + ["n/a"] * 3
    assert "no entropy term" in result.rows[-1]["reason"]
    assert result.rows[-1]["variance"] is None


def test_a_biased_verdict_is_no_failure(run_cli: Run) -> None:
    result = run_cli("run", "controls", "--problem", "square[k=2]", "--backend", "numpy", "--json", "--no-timing")
    assert result.status == 0
    assert "biased" in {row["verdict"] for row in result.rows}


def test_a_failed_cell_is_status_one_and_the_others_finish(run_cli: Run) -> None:
    result = run_cli("run", "--problem", "square[k=1e200]", *CELL, "--json")
    strict(result)
    assert result.status == 1
    assert [row["status"] for row in result.rows] == ["nonfinite"] * 3 + ["ok"] * 3
    assert "the square of an estimate of loc overflows" in result.rows[0]["reason"]


def test_a_bare_name_beside_a_suite_stands_for_all_options(run_cli: Run) -> None:
    Path("s.toml").write_text(
        '[[grid]]\nproblem=["square[k=2]", "square[k=3]", "cosine"]\n'
        'estimator=["pathwise", "score-function[baseline=mean]", "score-function[baseline=optimal]"]'
    )
    cheap = ("--no-timing", "--max-replicates", "64", "--json")
    rows = run_cli("run", "s.toml", "--problem", "square", "--estimator", "reinforce", *cheap).rows
    found = {(r["problem"], r["problem_options"]["k"], r["estimator_options"]["baseline"]) for r in rows}
    assert found == {("square", k, baseline) for k in (2, 3) for baseline in ("mean", "optimal")}
    rows = run_cli("run", "s.toml", "--problem", "square[k=3]", "--estimator", "pathwise", *cheap).rows
    assert {(r["problem_options"]["k"], r["estimator"]) for r in rows} == {(3, "pathwise")}


def test_options_beside_a_suite_choose_among_its_cells_and_goals_replace_its_own(run_cli: Run) -> None:
    Path("small.toml").write_text(
        """
        summary = "two problems, two estimators"
        precision = 0.5
        [[grid]]
        problem = ["square", "cosine", "square[k=1]"]
        estimator = ["pathwise", "score-function", "pathwise"]
        samples = [1, 2]
        """
    )
    everything = run_cli("run", "small.toml", "--json", *CHEAP).rows
    assert len(everything) == 3 * 8
    some = run_cli("run", "./small.toml", "--problem", "square", "--samples", "2", "--json", *CHEAP).rows
    assert [row for row in everything if (row["problem"], row["num_samples"]) == ("square", 2)] == some
    keys = {row["cell_key"] for row in everything}
    for goal in (("--precision", "0.4"), ("--bias-bound", "0.5"), ("--max-replicates", "1e6"), ("--noise", "shared")):
        rows = run_cli("run", "small.toml", "--json", *CHEAP, *goal).rows
        assert len(rows) == 3 * 8
        assert not keys & {row["cell_key"] for row in rows}


def test_a_whole_number_may_be_written_as_a_power(run_cli: Run) -> None:
    keys = set()
    for text in ("65536", "2^16", "65.536e3"):
        result = run_cli("run", *CELL, "--max-replicates", text, "--json")
        assert result.status == 0
        keys |= {row["cell_key"] for row in result.rows}
    assert len(keys) == 1


def test_the_table_names_what_was_measured(run_cli: Run) -> None:
    result = run_cli("run", *CELL, "--estimator", "pathwise[antithetic=true]")
    heading, *lines = result.out.splitlines()
    assert heading.split() == ["problem", "estimator", "backend", "S", "bias", "variance", "seconds"]
    assert [line.split()[:4] for line in lines] == [
        ["square", "pathwise", "numpy", "1"],
        ["square", "pathwise[antithetic=true]", "numpy", "2"],
    ]


@pytest.mark.parametrize(
    "kind", ["problems", "estimators", "families", "backends", "suites", "optimisers", "methods", "combinations"]
)
def test_list_is_one_object_a_line(run_cli: Run, kind: str) -> None:
    result = run_cli("list", kind, "--json")
    assert result.status == 0
    text = run_cli("list", kind).out
    for entry in result.rows:
        assert entry["kind"] == {"families": "family"}.get(kind, kind.removesuffix("s"))
        assert list(entry)[:5] == ["kind", "name", "aliases", "summary", "options"]
        assert entry["name"] in text
    assert not list(Path().iterdir())


def test_list_shows_the_names_that_others_rely_on(run_cli: Run) -> None:
    entries = {(entry["kind"], entry["name"]): entry["options"] for entry in run_cli("list", "--json").rows}
    for name in ("square", "exponential", "cosine"):
        assert {"k", "loc", "scale", "dim"} <= set(entries["problem", name])
    for name in ("linear-regression", "logistic-regression"):
        options = set(entries["problem", name])
        assert {"dataset", "loc", "scale", "at", "batch", "differentiate", "entropy"} <= options
    baselines = entries["estimator", "score-function"]["baseline"]["choices"]
    assert {"none", "mean", "optimal", "moving-average", "leave-one-out"} <= set(baselines)
    assert "antithetic" in entries["estimator", "pathwise"]
    assert "coupling" in entries["estimator", "measure-valued"]
    assert set(entries["problem", "polynomial"]["family"]["choices"]) == set(FAMILIES)
    assert set(entries["family", "exponential"]) == {"rate"}


def test_list_says_where_the_score_identity_fails(run_cli: Run) -> None:
    text = run_cli("list", "families").out
    told = re.findall(r"(?m)^  (\S+) .*\n      not for score functions: (.*)$", text)
    assert dict(told) == {
        name: cls.unsupported["score_identity"] for name, cls in FAMILIES.items() if "score_identity" in cls.unsupported
    }
    assert {"uniform", "pareto", "reciprocal"} <= set(dict(told))


@pytest.mark.slow
def test_combinations_are_what_estimators_require(run_cli: Run) -> None:
    """A no has its reason, and running that cell shows the same."""
    refused = {}
    for entry in run_cli("list", "combinations", "--json").rows:
        assert entry["available"] == (entry["reason"] is None)
        if entry["backend"] == "numpy" and not entry["available"]:
            refused[entry["estimator"], entry["family"]] = entry["reason"]
    assert ("measure-valued", "multivariate-normal") in refused
    for (estimator, family), reason in refused.items():
        result = run_cli("run", "--problem", f"cosine[family={family},dim=2]", "--estimator", estimator)
        assert result.status == 2
        # What is for ELBOs alone may be refused here for that.
        alone = make_estimator(estimator).default_entropy() != "none" and "needs an ELBO" in result.err
        assert alone or reason in result.err


def test_help_and_version_are_no_errors(run_cli: Run) -> None:
    for arguments in ((), ("--help",), ("run", "-h")):
        result = run_cli(*arguments)
        assert (result.status, result.err) == (0, "")
        assert result.out.startswith("Usage: gradmeter")
    assert run_cli("--version").out.startswith("gradmeter ")


def test_store_is_named_alike_everywhere(run_cli: Run) -> None:
    assert run_cli("run", *CELL, "--store", "s").status == 0
    assert run_cli("export", "--store", "s").out == run_cli("export", "s").out != ""
    assert run_cli("report", "--store", "s").status == 0


def test_an_alias_is_measured_under_its_canonical_name(run_cli: Run) -> None:
    rows = run_cli("run", "--problem", "square", "--estimator", "rloo", "--json", *CHEAP).rows
    assert {row["estimator"] for row in rows} == {"score-function"}
    assert {row["estimator_options"]["baseline"] for row in rows} == {"leave-one-out"}
    listed = {entry["name"]: entry["aliases"] for entry in run_cli("list", "estimators", "--json").rows}
    assert listed["score-function"]["rloo"] == "score-function[baseline=leave-one-out]"
    assert "also called reparameterization" in run_cli("list", "estimators").out


def test_every_column_has_its_meaning_in_a_line(run_cli: Run) -> None:
    assert [entry["name"] for entry in run_cli("list", "columns", "--json").rows] == PROMISED
    assert list(MEANINGS) == list(COLUMNS)
    assert all(meaning and "\n" not in meaning and not meaning.endswith(".") for meaning in MEANINGS.values())
    text = run_cli("list", "columns").out
    assert all(f"  {name} " in text and meaning in text for name, meaning in MEANINGS.items())
    assert "code_version" not in run_cli("list").out


def test_exports_hold_the_rows(run_cli: Run) -> None:
    run_cli("run", *CELL, "--estimator", "pathwise[sticking-the-landing=true]")
    with Store.read(Path(".gradmeter/store.sqlite")) as store:
        rows = store.rows()
    assert run_cli("export", "--output", "rows.csv").status == 0
    assert run_cli("export", "--format", "parquet", "--output", "rows.parquet").status == 0
    assert Path("rows.csv").read_text(encoding="utf-8") == run_cli("export").out
    assert sorted(p.name for p in Path(".gradmeter").iterdir()) == ["store.sqlite"]
    frame = pd.read_parquet("rows.parquet")
    with Path("rows.csv").open(encoding="utf-8", newline="") as file:
        texts = list(csv.DictReader(file))
    assert list(frame.columns) == list(texts[0]) == PROMISED
    read: dict[str, Callable[[str], Any]] = {"string": str, "integer": int, "number": float, "json": json.loads}
    for row, (_, values), text in zip(rows, frame.iterrows(), texts, strict=True):
        for name, value in row.items():
            if value is None:
                assert pd.isna(values[name]), name
                assert text[name] == "", name
            else:
                kind = COLUMNS[name]
                assert (json.loads(values[name]) if kind == "json" else values[name]) == value, name
                assert read[kind](text[name]) == value, name


def test_rows_are_data_that_json_takes() -> None:
    from gradmeter.bench.rows import from_json, row

    values = row(
        problem="p",
        problem_options={},
        estimator="e",
        estimator_options={},
        backend="b",
        num_samples=np.int64(3),
        block="all",
        status="ok",
        variance=math.nan,
        variance_high=math.inf,
        skewness=np.float32(0.1),
    )
    assert values["variance"] is None
    assert values["variance_high"] is None
    assert from_json(to_json(values)) == values
    with pytest.raises(KeyError, match="not columns"):
        row(problem="p", invented=1)


BATCH = "linear-regression[scale=0.2,batch=8]"


def test_a_minibatch_is_split_once_and_shown_where_it_was(run_cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ("run", "--problem", BATCH, "--estimator", "pathwise", "--samples", "1", "--samples", "4")
    run += ("--max-replicates", "4096", "--no-timing")
    plain = run_cli(*run)
    assert "variance in parts" not in plain.out
    first = run_cli(*run, "--minibatch-parts")
    assert first.status == 0
    assert first.out.startswith(plain.out.rstrip("\n"))
    assert first.out.count("pathwise") == 4
    with Store.read(DEFAULT) as store:
        rows = [row for row in store.rows() if row["block"] == "all"]
        found = [from_series(store.series(row["cell_key"])) for row in rows]
    expected = gradmeter.minibatch_split(BATCH, "pathwise", samples=(1, 4), replicates=4096)
    expected = expected[expected["block"] == "all"]
    assert [p.minibatch.value for p in found if p] == list(expected["minibatch"])
    assert all(p.add_up for p in found if p)
    monkeypatch.setattr("gradmeter.bench.measurement.minibatch.split", lambda cell: pytest.fail("split again"))
    assert run_cli(*run, "--minibatch-parts").out == first.out
    assert run_cli("report").status == 0
    page, text = (Path("report", f"report.{end}").read_text(encoding="utf-8") for end in ("html", "md"))
    assert "Sampling and minibatch parts" in text
    assert page.count("Sampling and minibatch parts") == 2  # the table, and the figure against S
    assert "gradmeter run --minibatch-parts --problem" in page


def test_nothing_to_split_is_bad_usage(run_cli: Run) -> None:
    result = run_cli("run", *CELL, "--minibatch-parts")
    assert result.status == 2
    assert result.err.startswith("gradmeter: error: --minibatch-parts needs a problem that draws a minibatch")
    assert not DEFAULT.exists()
