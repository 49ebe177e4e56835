"""`gradvar compare`: what changed between two stores, and the gates."""

import json
import sqlite3

import numpy as np
import pytest

from bench.cli import main
from bench.comparison import compare, parse_gate, tripped
from bench.sweep.cells import Cell, Goals, make_estimator, make_problem
from bench.sweep.run import run
from bench.sweep.store import Store

CELLS = [
    Cell(make_problem("square[k=2]"), make_estimator(name), goals=Goals(max_replicates=1))
    for name in ("pathwise", "score-function")
]


@pytest.fixture
def stores(tmp_path):
    """Two stores of identical cells, with timing rounds written by hand: 1 µs, 10 µs for the reference."""
    paths = [tmp_path / "before.sqlite", tmp_path / "after.sqlite"]
    for path, machine in zip(paths, (1.0, 1.4), strict=True):  # the second machine is slower throughout
        with Store.create(path) as store:
            rows = run(CELLS, store, timing=False)
            generator = np.random.default_rng(1)
            timed = []
            for cell in CELLS:
                wobble = np.exp(0.02 * generator.standard_normal(20))
                series = {"seconds": machine * 1e-6 * wobble, "reference": np.full(20, machine * 1e-5)}
                mine = [{**r, "seconds": machine * 1e-6} for r in rows if r["cell_key"] == cell.key]
                timed.append((cell.key, mine, series))
            store.add_timing(timed)
    return paths


def scale(path, name, factor, column=None):
    """Multiply a stored series of the first cell, and a column of its rows."""
    with sqlite3.connect(path) as db:
        key = CELLS[0].key
        where = "cell_key = ? AND name LIKE ?"
        for series, data in db.execute(f"SELECT name, data FROM series WHERE {where}", (key, name)).fetchall():
            scaled = (np.frombuffer(data) * factor).tobytes()
            db.execute("UPDATE series SET data = ? WHERE cell_key = ? AND name = ?", (scaled, key, series))
        rows = db.execute("SELECT position, row FROM rows WHERE cell_key = ?", (key,)).fetchall()
        for position, text in rows if column else ():
            row = json.loads(text)
            row[column] *= factor
            db.execute("UPDATE rows SET row = ? WHERE cell_key = ? AND position = ?", (json.dumps(row), key, position))


def changes(paths):
    with Store.read(paths[0]) as before, Store.read(paths[1]) as after:
        found, alone = compare(before, after)
    assert alone == 0
    return found


def test_identical_code_on_a_slower_machine_is_the_same(stores, capsys):
    assert {(c.word("time"), c.word("variance")) for c in changes(stores)} == {("same", "same")}
    assert main(["compare", *map(str, stores), "--fail", "time:1.1", "--fail", "variance:1.01"]) == 0
    assert "0 slower, 0 faster, 0 more variable, 0 less variable" in capsys.readouterr().out


def test_a_planted_slowdown_is_named(stores, capsys):
    scale(stores[1], "seconds", 1.15)
    assert [c.word("time") for c in changes(stores)] == ["slower", "same"]
    assert main(["compare", *map(str, stores), "--fail", "time:1.1"]) == 1
    assert "square[k=2] · pathwise" in capsys.readouterr().err
    assert main(["compare", *map(str, stores), "--fail", "time:1.25"]) == 0
    assert [c.word("time") for c in changes(stores[::-1])] == ["faster", "same"]


def test_a_planted_variance_increase_is_named(stores, capsys):
    scale(stores[1], "squared_norm:%", 1.05, "variance")
    first, second = changes(stores)
    assert (first.word("variance"), second.word("variance")) == ("more", "same")
    assert first.variance.value == pytest.approx(1.05, rel=1e-12)
    assert main(["compare", *map(str, stores), "--fail", "variance:1.02"]) == 1
    assert "variance of square[k=2] · pathwise" in capsys.readouterr().err
    assert tripped([first, second], [("variance", 1.1)]) == []


@pytest.mark.parametrize("text", ["time", "tim:1.2", "time:x", "time:1", "variance:nan"])
def test_a_gate_that_makes_no_sense_is_refused(stores, capsys, text):
    assert main(["compare", *map(str, stores), "--fail", text]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gradvar: error: ")
    assert error.count("\n") == 1


def test_gates_are_read():
    assert parse_gate("variance:1.05") == ("variance", 1.05)


def test_stores_without_a_common_cell(tmp_path, stores, capsys):
    other = tmp_path / "other.sqlite"
    with Store.create(other) as store:
        run(
            [Cell(make_problem("cosine"), make_estimator("pathwise"), goals=Goals(max_replicates=1))],
            store,
            timing=False,
        )
    assert main(["compare", str(stores[0]), str(other)]) == 2
    assert "no measured cell in common" in capsys.readouterr().err
