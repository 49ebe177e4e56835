"""Cells, the units that are measured, with a description that identifies them; and grids of cells."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import uuid
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from gradmeter.bench.controls import CONTROLS
from gradmeter.bench.forms.objects import require_form
from gradmeter.bench.identity.content import Unhashable, digest
from gradmeter.bench.identity.owner import brought
from gradmeter.bench.problems import PROBLEMS, Problem
from gradmeter.bench.sources import source_hash
from gradmeter.estimators import ESTIMATORS, Estimator, UsageError, backends
from gradmeter.estimators.aliases import ALIASES, resolve, usual_spelling
from gradmeter.estimators.errors import short, unknown
from gradmeter.estimators.options import construct, effective, number, parse, spell

NOISES = ("native", "shared")
#: The axes of a grid whose values are names, and those whose values are numbers with a minimum and a maximum.
CHOICES = {"backend": backends.NAMES, "device": backends.DEVICES, "dtype": ("float64", "float32")}
NUMBERS = {"samples": (1, 1_000_000), "seed": (0, 2**63 - 1)}
#: Fewest replicates, one for each group that a verdict compares.
FEWEST = 64
#: Most cells of a grid or a suite, which is planned in seconds.
MOST_CELLS = 1_000_000


@dataclass(frozen=True)
class StoppingCriteria:
    """Stopping criteria: when a cell has been measured well enough.

    Attributes
    ----------
    precision
        Half-width of the 95 % interval of log variance that every parameter block must reach.
    bias_bound
        Certified relative bias to reach.
    max_replicates
        The most replicates drawn for the verdict, including pilot and confirmation; at least 64.
    """

    precision: float = 0.05
    bias_bound: float = 0.01
    max_replicates: int = 2**20

    def __post_init__(self) -> None:
        checked = {
            "precision": number("precision", self.precision, above=0.0),
            "bias_bound": number("bias bound", self.bias_bound, above=0.0),
            "max_replicates": number("max replicates", self.max_replicates, int, minimum=FEWEST),
        }
        if checked["bias_bound"] >= 1.0:
            raise UsageError(f"bias bound is {self.bias_bound}; it is a part of the gradient, below 1: 0.01 for 1 %")
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # text becomes a number


@dataclass(frozen=True)
class Cell:
    """One cell: problem × estimator × backend × device × dtype × S × seed × noise source, with stopping criteria.

    `stop_at` is a number of replicates at which a budget of time ends the measurement, below the cap of the criteria.
    """

    problem: Problem
    estimator: Estimator
    backend: str = "numpy"
    device: str = "cpu"
    dtype: str = "float64"
    num_samples: int = 1
    seed: int = 0
    noise: str = "native"
    goals: StoppingCriteria = StoppingCriteria()
    stop_at: int | None = None

    def description(self) -> dict[str, Any]:
        """Return the columns that identify the cell, as plain values."""
        return {
            "problem": self.problem.name,
            "problem_options": effective(self.problem),
            "dimension": self.problem.dimension,
            "family": self.problem.family.name,
            "estimator": self.estimator.name,
            "estimator_options": effective(self.estimator),
            "backend": self.backend,
            "device": self.device,
            "dtype": self.dtype,
            "num_samples": self.num_samples,
            "seed": self.seed,
            "noise": self.noise,
        }

    @functools.cached_property
    def _content(self) -> list[str] | Unhashable:
        """Digests of the problem and the estimator, or the error that says why there are none."""
        try:
            return [digest(self.problem, "problem"), digest(self.estimator, "estimator")]
        except Unhashable as error:
            return error

    @property
    def not_stored(self) -> str | None:
        """Why the cell's results cannot be stored for an equal cell, or None."""
        return f"not stored: {self._content}" if isinstance(self._content, Unhashable) else None

    @functools.cached_property
    def content(self) -> dict[str, str] | None:
        """Digests that distinguish a user's objects of one name, by `problem` and `estimator`.

        There is a digest for each object that is not of the catalogue, or that reads a file. None if there is no such
        object, or if the content of an object cannot be hashed.
        """
        if isinstance(self._content, Unhashable):
            return None
        problem, estimator = self._content
        read = self.problem.content()
        if read is not None:
            problem = hashlib.sha256(f"{problem} {read}".encode()).hexdigest()
        found = {"problem": problem} if read is not None or brought(self.problem) else {}
        found |= {"estimator": estimator} if brought(self.estimator) else {}
        return found or None

    @property
    def preparation_key(self) -> Hashable | None:
        """Key of all that a prepared cell depends on; None where a part is the user's, or data are read."""
        if self.content is not None or isinstance(self._content, Unhashable):
            return None
        cap = self.goals.max_replicates
        return (*self._content, self.backend, self.device, self.dtype, self.num_samples, self.seed, self.noise, cap)

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of the description, the criteria, the content of problem and estimator and the measuring sources.

        Cells that compute the same thing have the same key in any process. A cell whose content cannot be hashed is
        equal only to itself.
        """
        content = [uuid.uuid4().hex] if isinstance(self._content, Unhashable) else self._content
        sources = [source_hash(), self.problem.content(), *content]
        described = {**self.description(), "goals": effective(self.goals), "sources": sources}
        described |= {} if self.stop_at is None else {"stop_at": self.stop_at}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def label(self) -> str:
        """Return a short text that names the cell."""
        problem = spell(self.problem.name, effective(self.problem), type(self.problem))
        estimator = spell(self.estimator.name, effective(self.estimator), type(self.estimator))
        return f"{problem} · {estimator} · {self.backend} · S={self.num_samples}"


def make_problem(text: str, fitted: bool = False) -> Problem:
    """Make a problem from `name[k=v,...]`.

    Parameters
    ----------
    fitted
        Whether to use the defaults of a fit for options that are not given.

    Raises
    ------
    UsageError
        The name or an option is unknown, or the problem overflows.
    """
    name, given = parse(text, "problem")
    try:
        cls = PROBLEMS[name]
    except KeyError:
        raise unknown("problem", name, PROBLEMS.names(), "gradmeter list problems") from None
    given = dict(cls.fitted_options(given)) if fitted else given
    try:
        return _made(cls, tuple(given.items()), f"problem {name}")
    except OverflowError:
        raise UsageError(f"problem '{short(text)}' overflows; give less extreme options") from None


def make_estimator(text: str) -> Estimator:
    """Make an estimator, or a control (an estimator with an injected bug), from `name[k=v,...]` or an alias."""
    name, given = resolve(*parse(text, "estimator"))
    if name not in CONTROLS and name not in ESTIMATORS and usual_spelling(name) in ESTIMATORS:
        name = usual_spelling(name)
    try:
        cls = CONTROLS[name] if name in CONTROLS else ESTIMATORS[name]
    except KeyError:
        everything = [*ESTIMATORS.names(), *CONTROLS]
        raise unknown("estimator", name, everything, "gradmeter list estimators", ALIASES) from None
    return _made(cls, tuple(given.items()), f"estimator {name}")


@functools.lru_cache(maxsize=1024)
def _made(cls: Any, given: tuple[tuple[str, str], ...], what: str) -> Any:
    """Make an object of the catalogue from its options as text; it is immutable, so equal texts share one."""
    made = construct(cls, dict(given), what)
    if isinstance(made, Problem):
        made.check()
    return made


def check_choice(kind: str, value: str, choices: Iterable[str]) -> str:
    """Return a value, after checking that it is among the choices.

    Parameters
    ----------
    kind
        What is chosen, for the message.
    value
        The value.
    choices
        All choices.

    Raises
    ------
    UsageError
        It is none of them.
    """
    if value not in choices:
        raise unknown(kind, str(value), choices)
    return value


def values_of(axis: str, given: Any, option: str = "") -> list[Any]:
    """Return the values of one axis of a grid, checked, with names as objects.

    Parameters
    ----------
    axis
        `problem`, `estimator`, `backend`, `device`, `dtype`, `samples` or `seed`.
    given
        One value or several.
    option
        The name of the axis in error messages about numbers, if it has another one.

    Raises
    ------
    UsageError
        A value is not one of the axis.
    """
    values = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if axis in CHOICES:
        return [check_choice(axis, value, CHOICES[axis]) for value in values]
    if axis in NUMBERS:
        return [int(number(option or axis, value, int, *NUMBERS[axis])) for value in values]
    make: Callable[[str], Any] = make_problem if axis == "problem" else make_estimator
    return [make(value) if isinstance(value, str) else value for value in values]


def grid(
    problem: Iterable[Problem],
    estimator: Iterable[Estimator],
    backend: Iterable[str] = (),
    device: Iterable[str] = (),
    dtype: Iterable[str] = (),
    samples: Iterable[int] = (),
    seed: Iterable[int] = (),
    noise: str = "native",
    goals: StoppingCriteria | None = None,
) -> list[Cell]:
    """Return a cell for every combination, problems outermost.

    Parameters
    ----------
    problem
        Problems.
    estimator
        Estimators.
    backend, device, dtype, seed
        Their values; if empty, the default of a cell.
    samples
        Values of S; if empty, each estimator gets the least S it works with.
    noise
        `native` or `shared`.
    goals
        When to stop drawing replicates; None for the defaults.

    Raises
    ------
    UsageError
        A problem or an estimator is none, a user's object does not have the required form, or the cells are too many.
    """
    problem, estimator = list(problem), list(estimator)
    for things, kind in ((problem, Problem), (estimator, Estimator)):
        for thing in things:
            require_form(thing, kind)
    given = ((backend, Cell.backend), (device, Cell.device), (dtype, Cell.dtype), (samples, None), (seed, Cell.seed))
    axes: list[tuple[Any, ...]] = [tuple(problem), tuple(estimator)]
    axes += [tuple(values) or (default,) for values, default in given]
    check_size(math.prod(map(len, axes)))
    return [
        Cell(p, e, b, d, t, e.smallest_num_samples() if size is None else size, s, noise, goals or StoppingCriteria())
        for p, e, b, d, t, size, s in itertools.product(*axes)
    ]


def check_size(cells: int) -> None:
    """Check that cells are not too many to be planned."""
    if cells > MOST_CELLS:
        raise UsageError(f"these are {cells:,} cells; at most {MOST_CELLS:,} can be planned at once, so split the grid")
