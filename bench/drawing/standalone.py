"""A figure of a page as a separate SVG file, for a README, a slide or a paper."""

from __future__ import annotations

import re
from html import escape

from gradmeter.bench.drawing import markers
from gradmeter.bench.drawing.figure import Figure
from gradmeter.bench.drawing.plotting import text_width
from gradmeter.bench.drawing.style import Style

#: Values of the page's style sheet for the colours that figures take from it, in the light scheme.
_STYLE = "svg{color:#1c1e21;--paper:#ffffff;--ink:#1c1e21;--soft:#5b6169;--line:#dcdfe3;--grid:#e6e8eb}"
_HEADING, _GAP, _ROW = 30.0, 12.0, 18.0
_FONT = "font-family:'DejaVu Sans',sans-serif"


def render(figure: Figure) -> str:
    """Return the panels side by side under the figure's title, on white."""
    sizes = [_size(panel.svg) for panel in figure.panels]
    width = sum(w for w, _ in sizes) + _GAP * (len(sizes) - 1)
    foot = _HEADING + max(h for _, h in sizes)
    legend, height = _legend(figure.key, width, foot)
    placed, x = [], 0.0
    for panel, (w, _) in zip(figure.panels, sizes, strict=True):
        placed.append(panel.svg.replace("<svg ", f'<svg x="{x:g}" y="{_HEADING:g}" ', 1))
        x += w + _GAP
    font = _FONT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img">'
        f"<title>{escape(figure.title)}</title><style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="8" y="20" style="{font};font-size:14px;font-weight:600;fill:#1c1e21">{escape(figure.title)}</text>'
        f"{''.join(placed)}{legend}</svg>\n"
    )


def _legend(key: list[tuple[str, Style]], width: float, top: float) -> tuple[str, float]:
    """Return the markers and names of the legend, in rows below the panels, and the height at which they end."""
    parts, x, y = [], 14.0, top + _ROW / 2.0
    for text, look in key:
        length = 12.0 + text_width(text) + 16.0
        if x > 14.0 and x + length > width:
            x, y = 14.0, y + _ROW
        parts.append(
            f'<path d="{markers.path(look.marker)}" fill="{look.colour}" transform="translate({x:g} {y:g})"/>'
            f'<text x="{x + 10.0:g}" y="{y + 4.0:g}" style="{_FONT};font-size:11px;fill:#1c1e21">{escape(text)}</text>'
        )
        x += length
    return "".join(parts), y + _ROW if key else top


def _size(svg: str) -> tuple[float, float]:
    found = re.search(r'<svg [^>]*viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    return (float(found[1]), float(found[2])) if found else (400.0, 300.0)
