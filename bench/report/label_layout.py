"""Where to write names beside points so that nothing covers anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels

_DIRECTIONS = tuple(math.radians(a) for a in (0, 180, 30, -30, 150, -150, 90, -90, 60, -60, 120, -120))
_DISTANCES = (9.0, 15.0, 24.0, 36.0, 52.0, 72.0)


def place(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], others: Sequence[Box], inside: Box
) -> list[Box | None]:
    """Return the nearest free box of the given size for each point; None where none is free.

    Parameters
    ----------
    points
        In pixels; the first are served first.
    sizes
        Width and height of each name.
    others
        Boxes that must stay visible, markers for instance.
    inside
        Where boxes must lie.
    """
    taken = list(others)
    found: list[Box | None] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        box = next((b for b in _candidates(x, y, width, height) if _within(b, inside) and _free(b, taken)), None)
        found.append(box)
        if box is not None:
            taken.append(box)
    return found


def _candidates(x: float, y: float, width: float, height: float) -> list[Box]:
    boxes = []
    for distance in _DISTANCES:
        for angle in _DIRECTIONS:
            cx = x + math.cos(angle) * (distance + width / 2.0)
            cy = y + math.sin(angle) * (distance + height / 2.0)
            boxes.append((cx - width / 2.0, cy - height / 2.0, cx + width / 2.0, cy + height / 2.0))
    return boxes


def _within(box: Box, inside: Box) -> bool:
    return box[0] >= inside[0] and box[1] >= inside[1] and box[2] <= inside[2] and box[3] <= inside[3]


def _free(box: Box, taken: Sequence[Box]) -> bool:
    return all(box[2] <= t[0] or box[0] >= t[2] or box[3] <= t[1] or box[1] >= t[3] for t in taken)
