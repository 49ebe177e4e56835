"""Sentences on a fit's page that compare the evaluations that methods needed to reach the same objective."""

from __future__ import annotations

from gradmeter.bench.fit.figures import Reference
from gradmeter.bench.fit.run import Fit
from gradmeter.bench.reading.numbers import significant
from gradmeter.bench.rows import Row

#: Largest number of fits described in a sentence; the table and the figures show more.
MOST = 5
#: Distance from an exact method's objective, in nats, that counts as having reached it.
NEAR = 1.0


def evaluations_to(fit: Fit, objective: float) -> float | None:
    """Return the evaluations from which all logged objectives reach `objective`; None if the last does not."""
    found = None
    for r in reversed(_known(fit)):
        if r["objective"] < objective:
            break
        found = r["evaluations"]
    return found


def settled(fit: Fit) -> float:
    """Return the lowest of the last logged objectives, a level that noise alone no longer undercuts."""
    rows = _known(fit)
    return min(r["objective"] for r in rows[-max(3, len(rows) // 10) :])


def _known(fit: Fit) -> list[Row]:
    return [r for r in fit.rows if r["objective"] is not None]


def sentences(fits: dict[str, Fit], below: Reference | None) -> list[str]:
    """Return a sentence on the evaluations that gradient methods needed to reach a common objective.

    This is within a nat of the best exact method or, without one, the lowest level at which a fit settled.
    """
    working = {name: fit for name, fit in fits.items() if _known(fit) and fit.failed is None}
    followed = [name for name, fit in working.items() if fit.rows[0]["estimator"] is not None]
    exact = [name for name in working if name not in followed]
    if below is None or not 2 <= len(followed) <= MOST:
        return []
    if exact:
        best = max(exact, key=lambda name: settled(working[name]))
        level, within = settled(working[best]) - NEAR, f"{significant(NEAR)} of what {best} reached"
    else:
        level = min(map(settled, working.values()))
        within = f"{significant(below.value - level)} of {below.words.partition(',')[0]}"
    counts = {name: evaluations_to(fit, level) for name, fit in working.items()}
    arrived = sorted((name for name in followed if counts[name] is not None), key=lambda name: counts[name] or 0.0)
    fewest = counts[arrived[0]] if arrived else None
    if not fewest:  # none reached it, or one started there
        return []
    parts = [f"{arrived[0]} took {_count(fewest)} evaluations of f"]
    parts += [f"{name} {_count(counts[name])} ({significant((counts[name] or 0.0) / fewest)}×)" for name in arrived[1:]]
    parts += [f"{name} {_count(counts[name])}" for name in exact if counts[name] is not None]
    missed = [name for name in working if counts[name] is None]
    rest = f" {', '.join(missed)} never did." if missed else ""
    return [f"To come, and stay, within {within}, {', '.join(parts)}.{rest}"]


def _count(evaluations: float | None) -> str:
    return f"{evaluations:,.0f}" if evaluations is not None and evaluations >= 10 else significant(evaluations)
