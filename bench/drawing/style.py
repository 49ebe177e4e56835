"""How an estimator looks in every figure and table: one colour and one marker, never shared where it can be helped.

No colour is a green: green is what `unbiased` looks like, and a figure says nothing of bias. Neighbouring colours
differ in lightness and markers differ in shape, so that nothing rests on colour vision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Placeholders in figures, which the page turns into its own colours, light or dark.
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
#: As many as have no divisor in common with the colours: 72 estimators differ, and those of one colour in shape. Not
#: hexagons or octagons, which are circles at this size.
_MARKERS = ("p", ">", "X", "d", "s", "o", "v", "<", "^")


@dataclass(frozen=True)
class Look:
    """A colour as #rrggbb and a matplotlib marker."""

    colour: str
    marker: str


def looks(estimators: Iterable[str]) -> dict[str, Look]:
    """A look for each estimator; bundled ones always have the same, others in alphabetical order."""
    found = {}
    others = 0
    for name in sorted(set(estimators)):
        if name in _FIXED:
            found[name] = Look(*_FIXED[name])
        else:
            found[name] = Look(_COLOURS[others % len(_COLOURS)], _MARKERS[others % len(_MARKERS)])
            others += 1
    return found
