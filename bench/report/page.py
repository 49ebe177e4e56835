"""The report as one HTML page: no network; everything from the store escaped by the template.

Its one script, which sorts and filters tables, is a file of its own and the only one that the page's policy allows.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from gradmeter.bench.drawing import markers
from gradmeter.bench.drawing.page import environment_of, style
from gradmeter.bench.reading import numbers
from gradmeter.bench.report import papers, peers
from gradmeter.bench.report.document import Document
from gradmeter.bench.rows import COLUMNS, MEANINGS

TEMPLATES = Path(__file__).with_name("templates")


def render(document: Document) -> str:
    """Return the page as text."""
    from markupsafe import Markup

    script = (TEMPLATES / "tables.js").read_text(encoding="utf-8")
    return str(
        environment_of(TEMPLATES)
        .get_template("report.html.jinja")
        .render(
            document=document,
            style=Markup(style()),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            drawn=Markup,  # figures only: matplotlib has escaped their text
            glyph=markers.path,
            symbols=numbers.VERDICTS,
            peer_headings=peers.HEADINGS,
            columns=MEANINGS,
            kinds=COLUMNS,
            peer_note=peers.NOTE,
            **papers.words(),
        )
    )
