"""Calling methods of a class on its backend with NumPy arrays as arguments and results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.estimators import Noise, draw
from gradmeter.estimators.backends import get, missing
from gradmeter.estimators.errors import contained
from gradmeter.estimators.estimator import described
from gradmeter.estimators.noise import DrawnNoise, stream_root

Vectors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Effort:
    """Sample sizes of the checks.

    Attributes
    ----------
    points : int
        Samples at which derivatives are compared.
    entries : int
        Number of directions per parameter block in which derivatives are taken: single entries, or in a large block
        some entries and random directions.
    samples : int
        Independent samples that are compared with a density.
    average : int
        Points in each of the sets of a mean.
    seconds : float
        Approximate time limit of one mean.
    """

    points: int
    entries: int
    samples: int
    average: int
    seconds: float


#: Sizes before a measurement, and for the command `check`.
QUICK = Effort(points=16, entries=8, samples=2**13, average=2**9, seconds=0.2)
FULL = Effort(points=32, entries=24, samples=2**16, average=2**12, seconds=1.0)


class WrongType(TypeError):
    """A method returned something other than a floating-point array of the backend."""


class NoArray(WrongType):
    """A method returned something that is not an array of any framework."""


class Lab:
    """A backend in float64, with sample sizes and a seed."""

    def __init__(self, backend: str, effort: Effort, seed: int = 0) -> None:
        self.backend, self.effort, self.seed = get(backend), effort, seed

    def generator(self, *path: object) -> np.random.Generator:
        """Return a random generator for the purpose that `path` names."""
        return np.random.default_rng(stream_root("checks", self.seed, *path))

    def to_device(self, tree: Any) -> Any:
        """Convert NumPy arrays to the backend, floating-point numbers to float64."""
        if isinstance(tree, DrawnNoise):
            return tree.each(self.to_device)
        if isinstance(tree, Mapping):
            return {name: self.to_device(a) for name, a in tree.items()}
        if isinstance(tree, np.ndarray):
            return self.backend.asarray(tree, None if tree.dtype.kind in "iub" else "float64")
        return tree

    def to_numpy(self, tree: Any) -> Any:
        """Convert arrays of the backend to NumPy.

        Raises
        ------
        WrongType
            A result is of another framework, or not of float64.
        """
        if isinstance(tree, Mapping):
            return {name: self.to_numpy(a) for name, a in tree.items()}
        if isinstance(tree, tuple | list):
            return tuple(self.to_numpy(a) for a in tree)
        if isinstance(tree, int | float):
            return np.asarray(float(tree))
        if tree is None or type(tree).__module__ == "builtins":
            raise NoArray(f"the result is {described(tree)}; it must be an array of {self.backend.name}")
        if self.backend.name == "numpy" and not isinstance(tree, np.ndarray | np.generic):
            raise WrongType(f"the result is a {type(tree).__module__}.{type(tree).__name__} and no NumPy array")
        found = np.asarray(self.backend.to_numpy(tree))
        if found.dtype != np.float64:
            raise WrongType(f"the result is of {found.dtype} where float64 was given")
        return found

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function of the backend's arrays (and dicts of them) as one of NumPy arrays."""
        call = self.backend.compile_for_few_calls(function)

        def evaluate(*arguments: Any) -> Any:
            with np.errstate(all="ignore"):
                return self.to_numpy(call(*(self.to_device(a) for a in arguments)))

        return evaluate

    def draw(self, specs: Mapping[str, Noise], rows: int, *path: object) -> DrawnNoise:
        """Draw independent noise [rows, *shape] for the purpose that `path` names."""
        roots = {name: stream_root("checks", self.seed, *path, name) for name in specs}
        return draw(get("numpy"), specs, roots, 0, rows, "float64")

    def affordable(self, evaluate: Callable[[int], Any], most: int, times: float = 1.0) -> int:
        """Return the number of points: `most`, halved until `times` evaluations fit into the time limit.

        `evaluate` evaluates a given number of points once.
        """
        each, least = 1.0, 256
        for rows in (least, 16 * least):
            evaluate(rows)  # excludes work done once per shape
            start = time.process_time()
            evaluate(rows)
            taken = time.process_time() - start
            each = taken / rows
            if taken > 0.02 * self.effort.seconds:  # otherwise call overhead dominates
                break
        points = most
        while points > least and points * each * times > self.effort.seconds:
            points //= 2
        return points


def candidates(framework: str | None, preferred: str | None) -> list[str]:
    """Return the backends on which a class may work, in the order in which to try them."""
    if framework is not None:
        return [framework]
    others = [preferred] if preferred else ["torch", "jax"]
    return ["numpy", *(name for name in others if name != "numpy" and missing(name) is None)]


def lab_where(works: Callable[[Lab], Any], names: list[str], effort: Effort, seed: int) -> Lab:
    """Return a lab on the first backend on which `works` raises nothing; raise the first exception if all fail.

    Parameters
    ----------
    works
        Raises an exception if the lab does not suit.
    names
        Names of backends.
    effort
        How much is computed.
    seed
        Seed of all draws.
    """
    first: Exception | None = None
    for name in names:
        lab = Lab(name, effort, seed)
        try:
            with contained():
                works(lab)
        except Exception as error:  # any error that foreign arrays cause in a framework
            first = first or error
        else:
            return lab
    assert first is not None
    raise first
