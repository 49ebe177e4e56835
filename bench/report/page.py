"""The report as one HTML page: no script, no network; everything from the store escaped by the template."""

from __future__ import annotations

from pathlib import Path

from gradmeter.bench.drawing import glyphs
from gradmeter.bench.drawing.page import environment_of, style
from gradmeter.bench.reading import numbers
from gradmeter.bench.report import peers
from gradmeter.bench.report.document import Document

TEMPLATES = Path(__file__).with_name("templates")


def render(document: Document) -> str:
    """The page as text."""
    from markupsafe import Markup

    return str(
        environment_of(TEMPLATES)
        .get_template("report.html.jinja")
        .render(
            document=document,
            style=Markup(style()),
            drawn=Markup,  # figures only: matplotlib has escaped their text
            glyph=glyphs.path,
            symbols=numbers.VERDICTS,
            peer_headings=peers.HEADINGS,
            peer_note=peers.NOTE,
        )
    )
