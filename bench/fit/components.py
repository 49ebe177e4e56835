"""Figure of a fitted mixture: its components over the data, in pairs of coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.figure import Figure, Panel, identifier
from gradmeter.bench.drawing.style import FAINT, INK, Style
from gradmeter.bench.fit.run import Fit
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.problems import Problem

#: Largest number of panels, and of points per panel: more points would not change the picture.
MOST_PANELS, MOST_POINTS = 6, 2000
SIDE = 300.0


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture as drawn.

    Attributes
    ----------
    points : [N, P]
        The data.
    means, scales, weights : [K, P], [K, P], [K]
        Parameters of the components.
    uncertain : [K, P], optional
        Standard deviations of the means under q; None if the means are point estimates.
    """

    points: np.ndarray
    means: np.ndarray
    scales: np.ndarray
    weights: np.ndarray
    uncertain: np.ndarray | None


def mixture(problem: Problem, parameters: Vectors) -> Mixture | None:
    """Return the mixture that the fitted parameters describe, or None if the problem is not a mixture."""
    made: Any = problem
    if not hasattr(problem, "points") or not parameters:
        return None
    if {"means", "log_scales", "weight_logits"} <= set(parameters):
        scales, weights = np.exp(parameters["log_scales"]), _softmax(parameters["weight_logits"])
        return Mixture(made.points(), parameters["means"], scales, weights, None)
    if {"loc", "log_scale"} <= set(parameters) and hasattr(problem, "sigma"):
        means, spread = (parameters[name].reshape(made.components, -1) for name in ("loc", "log_scale"))
        sigma = np.exp(parameters["log_sigma"][0]) if "log_sigma" in parameters else made.sigma
        weights = _softmax(parameters.get("weight_logits", np.zeros(made.components)))
        return Mixture(made.points(), means, np.full_like(means, sigma), weights, np.exp(spread))
    return None


def _softmax(logits: np.ndarray) -> np.ndarray:
    share = np.exp(logits - logits.max())
    return np.asarray(share / share.sum())


def figure(fits: dict[str, Fit], styles: dict[str, Style], command: str) -> Figure | None:
    """Return a figure with a panel per fit and pair of coordinates, or None if no fit is a mixture."""
    found = {name: mixture(fit.plan.problem, fit.parameters) for name, fit in fits.items()}
    drawn = {name: m for name, m in found.items() if m is not None}
    if not drawn:
        return None
    dimension = next(iter(drawn.values())).points.shape[1]
    pairs = [(0, 1), *(((0, 2),) if dimension > 2 and 2 * len(drawn) <= MOST_PANELS else ())]
    shown = list(drawn)[: MOST_PANELS // len(pairs)]
    if dimension == 1:
        panels = [_on_a_line(name, drawn[name], styles[name]) for name in shown]
        caption = "A histogram of the data, and the density of the mixture at the means of q."
    else:
        panels = [_panel(name, drawn[name], pair, styles[name]) for pair in pairs for name in shown]
        caption = (
            "The data, and two standard deviations around the mean of every component; a dashed line for one of "
            "weight below half of an equal share."
        )
    if any(m.uncertain is not None for m in drawn.values()) and dimension > 1:
        caption += " A cross is two standard deviations of the mean under q."
    if dimension > 2 and len(pairs) == 1:
        caption += f" The first two of {dimension} coordinates."
    if len(drawn) > len(shown):
        caption += f" {len(drawn) - len(shown)} more fits are not drawn."
    return Figure("The fitted mixture over the data", caption, panels, command)


def density(m: Mixture, at: np.ndarray) -> np.ndarray:
    """Return the density of a one-dimensional mixture at points [...]."""
    standard = (at[..., None] - m.means[:, 0]) / m.scales[:, 0]
    each = np.exp(-0.5 * standard**2) / (m.scales[:, 0] * np.sqrt(2.0 * np.pi))
    return np.asarray(each @ m.weights)


def _on_a_line(name: str, m: Mixture, look: Style) -> Panel:
    canvas, axes = plotting.panel(SIDE + 60.0, 0.7 * SIDE + 68.0, 48.0, 12.0)
    points = m.points[:, 0]
    axes.hist(points, bins=min(60, max(10, int(np.sqrt(len(points))))), density=True, color=FAINT)
    at = np.linspace(points.min(), points.max(), 400)
    axes.plot(at, density(m, at), color=look.colour, linewidth=1.6)
    _written(axes, name, "coordinate 1", "density")
    return Panel(plotting.svg(canvas, identifier("mixture", name)), f"Density of {name} over a histogram of the data")


def _panel(name: str, m: Mixture, pair: tuple[int, int], look: Style) -> Panel:
    from matplotlib.patches import Ellipse

    a, b = pair
    canvas, axes = plotting.panel(SIDE + 60.0, SIDE + 68.0, 48.0, 12.0)
    some = m.points[:: max(1, len(m.points) // MOST_POINTS)]
    axes.scatter(some[:, a], some[:, b], s=5.0, color=INK, alpha=0.35, linewidths=0.0)
    for k, mean in enumerate(m.means):
        dash = "--" if m.weights[k] < 0.5 / len(m.means) else "-"
        size = 4.0 * m.scales[k]
        axes.add_patch(
            Ellipse(mean[[a, b]], size[a], size[b], fill=False, edgecolor=look.colour, linewidth=1.6, linestyle=dash)
        )
        if m.uncertain is None:
            axes.plot(*mean[[a, b]], marker="+", color=look.colour, markersize=8.0, markeredgewidth=1.6)
            continue
        for across, x, y in ((m.uncertain[k][a], 1.0, 0.0), (m.uncertain[k][b], 0.0, 1.0)):
            reach = 2.0 * across
            ends = [[mean[i] - reach * on, mean[i] + reach * on] for i, on in ((a, x), (b, y))]
            axes.plot(*ends, color=look.colour, linewidth=2.4, solid_capstyle="butt")
    _limits(axes, m, pair)
    _written(axes, name, f"coordinate {a + 1}", f"coordinate {b + 1}")
    alt = f"Components of {name} over the data in coordinates {a + 1} and {b + 1}"
    return Panel(plotting.svg(canvas, identifier("mixture", name, *pair)), alt)


def _written(axes: Any, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _limits(axes: Any, m: Mixture, pair: tuple[int, int]) -> None:
    """Set limits that show all data and the parts of the components near it, with equal units on both axes."""
    centres, halves = [], []
    for i in pair:
        low, high = m.points[:, i].min(), m.points[:, i].max()
        room = 0.25 * (high - low)
        low = max(low - room, min(low - 0.2 * room, (m.means - 2.0 * m.scales)[:, i].min()))
        high = min(high + room, max(high + 0.2 * room, (m.means + 2.0 * m.scales)[:, i].max()))
        centres.append(0.5 * (low + high))
        halves.append(0.5 * (high - low))
    for centre, set_limits in zip(centres, (axes.set_xlim, axes.set_ylim), strict=True):
        set_limits(centre - max(halves), centre + max(halves))
