"""What a figure is to the page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from gradmeter.bench.drawing.style import Look
from gradmeter.bench.reading.results import Result

#: How a marker is filled says which backend measured it.
FILLS = {"numpy": "full", "torch": "none", "jax": "left"}
FILL_WORDS = {"full": "filled", "none": "open", "left": "half filled", "right": "half filled, right"}


@dataclass
class Panel:
    """One `<svg>` and what it shows, in words."""

    svg: str
    alt: str


@dataclass
class Figure:
    """Panels side by side.

    Attributes
    ----------
    title, caption : what is shown, and how to read it.
    panels : in order.
    commands : what makes the cells.
    key : estimators that could not be labelled where they are drawn.
    """

    title: str
    caption: str
    panels: list[Panel]
    commands: str
    key: list[tuple[str, Look]] = field(default_factory=list)


def identifier(*parts: object) -> str:
    """A short id, the same for the same parts, for the elements of one panel."""
    return "f" + hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]


def fill(result: Result) -> str:
    return FILLS.get(result["backend"] or "", "right")


def fill_words(results: Iterable[Result]) -> str:
    """`Markers: numpy filled, jax half filled.`; nothing where one backend measured all."""
    backends = sorted({str(r["backend"]): FILL_WORDS[fill(r)] for r in results}.items())
    return f" Markers: {', '.join(f'{b} {w}' for b, w in backends)}." if len(backends) > 1 else ""
