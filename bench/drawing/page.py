"""Pages as one HTML file: no network; everything from a store is escaped by the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHARED = Path(__file__).with_name("templates")


def environment_of(templates: Path) -> Any:
    """Return the Jinja environment of a folder of templates and of the shared ones, which escapes every value."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, SHARED]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def style() -> str:
    """Return the style sheet of every page."""
    return (SHARED / "report.css").read_text(encoding="utf-8")
