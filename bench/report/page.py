"""The report as one HTML page: no script, no network; everything from the store escaped by the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradmeter.bench.report import glyphs, numbers, peers
from gradmeter.bench.report.document import Document

TEMPLATES = Path(__file__).with_name("templates")


def environment() -> Any:
    """The templates, which escape whatever they are given."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def style() -> str:
    """The style sheet of every page."""
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")


def render(document: Document) -> str:
    """The page as text."""
    from markupsafe import Markup

    return str(
        environment()
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
