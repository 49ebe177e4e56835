"""The pages of the documentation: programs run, commands parse, links lead somewhere, and names exist."""

from __future__ import annotations

import functools
import importlib.util
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import gradmeter
from gradmeter.bench.advising.result import Advice
from gradmeter.bench.audit.result import Audit
from gradmeter.bench.catalogue import entries
from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.cli import app
from gradmeter.bench.comparison import parse_gate
from gradmeter.bench.fit.command import make_method
from gradmeter.bench.optimisation.optimisers import make_optimiser
from gradmeter.bench.rows import COLUMNS
from gradmeter.estimators import backends
from gradmeter.estimators.aliases import ALIASES, TRAINERS
from gradmeter.estimators.errors import UsageError
from tests.support import needs

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
#: The pages that this project's users and contributors read.
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in (*ROOT.glob("*.md"), *DOCS)}
#: Those whose programs and commands hold today; the changelog also tells of yesterday's.
CURRENT = {name: text for name, text in PAGES.items() if name != "CHANGELOG.md"}
README = PAGES["README.md"]
MOST_WORDS, LONGEST_LINE = 1200, 120
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
#: What a program of the documentation calls; the call becomes `rows`.
CALL = re.compile(r"^(?:\w+ = )?(gradmeter\.(?:measure|minibatch_split|audit|advise)\()", flags=re.MULTILINE)


def fences(language: str) -> list[tuple[str, str]]:
    """Return (page, text) of every code block of a language."""
    return [(page, code) for page, text in CURRENT.items() for kind, code in FENCE.findall(text) if kind == language]


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", text)


def the_table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of all rows of the tables whose first heading is given."""
    tables = re.findall(rf"(?m)^\| {re.escape(heading)} \|.*\n\| --- .*\n((?:\|.*\n)+)", PAGES[page])
    return [re.split(r"(?<!\\)\|", row.strip("| \n")) for table in tables for row in table.splitlines()]


def names_in(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`((?:papers/)?[a-z][a-z0-9_-]*)`", cell)}


# Programs.


def _programs() -> Iterator[Any]:
    for page, program in fences("python"):
        name = (re.findall(r'(?:class |Model\(")([\w-]+)', program) or ["names"])[-1]
        compiles = any(f"import {framework}" in program for framework in ("torch", "jax"))  # a model of a user's
        marks = [pytest.mark.slow] if compiles or "QuarticProblem" in program else []  # whose reference takes 10 s
        yield pytest.param(program, id=f"{page}:{name}", marks=marks)


def run(program: str, folder: Path) -> dict[str, Any]:
    file = folder / "program.py"
    file.write_text(CALL.sub(r"rows = \1", program), encoding="utf-8")
    return runpy.run_path(str(file), run_name="documentation")


def rows_of(program: str, folder: Path) -> Any:
    return run(program, folder)["rows"]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs measure without timing, and audit few replicates, unless they say otherwise."""
    monkeypatch.setattr(gradmeter, "measure", functools.partial(gradmeter.measure, timing=False))
    monkeypatch.setattr(gradmeter, "audit", functools.partial(gradmeter.audit, replicates=2**14))


@pytest.mark.parametrize("program", list(_programs()))
def test_programs_run(program: str, tmp_path: Path, brief: None) -> None:
    for framework in ("torch", "jax"):
        if framework in program:
            needs(framework)
    made = run(program, tmp_path)
    tests = [thing for name, thing in made.items() if name.startswith("test_")]
    for test in tests:
        test()
    if tests:
        return
    rows = made["rows"]
    if isinstance(rows, Audit):
        assert (rows.verdict == "biased") == ("f - f.mean()" in program), rows
        return
    if isinstance(rows, Advice):
        assert rows.best
        assert "biased" not in set(rows.table["verdict"])
        return
    assert len(rows)
    if "status" in rows:
        assert set(rows["status"]) == {"ok"}
        assert "biased" not in set(rows["verdict"])


@pytest.mark.parametrize(("framework", "block"), [("torch", "encoder.0.weight"), ("jax", "model.0.w")])
def test_models_of_other_frameworks(framework: str, block: str) -> None:
    """All but the measuring: the model is one, and has an exact gradient."""
    needs(framework)
    (program,) = (
        text for _, text in fences("python") if "gradmeter.Model(" in text and f"import {framework}\n" in text
    )
    made: dict[str, Any] = {}
    exec(program.partition("\ngradmeter.measure(")[0], made)
    exact = made["mine"].exact()
    assert exact.source == "quadrature"
    assert block in exact.gradient


def test_the_mistake_that_the_readme_describes_is_found(tmp_path: Path, brief: None) -> None:
    (program,) = (text for _, text in fences("python") if "class Mine" in text)
    right, wrong = "/ (f.shape[1] - 1)", "/ f.shape[1]"
    assert f"With `{wrong}` in place of `{right}`" in README
    rows = rows_of(program.replace(right, wrong), tmp_path)
    assert rows["verdict"].iloc[-1] == "biased"
    last = rows.iloc[-1]
    assert last["bias_norm"] == pytest.approx(last["exact_norm"] / 8, rel=0.05)


def test_imports_come_from_the_public_package() -> None:
    for page, text in CURRENT.items():
        for name in re.findall(r"(?m)^from gradmeter import (.*)$", text):
            for each in name.split(", "):
                assert hasattr(__import__("gradmeter"), each) or importlib.util.find_spec(f"gradmeter.{each}"), page


# Commands.


def _commands() -> Iterator[Any]:
    """Every command line of a code block, without the comment that follows it, and every one within a sentence."""
    seen = set()
    for page, text in CURRENT.items():
        lines = [line for kind, code in FENCE.findall(text) if kind != "python" for line in code.splitlines()]
        found = [re.split(r"\s{2,}|\s#", line.removeprefix("$ "))[0] for line in lines]
        found += re.findall(r"`(gradmeter [^`]+)`", re.sub(r"\s*\n\s*", " ", prose(text)))
        for line in found:
            if line.startswith("gradmeter ") and line not in seen:
                seen.add(line)
                yield pytest.param(line, id=f"{page}: {line}")


@pytest.mark.parametrize("line", list(_commands()))
def test_commands_parse(line: str) -> None:
    if line.startswith("gradmeter: "):  # a message
        return
    _, name, *arguments = shlex.split(line)
    if name == "--version":
        return
    command = COMMANDS[name]
    if not arguments:
        return
    given = command.make_context(name, list(arguments)).params
    for option, make in (("problem", make_problem), ("estimator", make_estimator), ("method", make_method)):
        texts = given.get(option) or ()
        for text in [texts] if isinstance(texts, str) else texts:
            make(text)
    if given.get("optimiser"):
        for text in given["optimiser"]:
            make_optimiser(text)
    assert set(given.get("backend") or ()) <= set(backends.NAMES)
    if name == "list" and given["kind"]:
        assert entries(given["kind"])
    if name == "run" and given["suite"] and not given["suite"].endswith(".toml"):
        assert given["suite"] in {entry["name"] for entry in entries("suites")}
    for gate in given.get("fail") or ():
        if gate != "METRIC:RATIO":
            parse_gate(gate)


def test_every_option_of_every_command_is_described() -> None:
    page = PAGES["docs/command-line.md"]
    for name, command in COMMANDS.items():
        assert f"`gradmeter {name}`" in page
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or option in page, (name, option)


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8")))
    for page, text in CURRENT.items():
        named = set(re.findall(r"`make ([a-z-]+)[^`]*`", text)) | set(re.findall(r"(?m)^make ([a-z-]+)", text))
        assert named <= targets, page


# Links and files.


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower())
    return text.replace(" ", "-")


@pytest.mark.parametrize("page", list(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[page])):
        if link.startswith("https://"):
            continue
        path, _, fragment = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if fragment:
            headings = re.findall(r"(?m)^#+ (.*)$", FENCE.sub("", target.read_text("utf-8")))
            assert fragment in map(anchor, headings), link


def test_the_readme_and_the_index_link_to_every_page() -> None:
    for path in DOCS:
        if path.name != "README.md":
            assert f"](docs/{path.name})" in README
            assert f"]({path.name})" in PAGES["docs/README.md"]


def test_folders_exist() -> None:
    for page, text in CURRENT.items():
        for folder in re.findall(r"`((?:bench|estimators|gradmeter|tests|results|docs)/(?:[\w-]+/)*)`", text):
            assert (ROOT / folder).is_dir() or folder == "results/asv/", (page, folder)


# Names.


@pytest.mark.parametrize(
    ("page", "heading", "kind"),
    [
        ("docs/estimators.md", "estimator", "estimators"),
        ("docs/families.md", "family", "families"),
        ("docs/problems.md", "problem", "problems"),
        ("docs/command-line.md", "suite", "suites"),
        ("docs/papers.md", "suite", "suites"),
        ("docs/fitting.md", "optimiser", "optimisers"),
        ("docs/fitting.md", "method", "methods"),
    ],
)
def test_catalogues_are_complete(page: str, heading: str, kind: str) -> None:
    first = [re.sub(r"`df`", "", row[0]) for row in the_table(page, heading)]
    known = {entry["name"] for entry in entries(kind) if not entry.get("injected")}
    if kind == "suites":  # those of papers have a page of their own
        known = {name for name in known if name.startswith("papers/") == (page == "docs/papers.md")}
    assert names_in(first) == known


def test_usual_names_of_estimators_are_complete() -> None:
    rows = the_table("docs/estimators.md", "usual name")
    listed = {name: target.strip(" `") for names, target in rows for name in names_in([names])}
    assert listed == {name: target for name, target in ALIASES.items() if name not in TRAINERS}


def test_families_have_the_parameter_blocks_that_are_named() -> None:
    blocks = {entry["name"]: set(entry["blocks"]) for entry in entries("families")}
    for family, parameters, _ in the_table("docs/families.md", "family"):
        for name in names_in([family]) & set(blocks):
            assert names_in([parameters]) == blocks[name], name


def test_estimators_biased_by_nature_are_marked() -> None:
    first = [row[0] for row in the_table("docs/estimators.md", "estimator")]
    marked = {name for cell in first for name in re.findall(r"`(.*)` \(biased\)", cell)}
    assert marked == {entry["name"] for entry in entries("estimators") if entry["biased"]}


def test_every_column_is_described() -> None:
    assert names_in([row[0] for row in the_table("docs/results.md", "column")]) == set(COLUMNS)


def test_cells_that_are_named_can_be_made() -> None:
    for text in re.findall(r"[a-z0-9-]+\[[a-z-]+=[^\]]*\]", "\n".join(map(prose, CURRENT.values()))):
        for make in (make_problem, make_estimator, make_optimiser, make_method):
            try:
                make(text)
                break
            except UsageError:
                continue
        else:
            pytest.fail(f"{text} is neither a problem nor an estimator, an optimiser or a method")


# Form.


def test_the_readme_is_short() -> None:
    assert len(prose(README).split()) < MOST_WORDS


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in DOCS)])
def test_lines_of_prose_are_not_long(page: str) -> None:
    lines = [line for line in prose(CURRENT[page]).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []
