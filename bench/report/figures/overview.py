"""Every estimator on every problem, relative to the best one there: the report in one picture."""

from __future__ import annotations

from gradmeter.bench.drawing.figure import Figure, Panel, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading.ratios import Ratio
from gradmeter.bench.report import reproduce
from gradmeter.bench.report.figures import rows
from gradmeter.bench.report.figures.rows import Line, Mark
from gradmeter.bench.report.ranking import Ranking

MOST_ROWS = 40


def figure(rankings: list[Ranking], styles: dict[str, Style], several_machines: bool) -> Figure | None:
    """Return the figure; None where no problem has two estimators to compare."""
    lines, members = [], []
    for ranking in rankings[:MOST_ROWS]:
        compared = []
        line = Line(ranking.problem + (f" {ranking.machine or '–'}" if several_machines else ""))
        best = ranking.best
        if best is None:
            continue
        cells = ranking.side_of(best)
        for estimator in dict.fromkeys(r.estimator for r in cells):
            result = next(r for r in cells if r.estimator == estimator)
            ratio = Ratio(1.0, 1.0, 1.0) if result is best else ranking.against_best(result)
            if ratio is not None:
                line.marks.append(Mark(ratio, styles[estimator]))
                compared.append(result)
        if len(line.marks) >= 2:
            lines.append(line)
            members += compared
    if not lines:
        return None
    timed = all(r.timed for r in rankings if r.ranked)
    what = "variance × seconds" if timed else "work-normalised variance"
    drawn = rows.panel(identifier("overview"), lines, f"{what}, relative to the best")
    caption = (
        f"{what.capitalize()} of each estimator at its best S, on the backend of the best one; further right is worse."
    )
    if any(r.best is not None and r.best["variance"] == 0.0 for r in rankings[:MOST_ROWS]):
        caption += " Problems whose best estimator has no variance have no place here."
    present = dict.fromkeys(r.estimator for r in members)
    panel = Panel(drawn, f"{what.capitalize()} of each estimator relative to the best, by problem, log scale")
    key = [(e, look) for e, look in styles.items() if e in present]
    every = len(lines) == len(rankings)
    title = "All problems at a glance" if every else f"{len(lines)} of {len(rankings)} problems at a glance"
    return Figure(title, caption, [panel], reproduce.commands(members), key)
