"""Pages as single HTML files that load nothing; the template escapes everything that comes from a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHARED = Path(__file__).with_name("templates")


def environment_of(templates: Path) -> Any:
    """Return the Jinja environment of a folder of templates and of the shared ones; it escapes every value."""
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
