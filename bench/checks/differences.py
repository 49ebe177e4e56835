"""Numerical derivatives with error estimates, and their comparison with the derivatives that a class returns.

Central differences at halved steps are extrapolated to step 0 (Richardson; Ridders 1982), elementwise: the tableau
entry that changed least is used, and its change is its error. If a corner or a discontinuity lies within the steps, the
entries disagree or the function bends at the point itself. The error is then large, and nothing is concluded there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradmeter.bench.checks.findings import About, Finding, number

LEVELS = 12
#: Relative error at which halving stops.
ENOUGH = 1e-9
#: A mismatch exceeds this share of the numbers, plus this many errors of the numerical derivative, ...
RELATIVE, ERRORS = 1e-5, 30.0
#: ... at no fewer than this many points, in two rounds of points.
LEAST_POINTS = 2


def derivative(
    function: Callable[[float], np.ndarray], step: float = 0.1, levels: int = LEVELS
) -> tuple[np.ndarray, np.ndarray]:
    """Return d/dt function(t) at t = 0 and a bound on its error, elementwise.

    The error is infinite where no two differences are finite.

    Parameters
    ----------
    function
        t -> values.
    step
        Half-width of the widest difference.
    levels
        Largest number of differences, each half as wide as the one before.
    """
    before: list[np.ndarray] = []
    here, bends = function(0.0), []
    best = error = np.zeros(0)
    for level in range(levels):
        h = step * 0.5**level
        above, below = function(h), function(-h)
        rounding = 4.0 * np.finfo(np.float64).eps * (np.abs(above) + np.abs(below)) / h
        row = [(above - below) / (2.0 * h)]
        bends.append((above - 2.0 * here + below) / (2.0 * h))
        if level == 0:
            best, error = row[0], np.full(row[0].shape, np.inf)
        for order in range(1, level + 1):
            power = 4.0**order
            found = (power * row[-1] - before[order - 1]) / (power - 1.0)
            changed = np.maximum(np.abs(found - row[-1]), np.abs(found - before[order - 1])) + rounding
            better = changed < error  # never true for NaN
            best, error = np.where(better, found, best), np.where(better, changed, error)
            row.append(found)
        before = row
        if level > 2 and np.all(error <= ENOUGH * np.abs(best)):
            break
    return best, error + np.abs(2.0 * bends[-1] - bends[-2])  # a corner bends as much at half the step


@dataclass(frozen=True)
class Compared:
    """Numbers that a class returns, with reference values, at several points.

    Attributes
    ----------
    claimed, value, error : [points, entries]
        Returned numbers, reference values, and bounds on the errors of the latter.
    places : list of str
        Description of each point, such as `z = 0.3`.
    labels : list of str
        Description of each entry, such as ` of loc[1]`; empty text for a single entry.
    """

    claimed: np.ndarray
    value: np.ndarray
    error: np.ndarray
    places: list[str]
    labels: list[str] = field(default_factory=lambda: [""])

    def mismatches(self) -> np.ndarray:
        """Return where a number differs from its reference by more than the error allows [points, entries]."""
        known = np.isfinite(self.value) & np.isfinite(self.error)
        values = np.where(known, np.abs(self.value), 0.0)
        typical = np.median(values, axis=0) if len(values) else values
        claimed = np.where(np.isfinite(self.claimed), np.abs(self.claimed), 0.0)
        allowed = RELATIVE * np.maximum(values, claimed) + ERRORS * np.where(known, self.error, 0.0)
        away = np.where(known, np.abs(self.claimed - self.value), 0.0)
        return known & ~(away <= allowed + 1e-3 * RELATIVE * typical + 1e-13)

    @property
    def known(self) -> int:
        """The number of points at which every entry has a finite reference and error."""
        return int(np.sum(np.all(np.isfinite(self.value) & np.isfinite(self.error), axis=1)))


def compared(
    claimed: Any, value: Any, places: list[str], labels: list[str] | None = None, error: Any = None
) -> Compared:
    """Return the comparison of two arrays.

    Parameters
    ----------
    claimed
        What the class returns, [points] or [points, entries].
    value
        What is correct, of the same shape.
    places
        Description of every point.
    labels
        Description of every entry.
    error
        Bound on the error of `value`; exact up to rounding if absent.
    """
    claimed, value = (np.asarray(a, dtype=np.float64) for a in (claimed, value))
    if error is None:
        error = 1e-11 * np.maximum(np.abs(claimed), np.abs(value))
        error = np.where(np.isfinite(value), error, np.inf)
    rows = [np.reshape(a, (len(places), -1)) for a in (claimed, value, np.broadcast_to(error, value.shape))]
    return Compared(rows[0], rows[1], rows[2], places, [""] if labels is None else labels)


def of_columns(
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]], places: list[str], labels: list[str]
) -> Compared:
    """Return the comparison of several pairs of arrays, concatenated.

    Parameters
    ----------
    columns
        (claimed, value, error), each [points] or [points, more].
    places
        Description of every point.
    labels
        Description of every entry.
    """
    claimed, value, error = (
        np.concatenate([np.reshape(c, (len(places), -1)) for c in part], axis=1) for part in zip(*columns, strict=True)
    )
    return Compared(claimed, value, error, places, labels)


def verify(
    about: About, check: str, reference: str, remedy: str, attempt: Callable[[int], Compared], what: str | None = None
) -> Finding:
    """Compare in one round of points and, if numbers differ, in a second round at other points.

    Parameters
    ----------
    about
        What the finding is about.
    check : str
        The method checked; messages call its numbers `what`.
    reference : str
        Description of the reference value.
    remedy : str
        What the user should do.
    attempt : callable
        Round -> `Compared` at points of that round.
    what
        What messages call the numbers; the check's name if absent.
    """
    first = attempt(0)
    if first.known < LEAST_POINTS:
        return about.not_checked(
            check, f"{reference} is not known at the samples: it is not finite or not smooth there"
        )
    suspects = first.mismatches().sum(axis=0) >= LEAST_POINTS
    if not suspects.any():
        return about.ok(check)
    second = attempt(1)
    confirmed = suspects & (second.mismatches().sum(axis=0) >= LEAST_POINTS)
    if not confirmed.any():
        return about.ok(check)
    entry = int(np.argmax(confirmed))
    wrong = np.flatnonzero(first.mismatches()[:, entry])
    size = np.abs(first.value[wrong, entry])
    point = int(wrong[np.argsort(size)[len(size) // 2]])
    claimed, value = number(first.claimed[point, entry]), number(first.value[point, entry])
    label, place = first.labels[entry], first.places[point]
    return about.wrong(check, f"{what or check}{label} is {claimed} at {place}, but {reference} is {value}; {remedy}")
