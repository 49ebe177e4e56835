"""What a page says in words: how many more evaluations one method took than another to come as far."""

from __future__ import annotations

from bench.fit.figures import Reference
from bench.fit.run import Fit
from bench.report.numbers import significant
from bench.rows import Row

#: Beyond so many fits a sentence is no longer one; the table and the pictures say it.
MOST = 5


def evaluations_to(fit: Fit, objective: float) -> float | None:
    """Evaluations after which a logged objective was first that high; None if none ever was."""
    return next((r["evaluations"] for r in _known(fit) if r["objective"] >= objective), None)


def _known(fit: Fit) -> list[Row]:
    return [r for r in fit.rows if r["objective"] is not None]


def sentences(fits: dict[str, Fit], below: Reference | None) -> list[str]:
    """One about evaluations, where two fits or more got anywhere: to what all of them reached, against the fewest."""
    working = {name: fit for name, fit in fits.items() if _known(fit) and fit.failed is None}
    if below is None or not 2 <= len(working) <= MOST:
        return []
    level = min(max(r["objective"] for r in _known(fit)) for fit in working.values())
    counts = {name: evaluations_to(fit, level) or 0.0 for name, fit in working.items()}
    first, *others = sorted(counts, key=lambda name: counts[name])
    if not counts[first]:  # one of them began there
        return []
    parts = [f"{first} took {_count(counts[first])} evaluations of f"]
    parts += [f"{name} {_count(counts[name])} ({significant(counts[name] / counts[first])}×)" for name in others]
    what = below.words.partition(",")[0]
    return [f"To come within {significant(below.value - level)} of {what}, {', '.join(parts)}."]


def _count(evaluations: float) -> str:
    return f"{evaluations:,.0f}" if evaluations >= 10 else significant(evaluations)
