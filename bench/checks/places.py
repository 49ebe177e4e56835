"""A family at given parameters and dimension, with its methods on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gradmeter.bench.checks.differences import Compared, derivative, of_columns
from gradmeter.bench.checks.findings import About, numbers
from gradmeter.bench.checks.lab import Lab, Vectors
from gradmeter.bench.forms.objects import WrongForm
from gradmeter.estimators import Family, UsageError
from gradmeter.estimators.estimator import described
from gradmeter.estimators.families.capabilities import Capable

#: Dimensions to try, and the random perturbation of parameters, which makes all coordinates different.
DIMENSIONS, MOVED = (3, 4, 2, 6, 5, 1, 8), 0.25


@dataclass(frozen=True, eq=False)
class Place:
    """A family at λ for z of D coordinates."""

    lab: Lab
    family: Capable
    dimension: int
    parameters: Vectors

    @property
    def about(self) -> About:
        return About("family", self.family.name)

    def draw(self, rows: int, *path: object) -> Vectors:
        """Draw the noise of samples [rows, *shape]."""
        return self.lab.draw(self.family.noise((), self.dimension), rows, "family", self.dimension, *path)

    @functools.cached_property
    def sample(self) -> Callable[[Vectors, Vectors], np.ndarray]:
        backend = self.lab.backend
        return self.lab.function(lambda parameters, noise: self.family.sample(backend, parameters, noise))

    @functools.cached_property
    def _calls(self) -> dict[str, Callable[..., Any]]:
        return {}

    def of_z(self, name: str) -> Callable[..., Any]:
        """Return a method as a function of (parameters, z, ...)."""
        if name not in self._calls:
            method, backend = getattr(self.family, name), self.lab.backend
            self._calls[name] = self.lab.function(lambda parameters, z, *more: method(backend, parameters, z, *more))
        return self._calls[name]

    @property
    def log_density(self) -> Callable[[Vectors, np.ndarray], np.ndarray]:
        return self.of_z("log_density")

    @property
    def score(self) -> Callable[[Vectors, np.ndarray], Vectors]:
        return self.of_z("score")

    @functools.cached_property
    def pathwise(self) -> Callable[..., Vectors]:
        """The pathwise derivative (λ, noise, z, cotangent) -> {block: array}."""
        family, backend = self.family, self.lab.backend
        return self.lab.function(lambda p, noise, z, c: family.pathwise(backend, p, noise, z, c))

    def require_blocks(self, name: str, found: Any) -> None:
        """Check that a method returned a dict of exactly the parameter blocks; raise WrongForm otherwise."""
        if not isinstance(found, dict):
            raise WrongForm(self.family, f"{name} returns a {described(found)}; it must return a dict {{block: array}}")
        if set(found) != set(self.parameters):
            raise WrongForm(
                self.family,
                f"{name} has blocks {sorted(found)} where they must be {sorted(self.parameters)}; mend {name}",
            )

    def samples(self, rows: int, *path: object) -> np.ndarray:
        """Draw z [rows, D]."""
        z: np.ndarray = self.sample(self.parameters, self.draw(rows, *path))
        return z

    def spread(self) -> np.ndarray:
        """Return the interquartile range of every coordinate [D], or 1 where it is 0."""
        low, high = np.nanquantile(self.samples(512, "spread"), [0.25, 0.75], axis=0)
        return np.where(np.isfinite(high - low) & (high > low), high - low, 1.0)

    def moved(self, block: str, direction: np.ndarray, t: float) -> Vectors:
        """Return λ with one block moved by t times a direction."""
        return {**self.parameters, block: self.parameters[block] + t * direction}

    def directions(self, block: str, *path: object) -> list[tuple[str, np.ndarray]]:
        """Return labelled directions in a block, along which derivatives are taken."""
        return directions(block, self.parameters[block].shape, self.lab, *path)


def directions(block: str, shape: tuple[int, ...], lab: Lab, *path: object) -> list[tuple[str, np.ndarray]]:
    """Return labelled directions: every entry of a block or, for a large block, some entries and random directions.

    Parameters
    ----------
    block
        Name of the parameter block.
    shape
        Its shape.
    lab
        Where the check computes.
    *path
        Parts of the name of the random stream.
    """
    size, most = int(np.prod(shape)), lab.effort.entries
    generator, found = lab.generator("directions", block, *path), []
    entries = range(size) if size <= most else sorted(generator.choice(size, most // 2, replace=False).tolist())
    for entry in entries:
        unit = np.zeros(size)
        unit[entry] = 1.0
        index = ", ".join(map(str, np.unravel_index(entry, shape)))
        label = f" of {block}" if size == 1 else f" of {block}[{index}]"
        found.append((label, unit.reshape(shape)))
    if size > most:
        for _ in range(most - most // 2):
            signs = generator.choice([-1.0, 1.0], shape) / np.sqrt(size)
            found.append((f" of {block} along a random direction", signs))
    return found


def labels_of(blocks: Vectors) -> list[str]:
    """Return a label for every entry of all blocks."""
    found = []
    for name, a in blocks.items():
        indices = [", ".join(map(str, i)) for i in np.ndindex(*a.shape)]
        found += [f" of {name}" if len(indices) == 1 else f" of {name}[{i}]" for i in indices]
    return found


def coordinate_labels(dimension: int) -> list[str]:
    """Return a label for every coordinate."""
    return [""] if dimension == 1 else [f"[{i}]" for i in range(dimension)]


def along_coordinates(
    lab: Lab,
    z: np.ndarray,
    spread: np.ndarray,
    given: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    *path: object,
) -> Compared:
    """Compare a gradient [points, D] with numerical derivatives in z, along every coordinate or random directions.

    Parameters
    ----------
    lab
        Where the check computes.
    z
        [points, D].
    spread
        Width of q in every coordinate [points, D].
    given
        The gradient that is checked [points, D].
    function
        z [points, D] -> values [points].
    *path
        Parts of the name of the random stream.
    """
    labels, columns = [], []
    for label, v in directions("z", z.shape[1:], lab, "coordinates", *path):
        step = v * spread
        size = np.abs(step).sum()
        labels.append(label.replace(" of z", "", 1))
        value, error = derivative(lambda t, step=step: function(z + t * step))  # type: ignore[misc]
        columns.append((given @ step / size, value / size, error / size))
    return of_columns(columns, places_of(z), labels)


def places_of(z: np.ndarray) -> list[str]:
    """Return `z = …` for every row."""
    return [f"z = {numbers(row)}" for row in z.reshape(len(z), -1)]


def found_place(lab: Lab, family: Family, point: Any = None, dimensions: tuple[int, ...] = DIMENSIONS) -> Place:
    """Return the family at perturbed parameters, in the first dimension that it accepts.

    The parameters are those of `point` or, without a point, zeros, plus a random perturbation.

    Parameters
    ----------
    lab
        Where the check computes.
    family
        The family that is checked.
    point
        A `FamilyConfig`, or None.
    dimensions
        Dimensions to try.

    Raises
    ------
    UsageError
        It accepts none of the dimensions.
    """
    reason = ""
    for dimension in dimensions:
        generator = lab.generator("place", dimension)
        try:
            if point is None:
                base = {name: np.zeros(shape) for name, shape in family.shapes(dimension).items()}
            else:
                point.check(dimension)
                base = {name: np.asarray(a, dtype=np.float64) for name, a in point.parameters(dimension).items()}
            shapes = {name: tuple(a.shape) for name, a in base.items()}
            if shapes != {name: tuple(shape) for name, shape in family.shapes(dimension).items()}:
                raise UsageError(
                    f"its point has parameters of shapes {shapes}, but `shapes` is {family.shapes(dimension)}"
                )
            moved = {name: a + MOVED * generator.standard_normal(a.shape) for name, a in base.items()}
            place = Place(lab, cast(Capable, family), dimension, moved)
            if np.all(np.isfinite(place.log_density(moved, place.samples(2, "try")))):
                return place
        except (UsageError, ValueError, IndexError, ZeroDivisionError) as error:
            reason = reason or str(error)
    raise UsageError(reason or "no log-density is finite at its samples")
