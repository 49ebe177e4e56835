"""A suite file that is none is refused in one line that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradmeter.bench import commands
from gradmeter.bench.sweep import suites
from gradmeter.estimators import UsageError

GRID = '[[grid]]\nproblem = ["square"]\nestimator = ["pathwise"]\n'

WRONG = [
    ("", "there is no [[grid]]"),
    ("grid = 1", "there is no [[grid]]"),
    ("grid = []", "there is no [[grid]]"),
    ('[grid]\nproblem = "square"', "there is no [[grid]]"),
    ("grid = [", "is not TOML"),
    ("x = " + "[" * 100_000, "is not TOML"),
    ("# " + "x" * 2**20, "too long to be a suite"),
    (f'sumary = "x"\n{GRID}', "unknown key 'sumary'; did you mean 'summary'?"),
    (f"summary = 1\n{GRID}", "summary must be a text"),
    (f"minibatch_parts = 1\n{GRID}", "minibatch_parts must be true or false"),
    (".".join("a" * 40_000) + " = 1", "a key of more than 64 parts"),
    ("x = {" + " . ".join(['"\\"a"'] * 9_000) + " = 1}", "a key of more than 64 parts"),
    (f"{GRID}seed = {list(range(2000))}\nsamples = {list(range(1, 1001))}", "2,000,000 cells; at most 1,000,000"),
    (f"{GRID}seed = [0x{'f' * 5000}]", "seed is 'a huge int'; it must be a whole number"),
    (f"{GRID}seed = [{'9' * 5000}]", "is not TOML"),
    ("precision = {}\n" + GRID, "precision is '{}'; it must be a finite number"),
    (f"{GRID}sample = [1]", "unknown key of a grid 'sample'; did you mean 'samples'?"),
    ('[[grid]]\nproblem = ["square"]', "needs both problem and estimator"),
    ('[[grid]]\nproblem = [1]\nestimator = ["pathwise"]', "problem must be a list of names"),
    ('[[grid]]\nproblem = [["square"]]\nestimator = "pathwise"', "problem must be a list of names"),
    ('[[grid]]\nproblem = "sqare"\nestimator = "pathwise"', "did you mean 'square'?"),
    ('[[grid]]\nproblem = "square"\nestimator = "pathwis"', "did you mean 'pathwise'?"),
    (f'{GRID}backend = ["nump"]', "did you mean 'numpy'?"),
    (f'{GRID}device = "gpu"', "did you mean 'cpu'?"),
    (f'{GRID}dtype = "float16"', "did you mean 'float64'?"),
    (f'{GRID}samples = ["1"]', "samples must be a list of whole numbers"),
    (f"{GRID}samples = [1.5]", "samples must be a list of whole numbers"),
    (f"{GRID}samples = [true]", "samples must be a list of whole numbers"),
    (f"{GRID}samples = [0]", "samples is '0'; it must be a whole number, at least 1"),
    (f"{GRID}seed = [-1]", "seed is '-1'; it must be a whole number, at least 0"),
    (f'precision = "x"\n{GRID}', "precision is 'x'; it must be a finite number, above 0"),
    (f"precision = nan\n{GRID}", "precision is 'nan'; it must be a finite number, above 0"),
    (f"{GRID}bias_bound = 0.0", "bias bound is '0.0'; it must be a finite number, above 0"),
    (f"max_replicates = 2.5\n{GRID}", "max replicates is '2.5'; it must be a whole number"),
    (f"max_replicates = true\n{GRID}", "max replicates is 'True'; it must be a whole number"),
]


@pytest.mark.parametrize(("content", "fragment"), WRONG, ids=[fragment for _, fragment in WRONG])
def test_wrong_content_is_refused(tmp_path: Path, content: str, fragment: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(UsageError) as refusal:
        suites.load(str(path))
    assert str(refusal.value).startswith(f"suite {path}")
    assert fragment in str(refusal.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b'summary = "\x80"', bytes(range(256))])
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.toml").write_bytes(content)
    with pytest.raises(UsageError, match="is not a text file"):
        suites.load(str(tmp_path / "own.toml"))


def test_a_cell_named_twice_is_measured_once_and_a_grid_may_override_goals(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        f"precision = 0.2\n{GRID}{GRID}"
        + '[[grid]]\nproblem = ["square[k=1.0]", "square"]\nestimator = "pathwise"\nprecision = 0.3\n'
    )
    cells = suites.load(str(path)).cells
    assert [cell.goals.precision for cell in cells] == [0.2, 0.3]


@pytest.mark.parametrize("name", suites.names())
def test_bundled_suites_load(name: str) -> None:
    suite = suites.load(name)
    assert suite.summary
    assert suite.cells
    assert len(set(suite.cells)) == len(suite.cells)


def test_a_suite_may_ask_for_the_parts_of_a_minibatchs_variance(tmp_path: Path) -> None:
    """Where any of its cells that are run has them."""
    suite, batch = tmp_path / "s.toml", "linear-vae[batch=10]"
    text = f'[[grid]]\nproblem = ["{batch}", "square"]\nestimator = ["pathwise"]\n'
    for asked in ("", "minibatch_parts = true\n"):
        suite.write_text(asked + text, encoding="utf-8")
        assert commands.splits(str(suite), commands.plan(str(suite))) is bool(asked)
    assert not commands.splits(str(suite), commands.plan(str(suite), problem=["square"]))
    assert not commands.splits(None, commands.plan(None, problem=[batch], estimator=["pathwise"]))
