"""Options with a number a coordinate, component, category or choice: text, Python, rows, reports, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradmeter
from gradmeter.bench import catalogue
from gradmeter.bench.cells import make_problem
from gradmeter.bench.reading.names import problem_text
from gradmeter.bench.reading.results import cleaned
from gradmeter.bench.rows import from_json, to_json
from gradmeter.bench.sweep import suites
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import FAMILIES, UsageError
from gradmeter.estimators.families import Gamma
from gradmeter.estimators.options import construct, effective, spell
from tests.support import make_cell, problem_is_refused

TEXT = "cosine[family=gamma,concentration=0.3:2:30,rate=1.5:0.1:2,dim=3]"
#: Options of one number whatever the dimension.
SINGLE = {
    ("tied-bernoulli", "probability"),
    ("multivariate-normal", "correlation"),
    ("elliptical", "correlation"),
    ("elliptical", "degrees"),
    ("sequence-policy", "spread"),
    ("lkj-cholesky", "concentration"),
    ("stick-breaking-normal", "loc"),
    ("stick-breaking-normal", "scale"),
    ("truncated-normal", "low"),
    ("truncated-normal", "high"),
}


def test_text_python_and_rows_are_one_object() -> None:
    made: Any = make_problem(TEXT)
    assert made.q == Gamma.Config(concentration=(0.3, 2, 30), rate=np.asarray([1.5, 0.1, 2.0]))
    assert made.q == Gamma.Config(concentration=[0.3, 2.0, 30.0], rate=(1.5, 0.1, 2.0))
    assert hash(made.q) == hash(Gamma.Config(concentration=[0.3, 2, 30], rate=[1.5, 0.1, 2]))
    assert effective(made)["concentration"] == [0.3, 2.0, 30.0]
    read = json.loads(json.dumps(effective(made)))
    assert construct(type(made), read, "problem cosine") == made
    np.testing.assert_array_equal(made.parameters()["log_rate"], np.log([1.5, 0.1, 2.0]))


@given(values=st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=6))
def test_round_trip(values: list[float]) -> None:
    made: Any = construct(
        type(make_problem("square")), {"family": "student-t", "df": values, "dim": len(values)}, "problem square"
    )
    text = spell(made.name, effective(made), type(made))
    assert made.q.df == tuple(values)
    if min(values) > 2.0:  # else there is no such square
        assert make_problem(text) == made
        assert spell(made.name, effective(make_problem(text)), type(made)) == text


def test_text_is_kept() -> None:
    made = make_problem(TEXT)
    assert spell(made.name, effective(made), type(made)) == TEXT


def test_one_number_for_all_is_what_it_was() -> None:
    assert make_problem("cosine[loc=0.5,dim=3]").q == make_problem("cosine[loc=0.5]").q
    assert (
        Gamma.Config(concentration=(2.0,))
        == Gamma.Config(concentration=2)
        == Gamma.Config(concentration=np.float64(2.0))
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_number_of_every_family(name: str) -> None:
    """All but whole numbers, which are structure, and what is one number of a law."""
    for field in dataclasses.fields(FAMILIES[name].Config):
        several = field.metadata["type"] is float and (name, field.name) not in SINGLE
        assert (field.metadata["per"] is not None) == several, field.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "cosine[family=gamma,concentration=0.3:2,dim=3]",
            "option 'concentration' has 2 numbers; it must have 3, one a coordinate, or one number for all",
        ),
        (
            "square[loc=1:2]",
            "family normal option 'loc' has 2 numbers; it must have 1, one a coordinate, or one number",
        ),
        (
            "cosine[family=gamma,concentration=0.3::3,dim=3]",
            "problem cosine option 'concentration', number 2 of 3, is ''; it must be a finite number, at least",
        ),
        ("cosine[scale=1:0:2,dim=3]", "option 'scale', number 2 of 3, is '0'; it must be a finite number, above 0"),
        ("cosine[scale=1:x,dim=2]", "option 'scale', number 2 of 2, is 'x'; it must be a finite number, above 0"),
        ("cosine[loc=:,dim=2]", "option 'loc', number 1 of 2, is ''; it must be a finite number"),
        ("cosine[loc=1:nan,dim=2]", "option 'loc', number 2 of 2, is 'nan'; it must be a finite number"),
        ("cosine[k=1:2,dim=2]", "problem cosine option 'k' is '1:2'; it must be a finite number"),
        ("cosine[dim=1:2]", "option 'dim' is '1:2'; it must be a whole number"),
        ("cosine[family=uniform,low=0:1,high=1:1,dim=2]", "family uniform with low=1, high=1: high must be above low"),
        ("cosine[family=reciprocal,low=1:20,dim=2]", "family reciprocal with low=20, high=10: high must be above low"),
        ("cosine[family=triangular,mode=0:2,dim=2]", "family triangular with low=-1, mode=2, high=1: mode must be"),
        (
            "cosine[family=mixture-of-normals,weights=1:2:3]",
            "family mixture-of-normals option 'weights' has 3 numbers; it must have 2, one a component, or one number",
        ),
        (
            "categorical-square[weights=1:2:3]",
            "family categorical option 'weights' has 3 numbers; it must have 2, one a category, or one number for all",
        ),
        (
            "cosine[family=concrete,temperature=1:2:3,dim=4]",
            "family concrete option 'temperature' has 3 numbers; it must have 2, one a choice, or one number for all",
        ),
        ("three-bernoullis[probability=0.2:0.3:0.4]", "option 'probability' is '0.2:0.3:0.4'; it must be a finite"),
        ("exponential[k=-0.2,scale=1:2,dim=2]", "with k=-0.2, scale=2 has no expectation; k must be above"),
        ("exponential-moment[family=gamma,rate=3:0.3,t=0.5,dim=2]", "t must be below 0.3"),
        ("square[family=student-t,df=5:1.5,dim=2]", "df=1.5 has E z^n for n below 1.5 only, not 2"),
        ("exponential-moment[loc=0:800,t=1,dim=2]", "problem exponential-moment overflows"),
        ("polynomial[loc=0:1e200,dim=2]", "problem polynomial with degree=2 overflows"),
        ("banana[loc=0:0:0:1e300,dim=4]", "problem banana overflows"),
        (
            "logistic-regression[scale=1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1e4]",
            "scale is 10000",
        ),
        ("poisson-regression[loc=0:0:0:900]", "E exp(xᵀz) overflows"),
        ("bayesian-gaussian-mixture[bound=joint,loc=0:1]", "option 'loc' has 2 numbers; it must have 6, one a coord"),
    ],
)
def test_refused_in_one_line(text: str, message: str) -> None:
    problem_is_refused(text, message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((), "family gamma option 'concentration' is empty; give one number for all, or one a coordinate"),
        ((1.0, -2.0), "family gamma option 'concentration', number 2 of 2, is '-2.0'; it must be a finite number"),
        (np.ones((2, 2)), "family gamma option 'concentration', number 1 of 2, is '[1.0, 1.0]'; it must be a finite"),
        ((1.0, None), "family gamma option 'concentration', number 2 of 2, is 'None'; it must be a finite number"),
        ({1.0, 2.0}, "family gamma option 'concentration' is '{1.0, 2.0}'; it must be a finite number"),
        (-1.0, "family gamma option 'concentration' is '-1.0'; it must be a finite number"),
    ],
)
def test_refused_in_python(value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Gamma.Config(concentration=value)
    assert message in str(caught.value)


def test_python_needs_as_many_as_coordinates() -> None:
    with pytest.raises(UsageError, match="has 2 numbers; it must have 3, one a coordinate"):
        Gamma.Config(concentration=(1.0, 2.0)).parameters(3)


def test_a_list_in_a_suite_is_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'[[grid]]\nproblem = ["{TEXT}", "cosine[loc=1:2,dim=2]"]\nestimator = ["score-function"]\n')
    problems = [cell.problem for cell in suites.load(str(path)).cells]
    assert problems == [make_problem(TEXT), make_problem("cosine[loc=1:2,dim=2]")]


def test_rows_and_reports_say_it(tmp_path: Path) -> None:
    """Through a store; a second run finds the cell, another order of the numbers is another cell."""
    at: Any = {"timing": False, "store": tmp_path / "s.db", "max_replicates": 64}
    frame = gradmeter.measure(TEXT, "score-function", **at)
    assert json.loads(frame["problem_options"][0])["concentration"] == [0.3, 2.0, 30.0]
    again = gradmeter.measure(TEXT, "score-function", **at)
    assert list(again["cell_key"]) == list(frame["cell_key"])
    other = TEXT.replace("0.3:2:30", "2:0.3:30")
    assert make_cell(other, "score-function").key != make_cell(TEXT, "score-function").key
    with Store.read(tmp_path / "s.db") as store:
        rows = list(store.rows())
    assert {problem_text(cleaned(from_json(to_json(row)))) for row in rows} == {TEXT}


def test_the_list_says_what_has_a_number_of_its_own() -> None:
    entry = next(e for e in catalogue.entries("families") if e["name"] == "mixture-of-normals")
    assert entry["options"]["weights"]["per"] == "component"
    assert "per" not in entry["options"]["components"]
    text = "\n".join(catalogue.as_text([entry]))
    assert "scale=1.0 (or a:b:…, one a coordinate): σ of every component" in text
