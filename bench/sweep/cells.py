"""Cells: what is measured, described well enough to be hashed, and grids of them."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradmeter.bench import identity
from gradmeter.bench.controls import CONTROLS
from gradmeter.bench.forms import require_form
from gradmeter.bench.problems import PROBLEMS, Problem
from gradmeter.estimators import ESTIMATORS, Estimator, NotApplicable, UsageError
from gradmeter.estimators.aliases import ALIASES, resolve
from gradmeter.estimators.backends import missing
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.options import construct, effective, number, parse, spell

DTYPES = ("float64", "float32")
NOISES = ("native", "shared")
#: The fewest replicates that make the groups a verdict compares.
FEWEST = 64


@dataclass(frozen=True)
class Goals:
    """When a cell has been measured well enough.

    Attributes
    ----------
    precision : half-width of log variance at 95 % that every parameter block must reach.
    bias_bound : certified relative bias to reach.
    max_replicates : the most replicates drawn for the verdict, pilot and confirmation included; at least 64.
    """

    precision: float = 0.05
    bias_bound: float = 0.01
    max_replicates: int = 2**20

    def __post_init__(self) -> None:
        checked = {
            "precision": number("precision", self.precision, above=0.0),
            "bias_bound": number("bias bound", self.bias_bound, above=0.0),
            "max_replicates": number("max replicates", self.max_replicates, int, minimum=1),
        }
        if checked["max_replicates"] < FEWEST:
            raise UsageError(
                f"max replicates is {checked['max_replicates']}; it must be at least {FEWEST}: the verdict compares "
                f"{FEWEST} groups of replicates"
            )
        if checked["bias_bound"] >= 1.0:
            raise UsageError(f"bias bound is {self.bias_bound}; it is a part of the gradient, below 1: 0.01 for 1 %")
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # text becomes a number


@dataclass(frozen=True)
class Cell:
    """problem × estimator × backend × device × dtype × S × seed × noise source, and the goals."""

    problem: Problem
    estimator: Estimator
    backend: str = "numpy"
    device: str = "cpu"
    dtype: str = "float64"
    num_samples: int = 1
    seed: int = 0
    noise: str = "native"
    goals: Goals = Goals()

    def description(self) -> dict[str, Any]:
        """The columns that say which cell, as plain values."""
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
    def _content(self) -> list[str] | identity.Unhashable:
        """Digests of the problem and the estimator, or why there are none."""
        try:
            return [identity.digest(self.problem, "problem"), identity.digest(self.estimator, "estimator")]
        except identity.Unhashable as error:
            return error

    @property
    def not_stored(self) -> str | None:
        """Why the cell's results cannot be kept for an equal one, or None."""
        return f"not stored: {self._content}" if isinstance(self._content, identity.Unhashable) else None

    @property
    def content(self) -> dict[str, str] | None:
        """What tells a user's objects of one name apart: a digest by `problem` and `estimator`, of those that are none
        of the catalogue or read a file; None where there are none, or an object has no content."""
        if isinstance(self._content, identity.Unhashable):
            return None
        problem, estimator = self._content
        read = self.problem.content()
        if read is not None:
            problem = hashlib.sha256(f"{problem} {read}".encode()).hexdigest()
        found = {"problem": problem} if read is not None or identity.brought(self.problem) else {}
        found |= {"estimator": estimator} if identity.brought(self.estimator) else {}
        return found or None

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of the description, the goals, the content of problem and estimator and the sources that measure.

        Cells that compute the same thing have one key, in any process; a cell without content is equal to itself alone.
        """
        content = [uuid.uuid4().hex] if isinstance(self._content, identity.Unhashable) else self._content
        sources = [source_hash(), self.problem.content(), *content]
        described = {**self.description(), "goals": effective(self.goals), "sources": sources}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def label(self) -> str:
        """A short text for people."""
        problem = spell(self.problem.name, effective(self.problem), type(self.problem))
        estimator = spell(self.estimator.name, effective(self.estimator), type(self.estimator))
        return f"{problem} · {estimator} · {self.backend} · S={self.num_samples}"

    def impossible(self) -> str | None:
        """Why this cell cannot be measured, or None; imports no framework."""
        reason = missing(self.backend)
        if reason:
            return reason
        if self.problem.framework not in (None, self.backend):
            return f"problem {self.problem.name} is written in {self.problem.framework}; use that backend"
        if self.backend == "numpy" and self.device != "cpu":
            return "backend 'numpy' computes on the CPU only; use --device cpu"
        if self.device == "cuda":
            from gradmeter.estimators.backends import get

            try:
                get(self.backend, self.device)
            except UsageError as error:
                return str(error)
        requires = self.estimator.requirements(self.problem.entropy)
        if requires.integrand and self.backend == "numpy" and self.problem.differentiate == "autodiff":
            return "differentiate=autodiff needs the torch or jax backend; NumPy cannot differentiate"
        try:
            problem = self.problem
            self.estimator.check(
                problem.family,
                problem.entropy,
                self.num_samples,
                problem.dimension,
                problem.lacks,
                problem.importance_samples,
            )
        except NotApplicable as error:
            return str(error)
        if requires.inputs and not self.problem.draws_inputs:
            return (
                "an input-dependent baseline needs an input that varies, and none does here; give the problem a batch"
            )
        from gradmeter.bench.measurement.representable import unrepresentable

        return unrepresentable(
            problem.q, self.estimator, problem.entropy, problem.q_dimension, self.dtype, problem.distances
        )


@functools.cache
def source_hash() -> str:
    """Hash of the source files on which a measured number depends."""
    digest = hashlib.sha256()
    for package, folders in (("estimators", ("",)), ("bench", ("optimisation", "problems", "measurement", "controls"))):
        spec = importlib.util.find_spec(f"gradmeter.{package}")
        root = Path(str(spec and spec.origin)).parent
        for path in sorted(p for folder in folders for p in (root / folder).rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def make_problem(text: str, fitted: bool = False) -> Problem:
    """A problem from `name[k=v,...]`; `fitted`, with what a fit takes where nothing is said."""
    name, given = parse(text, "problem")
    if name not in PROBLEMS:
        raise unknown("problem", name, PROBLEMS, "gradmeter list problems")
    given = dict(PROBLEMS[name].fitted_options(given)) if fitted else given
    problem = construct(PROBLEMS[name], given, f"problem {name}")
    try:
        problem.check()
    except OverflowError:
        raise UsageError(f"problem '{text}' overflows; give less extreme options") from None
    return problem


def make_estimator(text: str) -> Estimator:
    """An estimator, or a planted bug, from `name[k=v,...]`, where the name may be an alias."""
    name, given = resolve(*parse(text, "estimator"))
    known = {**ESTIMATORS, **CONTROLS}
    if name not in known:
        raise unknown("estimator", name, known, "gradmeter list estimators", ALIASES)
    return construct(known[name], given, f"estimator {name}")


def check_samples(what: str, value: Any) -> int:
    return int(number(what, value, int, minimum=1, maximum=1_000_000))


def check_seed(what: str, value: Any) -> int:
    return int(number(what, value, int, minimum=0, maximum=2**63 - 1))


def check_choice(kind: str, value: str, choices: Iterable[str]) -> str:
    if value not in choices:
        raise unknown(kind, value, choices)
    return value


def grid(
    problems: Iterable[Problem],
    estimators: Iterable[Estimator],
    backends: Iterable[str] = ("numpy",),
    devices: Iterable[str] = ("cpu",),
    dtypes: Iterable[str] = ("float64",),
    samples: Iterable[int] = (),
    seeds: Iterable[int] = (0,),
    noise: str = "native",
    goals: Goals | None = None,
) -> list[Cell]:
    """Every combination, problems outermost. Without `samples`, each estimator gets the least S it works with.

    Raises
    ------
    UsageError
        A problem or an estimator is none, or an object of a user's has not the form of one.
    """
    problems, estimators = list(problems), list(estimators)
    for things, kind in ((problems, Problem), (estimators, Estimator)):
        for thing in things:
            require_form(thing, kind)
    axes = itertools.product(problems, estimators, backends, devices, dtypes, tuple(samples) or (None,), seeds)
    return [
        Cell(
            problem,
            estimator,
            backend,
            device,
            dtype,
            estimator.smallest_num_samples() if size is None else size,
            seed,
            noise,
            goals or Goals(),
        )
        for problem, estimator, backend, device, dtype, size, seed in axes
    ]
