"""What a suite says about its own cells: claims to be judged, and regimes to be mapped.

paper = "Roeder, Wu & Duvenaud 2017, Sticking the Landing"

[[claim]]
says = "one sentence"
place = "section 3"                 # where the paper says so; optional
kind = "ratio"                      # one of KINDS; the keys of each kind are in `_KEYS`
of = { estimator = "pathwise[sticking-the-landing=true]", problem = ["banana[bend=0]"], samples = [1] }
to = { estimator = "pathwise" }     # what it leaves out is as in the cell of `of`
below = 1.0
explained = "why the claim is contradicted, from exact formulas"

[[claim]]
says = "a sentence about two fits"      # evaluations of f that `method` takes over those of `against`, to come and stay
kind = "fit"                        # within this part of the gain of `against`; for each of so many seeds
problem = "bayesian-gaussian-mixture[bound=mean-field]"
method = "svi"
against = "cavi"
within = 0.001
seeds = 5
below = 0.1

[[claim]]
says = "a sentence about data that are not here"
needs = "what it would take"
nearest = "the nearest thing that was measured"

[[regime]]
question = "When does sticking the landing win?"
problem = "banana"                  # without options
x = "scale"                         # options of the problem or the estimators, or `samples`
y = "dim"
by = "work"                         # what the winner has least of: `work`, or `error`, its mean squared error; optional
of = { estimator = ["pathwise", "pathwise[sticking-the-landing=true]"] }
boundary = 0.7071                   # the exact value of x where the winner changes; optional, with its formula
formula = "σ² = s²/2"
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradmeter.bench.cells import CHOICES, make_estimator, make_problem
from gradmeter.bench.rows import ALL
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.options import effective, spell

#: The kind of claim that rests on fits, not on cells.
FIT = "fit"
#: Further keys of each kind of claim; those of `_OPTIONAL` may be left out.
_KEYS = {
    "value": ("of", "column", "above", "below"),
    "ratio": ("of", "to", "column", "above", "below"),
    "slope": ("of", "column", "along", "above", "below"),
    "crossing": ("of", "to", "column", "along", "at"),
    "monotone": ("of", "column", "along", "direction"),
    "verdict": ("of", "verdict"),
    "zero": ("of",),
    FIT: ("problem", "method", "against", "within", "seeds", "above", "below"),
}
KINDS = tuple(_KEYS)
_OPTIONAL = ("column", "above", "below")
_COMMON = ("says", "place", "kind", "block", "explained")
_UNMEASURED = ("says", "place", "needs", "nearest")
_BOUNDED = ("value", "ratio", "slope", FIT)
#: Columns with an interval; `work` is variance × seconds, or variance × evaluations where nothing was timed.
CLAIMED = ("variance", "work", "snr", "bias")
_PAIRED = ("variance", "work")
_DIRECTIONS = ("rises", "falls")
_VERDICTS = ("unbiased", "biased")
_SELECTING = ("problem", "estimator", "backend", "samples")
_REGIME = ("question", "problem", "x", "y", "of", "by", "block", "boundary", "formula", "answer")
#: What the winner of a regime has least of.
CRITERIA = ("work", "error")


@dataclass(frozen=True)
class Selection:
    """Cells by column: `problem`, `estimator` and `backend` as text, `samples` as numbers; empty for any."""

    problem: tuple[str, ...] = ()
    estimator: tuple[str, ...] = ()
    backend: tuple[str, ...] = ()
    samples: tuple[int, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that it restricts."""
        return tuple(name for name in _SELECTING if getattr(self, name))


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, and how it is judged; the module's docstring has the form.

    Attributes
    ----------
    above, below : the interval within which the value, the ratio or the slope lies if the claim is true.
    at : the value of `along` at which the ratio of `of` to `to` crosses 1.
    problem, method, against, within, seeds : of a claim about fits; `seeds` is how many.
    needs, nearest : for a claim that cannot be measured here, what it would take, and the nearest thing measured.
    """

    says: str
    place: str = ""
    kind: str = ""
    of: Selection = field(default_factory=Selection)
    to: Selection = field(default_factory=Selection)
    block: str = ALL
    column: str = "variance"
    along: str = "samples"
    above: float = -math.inf
    below: float = math.inf
    at: float = math.nan
    direction: str = ""
    verdict: str = ""
    problem: str = ""
    method: str = ""
    against: str = ""
    within: float = math.nan
    seeds: int = 1
    explained: str = ""
    needs: str = ""
    nearest: str = ""


@dataclass(frozen=True)
class Regime:
    """A map of the best estimator over two axes.

    Attributes
    ----------
    problem : a name without options.
    x, y : options of the problem or of the estimators, or `samples`.
    by : `work` for the lowest variance × cost, `error` for the lowest mean squared error, ‖E ĝ − g‖² + variance.
    boundary, formula : the exact value of x at which the winner changes, and its formula; NaN and empty if unknown.
    answer : the question's answer in one sentence.
    """

    question: str
    problem: str
    x: str
    y: str
    of: Selection
    by: str = "work"
    block: str = ALL
    boundary: float = math.nan
    formula: str = ""
    answer: str = ""


def parse_claim(table: Any) -> Claim:
    """Return the claim of a `[[claim]]` table.

    Raises
    ------
    UsageError
        A key is missing or unknown, or has a value of the wrong kind.
    """
    says = _text(table, "says", "a claim") if isinstance(table, Mapping) else ""
    if not says:
        raise UsageError("a claim needs the key says, one sentence")
    if "needs" in table:
        _check_keys(table, _UNMEASURED, "a claim with needs")
        unmeasured: dict[str, Any] = {key: _text(table, key, "a claim") for key in table}
        return Claim(**unmeasured)
    kind = _text(table, "kind", "a claim")
    if kind not in KINDS:
        raise unknown("kind of claim", kind, KINDS)
    own = _KEYS[kind]
    _check_keys(table, (*_COMMON, *own), f"a claim of kind {kind}")
    missing = [key for key in own if key not in table and key not in _OPTIONAL]
    if missing:
        raise UsageError(f"a claim of kind {kind} needs the key {missing[0]}")
    if kind in _BOUNDED and "above" not in table and "below" not in table:
        raise UsageError(f"a claim of kind {kind} needs above, below or both")
    return Claim(**{key: _claimed(kind, key, value) for key, value in table.items()})


def _claimed(kind: str, key: str, value: Any) -> Any:
    if key in ("of", "to"):
        return _selection(value, key)
    if key in ("above", "below", "at", "within"):
        return _number(value, key, "a claim")
    if key == "seeds":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError("seeds of a claim must be a whole number of at least 1")
        return value
    text = _text({key: value}, key, "a claim")
    columns = _PAIRED if kind in ("ratio", "crossing") else CLAIMED
    choices = {"column": columns, "direction": _DIRECTIONS, "verdict": _VERDICTS}.get(key)
    if choices is not None and text not in choices:
        raise unknown(f"{key} of a claim of kind {kind}", text, choices)
    return text


def parse_regime(table: Any) -> Regime:
    """Return the regime of a `[[regime]]` table; see `parse_claim` for errors."""
    if not isinstance(table, Mapping):
        raise UsageError("a regime must be a table")
    _check_keys(table, _REGIME, "a regime")
    for key in ("question", "problem", "x", "y", "of"):
        if key not in table:
            raise UsageError(f"a regime needs the key {key}")
    return Regime(**{key: _of_regime(key, value) for key, value in table.items()})


def _of_regime(key: str, value: Any) -> Any:
    if key == "of":
        return _selection(value, key)
    if key == "boundary":
        return _number(value, key, "a regime")
    text = _text({key: value}, key, "a regime")
    if key == "by" and text not in CRITERIA:
        raise unknown("by of a regime", text, CRITERIA)
    return text


def _selection(table: Any, name: str) -> Selection:
    """Return a selection whose names are spelled as the rows of a store spell them."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{name} must be a table of {', '.join(_SELECTING)}")
    _check_keys(table, _SELECTING, name)
    values: dict[str, tuple[Any, ...]] = {}
    for key, value in table.items():
        kind = int if key == "samples" else str
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(v, kind) and not isinstance(v, bool) for v in listed):
            raise UsageError(f"{key} of {name} must be {'whole numbers' if kind is int else 'names'}")
        values[key] = tuple(_spelled(key, v) for v in listed)
    return Selection(**values)


def _spelled(key: str, value: Any) -> Any:
    if key == "backend" and value not in CHOICES["backend"]:
        raise unknown("backend", value, CHOICES["backend"])
    if key not in ("problem", "estimator"):
        return value
    return spelled(make_problem(value) if key == "problem" else make_estimator(value))


def spelled(made: Any) -> str:
    """Return `name[k=v]` of a problem or an estimator as the rows of a store spell it."""
    return spell(made.name, effective(made), type(made))


def _number(value: Any, key: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} of {what} must be a number")
    return float(value)


def _text(table: Mapping[str, Any], key: str, what: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{key} of {what} must be a text")
    return value


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in table:
        if key not in known:
            raise unknown(f"key of {what}", key, known)
