"""The parts of a page's figures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading.results import Result

#: How a marker is filled shows which backend was measured.
FILLS = {"numpy": "full", "torch": "none", "jax": "left"}
FILL_WORDS = {"full": "filled", "none": "open", "left": "half filled", "right": "half filled, right"}


@dataclass
class Panel:
    """One `<svg>` and its description in words."""

    svg: str
    alt: str


@dataclass
class Figure:
    """Panels side by side.

    Attributes
    ----------
    title, caption
        What is shown, and how to read it.
    panels
        In order.
    commands
        The commands that measure the cells.
    key
        Estimators that could not be labelled at their curves.
    """

    title: str
    caption: str
    panels: list[Panel]
    commands: str
    key: list[tuple[str, Style]] = field(default_factory=list)


def identifier(*parts: object) -> str:
    """Return a short id for the elements of one panel, determined by the parts."""
    return "f" + hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]


def fill(result: Result) -> str:
    """Return how the markers of a result are filled, which tells its backend."""
    return FILLS.get(result["backend"] or "", "right")


def fill_words(results: Iterable[Result]) -> str:
    """Describe the fills: `Markers: numpy filled, jax half filled.`; empty for a single backend."""
    backends = sorted({str(r["backend"]): FILL_WORDS[fill(r)] for r in results}.items())
    return f" Markers: {', '.join(f'{b} {w}' for b, w in backends)}." if len(backends) > 1 else ""
