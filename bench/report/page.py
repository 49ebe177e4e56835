"""The report as one HTML page: no script, no network; everything from the store escaped by the template."""

from __future__ import annotations

from pathlib import Path

from bench.report import glyphs, numbers, peers
from bench.report.document import Document


def render(document: Document) -> str:
    """The page as text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style = Path(__file__).with_name("templates").joinpath("report.css").read_text(encoding="utf-8")
    template = environment.get_template("report.html.jinja")
    return template.render(
        document=document,
        style=Markup(style),
        drawn=Markup,  # figures only: matplotlib has escaped their text
        glyph=glyphs.path,
        symbols=numbers.VERDICTS,
        peer_headings=peers.HEADINGS,
        peer_note=peers.NOTE,
    )
