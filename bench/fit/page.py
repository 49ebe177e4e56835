"""The page of a fit: the table of what was reached, and the pictures; no script, no network."""

from __future__ import annotations

from dataclasses import dataclass

from bench.fit import components, figures
from bench.fit.findings import sentences
from bench.fit.run import Fit
from bench.report import glyphs, page, standalone
from bench.report.drawing import styled
from bench.report.figures.figure import Figure
from bench.report.names import problem_text
from bench.report.numbers import seconds, significant
from bench.report.style import Look, looks
from bench.rows import Row
from bench.sweep import environment

HEADINGS = ("iterations", "evaluations of f", "seconds", "objective", "‖gradient‖", "variance")


@dataclass
class Line:
    """One fit in the table."""

    name: str
    look: Look
    cells: list[str]
    file: str | None
    note: str


@dataclass
class Page:
    """All that the template shows."""

    problem: str
    summary: str
    command: str
    lines: list[Line]
    reference: figures.Reference | None
    findings: list[str]
    pictures: dict[str, Figure]
    origin: list[str]


def compose(fits: dict[str, Fit], command: str, files: dict[str, str]) -> Page:
    """Draw and write down.

    Parameters
    ----------
    fits : by what they are called.
    command : what made them.
    files : the file of each one's parameters, for those that have any.
    """
    problem = next(iter(fits.values())).plan.problem
    look = looks(fits)
    below = figures.reference(list(fits.values()))
    pictures: dict[str, Figure | None] = {}
    with styled():
        if below is not None:
            pictures["objective"] = figures.objectives(fits, look, below, command)
        pictures["mixture"] = components.figure(fits, look, command)
        pictures["variance"] = figures.variances(fits, look, command)
    first = next(iter(fits.values())).rows[0]
    return Page(
        problem_text(first),
        problem.summary,
        command,
        [Line(name, look[name], cells(fit), files.get(name), note(fit)) for name, fit in fits.items()],
        below,
        sentences(fits, below),
        {name: figure for name, figure in pictures.items() if figure is not None},
        [f"commit {environment.code_version()}", environment.machine()],
    )


def reached(fit: Fit) -> Row | None:
    """The last row that says how good the fit is."""
    return next((r for r in reversed(fit.rows) if r["objective"] is not None), None)


def cells(fit: Fit) -> list[str]:
    """What `HEADINGS` head, as text."""
    last = reached(fit)
    if last is None:
        return ["–"] * len(HEADINGS)
    error = last["objective_error"]
    spread = next((r["variance"] for r in reversed(fit.rows) if r["variance"] is not None), None)
    return [
        f"{last['iteration']:,}",
        f"{last['evaluations']:,.0f}" if last["evaluations"] >= 100 else significant(last["evaluations"]),
        seconds(last["seconds"]),
        figures.level(last["objective"]) + (f" ± {significant(1.96 * error, 2)}" if error else ""),
        significant(last["gradient_norm"]),
        significant(spread) if spread is not None else "",
    ]


def note(fit: Fit) -> str:
    """Why it ended where it did, if not because its steps were done."""
    return (fit.rows[-1]["reason"] or "") if fit.rows else "not begun"


def render(composed: Page) -> str:
    """The page as text."""
    from markupsafe import Markup

    template = page.environment().get_template("fit.html.jinja")
    return template.render(
        page=composed, headings=HEADINGS, style=Markup(page.style()), drawn=Markup, glyph=glyphs.path
    )


def pictures(composed: Page) -> dict[str, str]:
    """Every figure as a file of its own, {name: SVG}."""
    return {name: standalone.render(figure) for name, figure in composed.pictures.items()}
