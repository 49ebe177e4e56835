"""Figures of fits: distance of the objective below the best value against cost, and gradient variance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradmeter.bench.drawing import curves
from gradmeter.bench.drawing.curves import Curve
from gradmeter.bench.drawing.figure import Figure, Panel, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.fit.objective import objective
from gradmeter.bench.fit.run import Fit
from gradmeter.bench.optimisation.method import Objective
from gradmeter.bench.reading.numbers import seconds, significant
from gradmeter.bench.rows import Row
from gradmeter.estimators import UsageError

#: A value and the ends of its interval, if any.
Interval = tuple[float, float | None, float | None]
#: Approximate number of markers on a curve.
MARKED = 8
MOST_BLOCKS = 3
#: Relative distances from the reference below this are rounding, and are not drawn.
ROUNDING = 1e-10
#: Left margin for numbers of seven digits.
WIDE = 76.0
COSTS = {"iteration": "iterations", "evaluations": "evaluations of f", "seconds": "seconds in steps"}


@dataclass(frozen=True)
class Reference:
    """The value from which objectives are measured, and its description."""

    value: float
    words: str


def reference(fits: list[Fit]) -> Reference | None:
    """Return the exact maximum if the problem knows it, else the highest objective that any fit reached."""
    reached = [r["objective"] for fit in fits for r in fit.rows if r["objective"] is not None]
    if not reached:
        return None
    problem = fits[0].plan.problem
    try:
        optimum = problem.optimum()
    except UsageError:  # found by iteration, which may not converge
        optimum = None
    if optimum is not None:
        found: Objective = objective(problem, optimum)
        if found.standard_error is None and found.value >= max(reached) - 1e-9 * max(1.0, abs(found.value)):
            return Reference(found.value, f"the exact maximum, {level(found.value)}")
    return Reference(max(reached), f"the highest that any of them reached, {level(max(reached))}")


def level(value: float | None) -> str:
    """Format an objective to a thousandth if it is short enough, since differences between objectives matter."""
    if value is None or not abs(value) < 1e6:
        return significant(value)
    return f"{value:,.3f}".replace("-", "−")


def estimate(value: float | None, error: float | None) -> str:
    """Format an objective with half the width of its 95 % interval, if it has one."""
    return level(value) + (f" ± {significant(1.96 * error, 2)}" if error else "")


def objectives(fits: dict[str, Fit], styles: dict[str, Style], below: Reference, command: str) -> Figure | None:
    """Draw the distance below the reference against iterations, evaluations and seconds, each log-log."""
    panels: list[Panel] = []
    key: dict[str, Style] = {}
    for column, words in COSTS.items():
        found = [curve_of(name, styles[name], fit, column, _gap(below)) for name, fit in fits.items()]
        found = [curve for curve in found if curve.x]
        if not found:
            return None
        drawn, unlabelled = curves.panel(
            identifier("fit", column, *fits),
            found,
            "",
            words,
            "below the maximum",
            log_x=True,
            named=column == "seconds",
            left=WIDE,
            write_x=seconds if column == "seconds" else significant,
        )
        panels.append(Panel(drawn, f"Distance of the objective below its maximum against {words}, log-log"))
        key |= {curve.label: curve.look for curve in unlabelled}
    errors = [r["objective_error"] for fit in fits.values() for r in fit.rows if r["objective_error"]]
    caption = f"How far the objective is below {below.words}; both axes are logarithmic, so the start is left out."
    if errors:
        caption += (
            f" Objectives are estimates on the same noise at every λ, the last with a standard error of "
            f"{significant(errors[-1], 2)}: differences between them are closer than that."
        )
    caption += " Seconds are those of the steps alone: compiling, logging and measuring are left out."
    return Figure("What the fit costs", caption, panels, command, list(key.items()))


def _gap(below: Reference) -> Callable[[Row], Interval | None]:
    def gap(r: Row) -> Interval | None:
        distance = 0.0 if r["objective"] is None else below.value - r["objective"]
        return (distance, None, None) if distance > ROUNDING * max(1.0, abs(below.value)) else None

    return gap


def variances(fits: dict[str, Fit], styles: dict[str, Style], command: str) -> Figure | None:
    """Draw the variance of one estimate along the path: of all parameters, and of each block or group of blocks.

    With many blocks, a group is a network. Return None if no variance was measured.
    """
    measured = [r for fit in fits.values() for r in fit.rows if r["variances"]]
    if not measured:
        return None
    groups = grouped(list(measured[0]["variances"]))
    panels: list[Panel] = []
    key: dict[str, Style] = {}
    shown = ("all", *(groups if 1 < len(groups) <= MOST_BLOCKS else ()))
    for block in shown:
        read = _spread(groups.get(block, []))
        found = [curve_of(name, styles[name], fit, "iteration", read, marked=1) for name, fit in fits.items()]
        found = [curve for curve in found if curve.x]
        if not found:
            continue
        drawn, unlabelled = curves.panel(
            identifier("fit-variance", block, *fits),
            found,
            "all parameters" if block == "all" else block,
            "iterations",
            "variance",
            log_x=True,
            named=block == shown[-1],
            left=WIDE,
        )
        panels.append(Panel(drawn, f"Variance of one estimate of {block} against iterations, log-log"))
        key |= {curve.label: curve.look for curve in unlabelled}
    if not panels:
        return None
    caption = (
        f"Measured where the fit was at that iteration, over {measured[0]['replicates']:,} replicates of their own, "
        "each an estimate as one step takes it; bars are 95 % intervals. It is the variance of each method's own path."
    )
    return Figure("The gradient's variance along the path", caption, panels, command, list(key.items()))


def grouped(blocks: list[str]) -> dict[str, list[str]]:
    """Group blocks for display: each alone or, if there are many, the layers of a network together."""
    if len(blocks) <= MOST_BLOCKS:
        return {block: [block] for block in blocks}
    found: dict[str, list[str]] = {}
    for block in blocks:
        found.setdefault(block.partition(".")[0], []).append(block)
    return found


def _spread(blocks: list[str]) -> Callable[[Row], Interval | None]:
    """Return a function row -> joint variance of these blocks, the sum of theirs; without blocks, the total."""

    def spread(r: Row) -> Interval | None:
        if not r["variances"]:
            return None
        if not blocks:
            return r["variance"], r["variance_low"], r["variance_high"]
        if any(r["variances"][block] is None for block in blocks):
            return None
        return sum(r["variances"][block] for block in blocks), None, None

    return spread


def curve_of(
    name: str,
    look: Style,
    fit: Fit,
    column: str,
    read: Callable[[Row], Interval | None],
    marked: int = 0,
) -> Curve:
    """Return the curve of `read` (row -> value and interval, or None) over the rows where `column` is above 0.

    Parameters
    ----------
    name
        Name at the end of the curve.
    look
        Colour and marker.
    fit
        The fit.
    column
        Column of the rows that is x.
    read
        Row -> value and interval, or None.
    marked
        Every how many points there is a marker; if 0, few enough markers for the length of the curve.
    """
    curve = Curve(name, look)
    for r in fit.rows:
        found = read(r) if r["status"] == "ok" and r[column] else None
        if found is not None:
            curve.add(float(r[column]), *found)
    curve.marked = marked or max(1, len(curve.x) // MARKED)
    return curve
