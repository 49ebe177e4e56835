"""One page of the claims of all papers, as HTML and Markdown, with the regime maps as SVG files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gradmeter.bench.drawing import markers, plotting, standalone
from gradmeter.bench.drawing.page import environment_of, style
from gradmeter.bench.drawing.style import styles
from gradmeter.bench.files import together, writing
from gradmeter.bench.reading import results
from gradmeter.bench.reading.judging import Fits
from gradmeter.bench.reading.results import Result
from gradmeter.bench.report import papers
from gradmeter.bench.report.markdown import claims, plain
from gradmeter.bench.report.papers import Paper
from gradmeter.bench.report.provenance import provenance
from gradmeter.bench.rows import Row, to_export
from gradmeter.bench.sweep.store import Store
from gradmeter.bench.sweep.suites import Suite

TEMPLATES = Path(__file__).with_name("templates")


def write(store: Store, rows: list[Row], found: Sequence[Suite], output: Path, fits: Fits | None = None) -> list[Paper]:
    """Judge the claims of these suites by these rows; write papers.html, papers.md, results.csv and the maps.

    Parameters
    ----------
    store
        Store that holds the series of the rows.
    rows
        Rows that were measured.
    found
        Suites whose claims are judged.
    output
        Folder to write to.
    fits
        That of `judging.judge`.

    Raises
    ------
    UsageError
        `output` cannot be written; then nothing in it has changed.
    """
    measured, superseded = results.load(store, [results.cleaned(row) for row in rows])
    look = styles(r.estimator for r in measured)
    with plotting.styled():
        composed = [papers.compose(suite, _own(store, rows, suite), look, fits) for suite in found]
    headline = provenance(measured, superseded).headline
    texts = {
        "results.csv": to_export(rows).to_csv(index=False, lineterminator="\n"),
        "papers.md": _markdown(composed, headline),
        "papers.html": _html(composed, headline),
    }
    for figure in (figure for paper in composed for figure in paper.maps):
        texts[f"{re.sub('[^a-z0-9]+', '-', figure.title.lower()).strip('-')}.svg"] = standalone.render(figure)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        with together(output) as scratch:
            for name, text in texts.items():
                (scratch / name).write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return composed


def _own(store: Store, rows: Iterable[Row], suite: Suite) -> list[Result]:
    """Return the results of a suite, whose cells another suite may measure by other stopping criteria."""
    keys = {cell.key for cell in suite.cells}
    return results.load(store, [results.cleaned(row) for row in rows if row["cell_key"] in keys])[0]


def _html(composed: Sequence[Paper], headline: Sequence[str]) -> str:
    from markupsafe import Markup

    template = environment_of(TEMPLATES).get_template("papers.html.jinja")
    summary = papers.summary(composed)
    shown = {"papers": composed, "summary": summary, "headline": headline, "style": Markup(style()), **papers.words()}
    return str(template.render(**shown, drawn=Markup, glyph=markers.path))


def _markdown(composed: Sequence[Paper], headline: Sequence[str]) -> str:
    lines = [f"**gradmeter** · {' · '.join(plain(part) for part in headline)}", ""]
    lines += ["# Claims of papers", "", plain(f"{papers.summary(composed)} {papers.NOTE}")]
    for paper in composed:
        lines += ["", *claims(paper, 2)]
    return "\n".join(lines) + "\n"
