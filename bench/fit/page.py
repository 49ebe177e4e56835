"""The HTML page of a fit: a table of results, and figures; without scripts or network access."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradmeter.bench.drawing import markers, standalone
from gradmeter.bench.drawing.figure import Figure
from gradmeter.bench.drawing.page import environment_of, style
from gradmeter.bench.drawing.plotting import styled
from gradmeter.bench.drawing.style import Style, styles
from gradmeter.bench.fit import autoencoders, components, figures, tested
from gradmeter.bench.fit.findings import sentences
from gradmeter.bench.fit.run import Fit
from gradmeter.bench.reading.names import problem_text
from gradmeter.bench.reading.numbers import seconds, significant
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep import environment

HEADINGS = ("iterations", "evaluations of f", "seconds", "objective", "‖gradient‖", "variance")
TEST_HEADINGS = ("test ELBO", "test log-likelihood")

TEMPLATES = Path(__file__).with_name("templates")


@dataclass
class Line:
    """One fit in the table."""

    name: str
    look: Style
    cells: list[str]
    file: str | None
    note: str


@dataclass
class Page:
    """The content of the page's template."""

    problem: str
    summary: str
    command: str
    headings: tuple[str, ...]
    lines: list[Line]
    test: str
    reference: figures.Reference | None
    findings: list[str]
    pictures: dict[str, Figure]
    origin: list[str]


def compose(fits: dict[str, Fit], command: str, files: dict[str, str]) -> Page:
    """Draw the figures and collect the content of the page.

    Parameters
    ----------
    fits : {name: Fit}
        The fits by displayed name.
    command : str
        The command that made them.
    files : {name: str}
        Parameter files of the fits that have parameters.
    """
    problem = next(iter(fits.values())).plan.problem
    look = styles(fits)
    below = figures.reference(list(fits.values()))
    pictures: dict[str, Figure | None] = {}
    with styled():
        if below is not None:
            pictures["objective"] = figures.objectives(fits, look, below, command)
        pictures["mixture"] = components.figure(fits, look, command)
        pictures["test"] = tested.figure(fits, look, command)
        pictures |= autoencoders.figures(fits, look, command)
        pictures["variance"] = figures.variances(fits, look, command)
    first = next(iter(fits.values())).rows[0]
    shown = headings(fits)
    return Page(
        problem_text(first),
        problem.summary,
        command,
        shown,
        [Line(name, look[name], cells(fit, shown), files.get(name), note(fit)) for name, fit in fits.items()],
        tested.words(fits),
        below,
        sentences(fits, below),
        {name: figure for name, figure in pictures.items() if figure is not None},
        [f"commit {environment.code_version()}", environment.machine()],
    )


def reached(fit: Fit) -> Row | None:
    """Return the last row with an objective."""
    return next((r for r in reversed(fit.rows) if r["objective"] is not None), None)


def headings(fits: dict[str, Fit]) -> tuple[str, ...]:
    """Return the table's columns, with those about test data only if there are any."""
    tested = any(r["test_elbo"] is not None for fit in fits.values() for r in fit.rows)
    return (*HEADINGS, *TEST_HEADINGS) if tested else HEADINGS


def cells(fit: Fit, shown: tuple[str, ...]) -> list[str]:
    """Return a fit's cells under the given headings, as text."""
    last = reached(fit)
    if last is None:
        return ["–"] * len(shown)
    spread = next((r["variance"] for r in reversed(fit.rows) if r["variance"] is not None), None)
    found = [
        f"{last['iteration']:,}",
        f"{last['evaluations']:,.0f}" if last["evaluations"] >= 100 else significant(last["evaluations"]),
        seconds(last["seconds"]),
        figures.estimate(last["objective"], last["objective_error"]),
        significant(last["gradient_norm"]),
        significant(spread) if spread is not None else "",
    ]
    tests = [figures.estimate(last[name], last[f"{name}_error"]) for name in ("test_elbo", "test_log_likelihood")]
    return [*found, *tests][: len(shown)]


def note(fit: Fit) -> str:
    """Return why the fit ended, if not after its last step."""
    return (fit.rows[-1]["reason"] or "") if fit.rows else "not begun"


def render(composed: Page) -> str:
    """Render the page as HTML."""
    from markupsafe import Markup

    template = environment_of(TEMPLATES).get_template("fit.html.jinja")
    return template.render(
        page=composed, headings=composed.headings, style=Markup(style()), drawn=Markup, glyph=markers.path
    )


def pictures(composed: Page) -> dict[str, str]:
    """Render every figure as a separate file, {name: SVG}."""
    return {name: standalone.render(figure) for name, figure in composed.pictures.items()}
