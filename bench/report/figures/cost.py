"""Cost against variance: a point a cell, and the frontier that no other cell beats on both."""

from __future__ import annotations

import itertools
from typing import Any

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.curves import FURTHEST
from gradmeter.bench.drawing.figure import Figure, Panel, fill, fill_words, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.results import Result
from gradmeter.bench.report import label_layout, reproduce
from gradmeter.bench.report.ranking import Ranking

WIDTH, HEIGHT = 575.0, 400.0


def figure(ranking: Ranking, styles: dict[str, Style]) -> Figure | None:
    """Return the figure of variance against cost; None where there is nothing to compare.

    That is where fewer than two estimators or values of S have a variance and a cost, or all cost the same.
    """
    column = "seconds" if ranking.timed else "evaluations"
    shown = [r for r in (*ranking.ranked, *ranking.unranked) if r["variance"] and r[column]]
    kinds = {(r.estimator, r["num_samples"]) for r in shown}
    if len(kinds) < 2 or len({r[column] for r in shown}) < 2:
        return None
    name = identifier("cost", ranking.problem, ranking.machine)
    drawn, key = _panel(name, shown, column, styles)
    allowed = {id(r) for r in ranking.ranked}
    left_out = sum(1 for r in shown if id(r) not in allowed)
    what = "Seconds" if ranking.timed else "Integrand evaluations"
    caption = (
        f"{what} an estimate against its variance, one marker a cell, with 95 % intervals. The stepped line is the "
        "frontier: no cell lies below and to the left of it. Along a dotted line the product is the same."
        + fill_words(shown)
    )
    if left_out:
        caption += " Biased cells, and those that could not be ranked, are drawn faint and are not on the frontier."
    panel = Panel(drawn, f"{what} against variance, log-log, {len(shown)} cells")
    return Figure("Cost against variance", caption, [panel], reproduce.commands(shown), key)


def frontier(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points of the Pareto frontier, by ascending first coordinate.

    No other point is at most as large as one of them in both coordinates.
    """
    best: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not best or y < best[-1][1]:
            best.append((x, y))
    return best


def _panel(
    name: str, shown: list[Result], column: str, styles: dict[str, Style]
) -> tuple[str, list[tuple[str, Style]]]:
    figure, axes = plotting.panel(WIDTH, HEIGHT, 80.0, 14.0, top=12.0)
    write = numbers.seconds if column == "seconds" else numbers.significant
    plotting.log_axis(axes.xaxis, _ends(shown, column), write, room=0.18)
    plotting.log_axis(axes.yaxis, _ends(shown, "variance"), room=0.18)
    fair = [r for r in shown if r["verdict"] != "biased" and r["variance_flag"] not in ("not-estimable", "dependent")]
    steps = frontier([(r[column], r["variance"]) for r in fair])
    if steps:
        right, top = axes.get_xlim()[1], axes.get_ylim()[1]
        xs = [steps[0][0], *(x for x, _ in steps), right]
        ys = [top, *(y for _, y in steps), steps[-1][1]]
        axes.step(xs, ys, where="post", color="#8a8a8a", linewidth=1.2, zorder=1.5)
        _guides(axes, min(x * y for x, y in steps))
    for r in shown:
        _point(axes, r, column, styles[r.estimator], faint=r not in fair)
    axes.set_xlabel("seconds an estimate" if column == "seconds" else "integrand evaluations an estimate")
    axes.set_ylabel("variance of one estimate")
    lines = [*_bars(axes, shown, column), *(_segments(axes, xs, ys) if steps else [])]
    unlabelled = _labels(axes, shown, column, styles, lines)
    return plotting.svg(figure, name), [(e, styles[e]) for e in unlabelled]


def _reach(r: Result, column: str) -> tuple[float, float]:
    """Return the interval of a column, cut where a bar may not reach; the value alone where there is no interval."""
    value = r[column]
    low, high = (r.row.get(f"{column}_{end}") for end in ("low", "high"))
    return (
        value if low is None else max(low, value / FURTHEST),
        value if high is None else min(high, value * FURTHEST),
    )


def _ends(shown: list[Result], column: str) -> list[float]:
    return [end for r in shown for end in (r[column], *_reach(r, column))]


def _guides(axes: Any, product: float) -> None:
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for power in range(9):
        level = product * 10.0**power
        if level / high > top:
            break
        axes.plot([low, high], [level / low, level / high], ":", color="#8a8a8a", linewidth=0.7, alpha=0.7, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, top)


def _point(axes: Any, r: Result, column: str, look: Style, faint: bool) -> None:
    alpha = 0.4 if faint else 1.0
    x, y = r[column], r["variance"]
    axes.plot(_reach(r, column), [y, y], color=look.colour, linewidth=1.2, alpha=alpha)
    axes.plot([x, x], _reach(r, "variance"), color=look.colour, linewidth=1.2, alpha=alpha)
    axes.plot(
        [x],
        [y],
        linestyle="",
        marker=look.marker,
        color=look.colour,
        fillstyle=fill(r),
        markersize=8.0,
        markerfacecoloralt="none",
        alpha=alpha,
        zorder=3,
    )


def _bars(axes: Any, shown: list[Result], column: str) -> list[label_layout.Box]:
    """Return the intervals as thin boxes, in pixels."""
    boxes = []
    for r in shown:
        (left, right), (low, high) = _reach(r, column), _reach(r, "variance")
        for ends in (((left, r["variance"]), (right, r["variance"])), ((r[column], low), (r[column], high))):
            (x0, y0), (x1, y1) = (axes.transData.transform(end) for end in ends)
            boxes.append((x0 - 1.0, y0 - 1.0, x1 + 1.0, y1 + 1.0))
    return boxes


def _segments(axes: Any, xs: list[float], ys: list[float]) -> list[label_layout.Box]:
    """Return the stepped line as thin boxes, in pixels."""
    corners = [(xs[0], ys[0])]
    for x, y in zip(xs[1:], ys[1:], strict=True):
        corners += [(x, corners[-1][1]), (x, y)]
    pixels = [axes.transData.transform(corner) for corner in corners]
    return [
        (min(a[0], b[0]) - 1.0, min(a[1], b[1]) - 1.0, max(a[0], b[0]) + 1.0, max(a[1], b[1]) + 1.0)
        for a, b in itertools.pairwise(pixels)
    ]


def _labels(
    axes: Any, shown: list[Result], column: str, styles: dict[str, Style], lines: list[label_layout.Box]
) -> list[str]:
    """Return the labels beside points, and the estimators of points that have no label.

    One point of an estimator is labelled with its name, the others with their S.
    """
    pixels = [tuple(axes.transData.transform((r[column], r["variance"]))) for r in shown]
    markers = [(x - 6.0, y - 6.0, x + 6.0, y + 6.0) for x, y in pixels]
    order = sorted(range(len(shown)), key=lambda i: shown[i]["variance"] * shown[i][column])
    named: dict[str, int] = {}
    for i in order:
        named.setdefault(shown[i].estimator, i)
    several = {e for e in named if len({r["num_samples"] for r in shown if r.estimator == e}) > 1}
    texts = [(i, _name(shown[i], shown[i].estimator in several)) for i in named.values()]
    extra: set[tuple[str, int]] = {(shown[i].estimator, shown[i]["num_samples"]) for i in named.values()}
    for i in order:
        which = (shown[i].estimator, shown[i]["num_samples"])
        if which not in extra:
            extra.add(which)
            texts.append((i, f"S={which[1]}"))
    box = axes.get_window_extent()
    sizes = [(plotting.text_width(t), plotting.text_height(t)) for _, t in texts]
    inside = (box.x0 + 2.0, box.y0 + 2.0, WIDTH, HEIGHT)
    found = label_layout.place([pixels[i] for i, _ in texts], sizes, [*markers, *lines], inside)
    written = set()
    for (i, text), where in zip(texts, found, strict=True):
        if where is not None:
            written.add(i)
            _write(axes, text, pixels[i], where, styles[shown[i].estimator].colour)
    return list(dict.fromkeys(shown[i].estimator for i in order if i not in written))


def _name(result: Result, several: bool) -> str:
    return plotting.wrapped(result.estimator) + (f" S={result['num_samples']}" if several else "")


def _write(axes: Any, text: str, point: tuple[float, float], where: label_layout.Box, colour: str) -> None:
    x0, y0, x1, y1 = where
    near = (min(max(point[0], x0), x1), min(max(point[1], y0), y1))
    if max(abs(near[0] - point[0]), abs(near[1] - point[1])) > 12.0:
        axes.plot(*zip(point, near, strict=True), transform=None, color=colour, linewidth=0.6, alpha=0.7, zorder=2)
    on_left = x0 >= point[0] or (x0 + x1) / 2.0 >= point[0]
    axes.text(
        x0 if on_left else x1,
        (y0 + y1) / 2.0,
        text,
        transform=None,
        ha="left" if on_left else "right",
        va="center",
        fontsize=plotting.SMALL,
        color=colour,
        linespacing=1.1,
    )
