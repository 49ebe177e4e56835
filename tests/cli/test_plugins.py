"""Plug-ins: classes of a file and of other packages under their names; `gradmeter new` and the tests it writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradmeter.bench import plugin_files, scaffold
from gradmeter.bench.catalogue import entries
from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.problems import PROBLEMS
from gradmeter.bench.sweep import suites
from gradmeter.estimators import ESTIMATORS, FAMILIES, UsageError, plugins

MINE = """
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators import Pathwise
from gradmeter.estimators.families import Normal
from gradmeter.bench.problems.test_functions import Square


@dataclass(frozen=True)
class Mine(Pathwise):
    name: ClassVar[str] = "my-pathwise"


@dataclass(frozen=True)
class Sum(Square):
    name: ClassVar[str] = "my-square"


@dataclass(frozen=True)
class Bell(Normal):
    name: ClassVar[str] = "my-normal"

    @dataclass(frozen=True)
    class Config(Normal.Config):
        @property
        def family(self):
            return Bell()
"""


@pytest.fixture
def untouched() -> Iterator[None]:
    """Forget afterwards what a test registers."""
    before = [(registry, dict(registry)) for registry in (ESTIMATORS, FAMILIES, PROBLEMS)]
    plugins.offered.cache_clear()
    plugins.imported.cache_clear()
    yield
    plugins.offered.cache_clear()
    plugins.imported.cache_clear()
    for registry, classes in before:
        for name in set(dict(registry)) - set(classes):
            del registry[name]


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str, **modules: str) -> None:
    """Put a package with these entry points and modules onto the path."""
    info = folder / "offering-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offering\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    plugins.offered.cache_clear()


@pytest.mark.usefixtures("untouched")
def test_classes_of_a_file_have_their_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    plugin_files.add([path])
    assert make_estimator("my-pathwise[antithetic=true]").name == "my-pathwise"
    assert make_problem("my-square[k=2,family=my-normal]").q.family.name == "my-normal"
    assert {"my-pathwise"} <= {entry["name"] for entry in entries("estimators")}


@pytest.mark.usefixtures("untouched")
def test_entry_points_are_listed_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[gradmeter.estimators]\nmy-pathwise = offering_classes:Mine\n"
    points += "[gradmeter.problems]\nmy-square = offering_classes:Sum\n"
    installed(tmp_path, monkeypatch, points, offering_classes=MINE)
    listed = {entry["name"]: entry["summary"] for entry in entries("estimators")}
    assert "of package offering" in listed["my-pathwise"]
    assert "offering_classes" not in sys.modules
    assert make_estimator("my-pathwise").name == "my-pathwise"
    assert make_problem("my-square").name == "my-square"
    assert "offering_classes" in sys.modules


@pytest.mark.usefixtures("untouched")
def test_a_suite_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = tmp_path / "theirs.toml"
    suite.write_text('[[grid]]\nproblem = ["square"]\nestimator = ["pathwise"]\n')
    installed(
        tmp_path,
        monkeypatch,
        "[gradmeter.suites]\ntheirs = offering_suites:PATH\n",
        offering_suites=f"PATH = {str(suite)!r}",
    )
    assert len(suites.load("theirs").cells) == 1


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("points", "text", "message"),
    [
        ("mine = offering_x:Nothing", "", "estimator mine of offering cannot be imported: AttributeError"),
        (
            "mine = offering_x:Y",
            "raise SystemExit(0)",
            "estimator mine of offering cannot be imported: it calls sys.exit",
        ),
        ("mine = offering_x:Y", "Y = 3", "estimator mine: 3 is no subclass of Estimator"),
        ("other = offering_x:Mine", MINE, "estimator other is called my-pathwise by its class; the two must agree"),
    ],
)
def test_wrong_entry_points_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: str, text: str, message: str
) -> None:
    installed(tmp_path, monkeypatch, f"[gradmeter.estimators]\n{points}\n", offering_x=text)
    with pytest.raises(UsageError) as caught:
        make_estimator(points.partition(" ")[0])
    assert message in str(caught.value)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no estimator, family or problem"),
        (MINE.replace('"my-pathwise"', '"pathwise"'), "estimator pathwise is one of gradmeter's own"),
        ("raise ValueError('no')", "cannot be imported: ValueError: no"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        plugin_files.add([path])
    assert message in str(caught.value)


def test_a_new_estimator_fails_until_it_is_filled_in(tmp_path: Path) -> None:
    """The files are Python, and the class is refused by its own tests' measurement, with the reason."""
    paths = scaffold.new("estimator", "my-own", tmp_path)
    assert [path.name for path in paths] == ["my_own.py", "test_my_own.py"]
    for path in paths:
        compile(path.read_text(), str(path), "exec")
    with pytest.raises(UsageError, match="exists already"):
        scaffold.new("estimator", "my-own", tmp_path)


@pytest.mark.parametrize("name", ["My", "a b", "", "pathwise", "a--b"])
def test_a_name_that_cannot_be_one_writes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        scaffold.new("estimator", name, tmp_path)
    assert not list(tmp_path.iterdir())
