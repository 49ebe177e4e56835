"""`name[k=v,...]`: parsing, validation, and text that parses back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.controls import CONTROLS
from gradmeter.bench.problems import PROBLEMS
from gradmeter.estimators import ESTIMATORS, VARIANTS, Normal, NotApplicable, UsageError, backends
from gradmeter.estimators.aliases import ALIASES
from gradmeter.estimators.families import FAMILIES, Exponential
from gradmeter.estimators.options import construct, describe, effective, number, parse, spell
from tests.families import FAMILY_PROBLEMS

finite = st.floats(allow_nan=False, allow_infinity=False)


def test_parse() -> None:
    assert parse("square", "problem") == ("square", {})
    assert parse(" square[ k = 2 , loc=-1e-3 ] ", "problem") == ("square", {"k": "2", "loc": "-1e-3"})
    assert parse("square[]", "problem") == ("square", {})


@pytest.mark.parametrize(
    "text", ["", "square[", "square]", "square[k=2", "square[k]", "square[=2]", "square[k=]", "a b", "square[k=1]x"]
)
def test_not_of_the_form(text: str) -> None:
    with pytest.raises(UsageError, match="is not of the form"):
        parse(text, "problem")


def test_given_twice() -> None:
    with pytest.raises(UsageError, match="gives option 'k' twice"):
        parse("square[k=1,k=2]", "problem")


@pytest.mark.parametrize(
    "text",
    [
        *VARIANTS,
        *PROBLEMS,
        *CONTROLS,
        "logistic-regression[loc=0.5,batch=32]",
        *FAMILY_PROBLEMS.values(),
    ],
)
def test_round_trip(text: str) -> None:
    make = make_problem if text.partition("[")[0] in PROBLEMS else make_estimator
    made: Any = make(text)
    spelled = spell(made.name, effective(made), type(made))
    assert make(spelled) == made
    assert len(spelled) <= len(text) + 1


@given(k=finite, loc=finite, scale=st.floats(1e-300, 1e300), dim=st.integers(1, 1_000_000))
def test_round_trip_of_numbers(k: float, loc: float, scale: float, dim: int) -> None:
    """Through `construct`, as a result row's options come back."""
    made = construct(PROBLEMS["square"], {"k": repr(k), "loc": loc, "scale": scale, "dim": dim}, "problem square")
    assert (made.k, made.q, made.dim) == (k, Normal.Config(loc, scale), dim)  # type: ignore[attr-defined]
    assert construct(PROBLEMS["square"], effective(made), "problem square") == made


def test_options_of_a_family_stand_beside_it() -> None:
    made: Any = make_problem("polynomial[rate=2,degree=3,family=exponential]")
    assert made.q == Exponential.Config(rate=2.0)
    expected = {"degree": 3, "family": "exponential", "rate": 2.0, "dim": 1, "differentiate": "closed-form"}
    assert effective(made) == expected
    assert spell("polynomial", expected, type(made)) == "polynomial[degree=3,family=exponential,rate=2]"
    assert make_problem("square[family=normal,loc=1,scale=2]") == make_problem("square[loc=1,scale=2]")


@pytest.mark.parametrize("cls", PROBLEMS.values())
def test_no_option_means_two_things(cls: type) -> None:
    """A problem's own options, and those of every family it takes, have different names."""
    fields = dataclasses.fields(cls)
    own = {f.name for f in fields} | {"family"}
    for field in fields:
        for alternative in field.metadata.get("classes", {}).values():
            assert own.isdisjoint(f.name for f in dataclasses.fields(alternative))


def test_rows_of_another_version_are_still_spelled() -> None:
    """A stored row may name a family that is not there, or none."""
    cls = PROBLEMS["polynomial"]
    assert spell("polynomial", {"family": "unheard-of", "rate": 2.0}, cls) == "polynomial[family=unheard-of,rate=2]"
    assert spell("polynomial", {"family": ["x"], "degree": 2}, cls) == "polynomial[family=['x']]"
    assert spell("square", {"k": 2.0, "loc": 0.0, "scale": 1.0}, PROBLEMS["square"]) == "square[k=2]"


@given(k=finite)
def test_spelling_keeps_the_number(k: float) -> None:
    made = construct(PROBLEMS["cosine"], {"k": k}, "problem cosine")
    assert make_problem(spell("cosine", effective(made), type(made))) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sqare", "unknown problem 'sqare'; did you mean 'square'?"),
        ("logistic-regresion", "unknown problem 'logistic-regresion'; did you mean 'logistic-regression'?"),
        ("square[kk=1]", "unknown option of problem square 'kk'; did you mean 'k'?"),
        (
            "zzz",
            f"unknown problem 'zzz'; choose from: {', '.join([*PROBLEMS][:5])} and {len(PROBLEMS) - 5} more; "
            "see all with: gradmeter list problems",
        ),
        ("square[dim=0]", "problem square option 'dim' is '0'; it must be a whole number, at least 1, at most 1000000"),
        (
            "square[dim=2.5]",
            "problem square option 'dim' is '2.5'; it must be a whole number, at least 1, at most 1000000",
        ),
        ("square[scale=0]", "problem square option 'scale' is '0'; it must be a finite number, above 0"),
        ("square[scale=-1]", "problem square option 'scale' is '-1'; it must be a finite number, above 0"),
        ("square[k=nan]", "problem square option 'k' is 'nan'; it must be a finite number"),
        ("square[loc=inf]", "problem square option 'loc' is 'inf'; it must be a finite number"),
        ("square[k=1/2]", "problem square option 'k' is '1/2'; it must be a finite number"),
        ("square[k=one]", "problem square option 'k' is 'one'; it must be a finite number"),
        (
            "exponential[k=-0.5]",
            "problem exponential with k=-0.5, scale=1 has no expectation; k must be above −1/(2 scale²) = -0.5",
        ),
        ("linear-regression[batch=443]", "problem linear-regression: batch is 443; there are 442 rows"),
        (
            "logistic-regression[at=fitted,scale=2]",
            "problem logistic-regression: at=fitted chooses loc and scale itself; leave them out",
        ),
        (
            "logistic-regression[entropy=analytical]",
            "unknown value of problem logistic-regression option 'entropy': 'analytical'; did you mean 'analytic'?",
        ),
    ],
)
def test_one_plain_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_problem(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pathwize", "unknown estimator 'pathwize'; did you mean 'pathwise'?"),
        (
            "score-function[baseline=optimum]",
            "unknown value of estimator score-function option 'baseline': 'optimum'; did you mean 'optimal'?",
        ),
        (
            "score-function[decay=1]",
            "estimator score-function option 'decay' is '1'; it must be a finite number, above 0, below 1",
        ),
        (
            "measure-valued[coupling=yes]",
            "estimator measure-valued option 'coupling' is 'yes'; it must be true or false",
        ),
    ],
)
def test_one_plain_line_for_estimators(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_estimator(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("estimator", "entropy", "samples", "dimension", "message"),
    [
        ("pathwise[antithetic=true]", "none", 3, 1, "samples must be even, not 3"),
        ("score-function[baseline=leave-one-out]", "none", 1, 1, "needs at least 2 samples, not 1"),
        ("pathwise[sticking-the-landing=true]", "none", 1, 1, "this problem has no entropy term"),
        ("pathwise[sticking-the-landing=true]", "analytic", 1, 1, "this problem takes the entropy analytically"),
        ("injected-opposite-biases", "none", 1, 1, "needs at least 2 coordinates"),
        ("injected-in-sample-coefficient", "none", 2, 1, "needs at least 3 samples, not 2"),
    ],
)
def test_not_applicable(estimator: str, entropy: str, samples: int, dimension: int, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        make_estimator(estimator).check(Normal(), entropy, samples, dimension)


@pytest.mark.parametrize(
    "cls", [*PROBLEMS.values(), *ESTIMATORS.values(), *CONTROLS.values(), *(f.Config for f in FAMILIES.values())]
)
def test_described_as_declared(cls: type) -> None:
    defaults = {name: about["default"] for name, about in describe(cls).items()}
    assert effective(construct(cls, {}, "default")) == defaults
    assert all(about["summary"] for about in describe(cls).values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain:
    """A user's class whose fields are not made by `option`."""

    k: int = 0
    flag: bool = False
    pair: tuple[int, ...] = (1, 2)
    given: float = dataclasses.field(default=1.0, repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithoutDefault:
    """A user's class that cannot be made without a value."""

    must: float


def test_plain_fields_of_a_user_are_options() -> None:
    assert construct(Plain, {"k": "2^3", "flag": "true"}, "estimator plain") == Plain(k=8, flag=True)
    assert describe(Plain)["pair"] == {"type": "tuple", "default": [1, 2], "summary": ""}
    with pytest.raises(UsageError, match="option 'k' is 'x'; it must be a whole number"):
        construct(Plain, {"k": "x"}, "estimator plain")
    with pytest.raises(UsageError, match="option 'pair' has no text form"):
        construct(Plain, {"pair": "1"}, "estimator plain")
    assert describe(WithoutDefault)["must"]["default"] is None
    with pytest.raises(UsageError, match="option 'must' has no default"):
        construct(WithoutDefault, {}, "estimator plain")


@given(value=st.one_of(st.floats(), st.integers(), st.text(max_size=8)))
def test_number_is_finite_and_within(value: Any) -> None:
    try:
        within = -2.0 <= float(str(value)) < 3.0  # false for NaN
    except ValueError:
        within = False
    if within:
        assert number("x", value, float, minimum=-2.0, below=3.0) == float(str(value))
    else:
        with pytest.raises(UsageError, match="it must be a finite number, at least -2, below 3"):
            number("x", value, float, minimum=-2.0, below=3.0)


def test_unknown_backend() -> None:
    with pytest.raises(UsageError, match=r"unknown backend 'jaxx'; did you mean 'jax'\?"):
        backends.get("jaxx")
    with pytest.raises(UsageError, match="computes on the CPU only"):
        backends.get("numpy", "cuda")


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_the_estimator_that_it_names(alias: str) -> None:
    assert alias not in {**ESTIMATORS, **CONTROLS}
    assert make_estimator(alias) == make_estimator(ALIASES[alias])


def test_an_alias_takes_more_options_and_contradicts_none() -> None:
    made: Any = make_estimator("reinforce[draws=sobol,baseline=mean]")
    assert spell(made.name, effective(made), type(made)) == "score-function[baseline=mean,draws=sobol]"
    assert make_estimator("stl[sticking-the-landing=true]") == make_estimator("pathwise[sticking-the-landing=true]")
    with pytest.raises(UsageError, match=r"rloo means score-function\[baseline=leave-one-out\]"):
        make_estimator("rloo[baseline=mean]")


@pytest.mark.parametrize("given", ["injected", "zzz", "x" * 1000])
def test_suggestions_are_five_at_most(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_estimator(given)
    named = str(caught.value).replace(f"'{given}'", "")
    assert named.count("'") <= 2 * 5
    assert sum(f" {name}" in named for name in (*ESTIMATORS, *CONTROLS)) <= 5
    assert str(caught.value).endswith("gradmeter list estimators")
