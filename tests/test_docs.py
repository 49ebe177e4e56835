"""What the README shows runs as it stands there, and what it names is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from gradmeter.bench.catalogue import entries
from gradmeter.bench.cli import main
from gradmeter.bench.sweep.cells import make_estimator, make_problem
from gradmeter.estimators.errors import UsageError
from tests.support import needs

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
#: Its tables of names, each of which says where the whole list is.
TABLES = ("estimators", "problems", "families")


def rows_of(program: str, folder: Path) -> Any:
    file = folder / "readme.py"
    file.write_text(re.sub(r"(?m)^(gradmeter\.measure)", r"rows = \1", program), encoding="utf-8")
    return runpy.run_path(str(file), run_name="readme")["rows"]


def named(program: str) -> Any:
    """A case; those that PyTorch compiles are slow."""
    name = (re.findall(r'(?:class |Model\(")([\w-]+)', program) or ["names"])[-1]
    return pytest.param(program, id=name, marks=[pytest.mark.slow] if "import torch" in program else [])


@pytest.mark.parametrize("program", [named(program) for program in PROGRAMS])
def test_programs(program: str, tmp_path: Path) -> None:
    for framework in ("torch", "jax"):
        if framework in program:
            needs(framework)
    rows = rows_of(program, tmp_path)
    assert set(rows["status"]) == {"ok"}
    assert "biased" not in set(rows["verdict"])


@pytest.mark.parametrize(("framework", "block"), [("torch", "encoder.0.weight"), ("jax", "model.0.w")])
def test_models_of_other_frameworks(framework: str, block: str) -> None:
    """All but the measuring: the model is one, and has an exact gradient."""
    needs(framework)
    (program,) = (text for text in PROGRAMS if f"import {framework}\n" in text)
    made: dict[str, Any] = {}
    exec(program.partition("\ngradmeter.measure(")[0], made)
    exact = made["mine"].exact()
    assert exact.source == "quadrature"
    assert block in exact.gradient


def test_the_mistake_it_speaks_of_is_caught(tmp_path: Path) -> None:
    (program,) = (text for text in PROGRAMS if "class Mine" in text)
    right, wrong = "/ (f.shape[1] - 1)", "/ f.shape[1]"
    assert f"With `{wrong}` in place of `{right}`" in README
    rows = rows_of(program.replace(right, wrong), tmp_path)
    assert rows["verdict"].iloc[-1] == "biased"
    last = rows.iloc[-1]
    assert last["bias_norm"] == pytest.approx(last["exact_norm"] / 8, rel=0.05)


def test_files_it_links_to_are_there() -> None:
    root = Path(__file__).parents[1]
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert all((root / link).is_file() for link in links)


def test_commands_it_lists_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    for command in set(re.findall(r"(?m)^(?:\$ )?gradmeter ([a-z]+)", README)):
        assert main([command, "--help"]) == 0
        assert "Usage" in capsys.readouterr().out
    for kind in set(re.findall(r"gradmeter list\s([a-z]+)", README)):
        assert entries(kind)
    for suite in set(re.findall(r"(?m)^gradmeter run ([a-z0-9]+)(?= |$)", README)):
        assert suite in {entry["name"] for entry in entries("suites")}


@pytest.mark.parametrize("kind", TABLES)
def test_its_tables_name_what_there_is(kind: str) -> None:
    (table,) = re.findall(rf"(?m)^\| {kind} \(`gradmeter list {kind}`\) \|.*\n\| --- .*\n((?:\|.*\n)+)", README)
    first = " ".join(row.split(" | ")[0] for row in table.splitlines())
    named = set(re.findall(r"`([a-z-]+)`", re.sub(r"(with|real) `[^;|]*", "", first)))
    known = {entry["name"] for entry in entries(kind)}
    assert len(named) > 12
    assert sorted(named - known) == []


def test_what_it_calls_biased_is_so() -> None:
    (table,) = re.findall(r"(?m)^\| estimators \(.*\n\| --- .*\n((?:\|.*\n)+)", README)
    told = set(re.findall(r"`([a-z-]+)` \(biased\)", table))
    for row in re.findall(r"\| (.*) \((?:all|both) biased\)", table):
        told |= set(re.findall(r"`([a-z-]+)`", row))
    named = set(re.findall(r"`([a-z-]+)`", table))
    assert told == {entry["name"] for entry in entries("estimators") if entry["biased"]} & named


def test_cells_it_names_can_be_made() -> None:
    for option, make in (("problem", make_problem), ("estimator", make_estimator)):
        texts = {a or b for a, b in re.findall(rf"--{option} (?:'([^']+)'|([^\s']+))", README)}
        assert texts
        for text in texts:
            make(text)
    for text in re.findall(r"`([a-z-]+\[[a-z-]+=[^`]*\])`", README):
        try:
            make_problem(text)
        except UsageError:
            make_estimator(text)
