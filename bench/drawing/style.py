"""The appearance of estimators in every figure and table: one colour and one marker each, unique as far as possible.

No colour is green: green stands for `unbiased`, and a figure says nothing about bias. Neighbouring colours differ in
lightness and markers differ in shape, so that nothing depends on colour vision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Placeholder colours in figures, which the page replaces by its own, light or dark.
INK, FAINT, PAPER = "#010203", "#c1c2c3", "#fdfefc"

_FIXED = {
    "score-function": ("#d55e00", "o"),
    "score-function[baseline=mean]": ("#c98500", "s"),
    "score-function[baseline=optimal]": ("#b5477b", "D"),
    "score-function[baseline=moving-average]": ("#a0703c", "v"),
    "score-function[baseline=leave-one-out]": ("#d4594f", "^"),
    "pathwise": ("#1f78b8", "P"),
    "pathwise[antithetic=true]": ("#3f9bdc", "X"),
    "pathwise[sticking-the-landing=true]": ("#6f7bd6", "h"),
    "measure-valued": ("#9a57c4", "*"),
    "measure-valued[coupling=false]": ("#8c8c94", "<"),
}
_COLOURS = ("#c78a2c", "#2f8fa8", "#c0679c", "#7d7fd0", "#a65c3a", "#808a96", "#857446", "#5a8fd0")
#: Their number has no divisor in common with the number of colours: 72 estimators differ, and those of one colour in
#: shape. There are no hexagons or octagons, which look like circles at this size.
_MARKERS = ("p", ">", "X", "d", "s", "o", "v", "<", "^")


@dataclass(frozen=True)
class Style:
    """A colour as #rrggbb and a matplotlib marker."""

    colour: str
    marker: str


def styles(estimators: Iterable[str]) -> dict[str, Style]:
    """Return the appearance of each estimator: fixed for bundled ones, assigned in alphabetical order to others."""
    found = {}
    others = 0
    for name in sorted(set(estimators)):
        if name in _FIXED:
            found[name] = Style(*_FIXED[name])
        else:
            found[name] = Style(_COLOURS[others % len(_COLOURS)], _MARKERS[others % len(_MARKERS)])
            others += 1
    return found
