"""What a method that cannot make its objective worse is held to."""

from __future__ import annotations

import numpy as np


class ObjectiveFell(ArithmeticError):
    """The objective of a monotone method fell by more than rounding explains: a bug, or numbers out of range."""


def check_monotone(method: str, objective: str, t: int, before: float, after: float, size: float) -> None:
    """Raise ObjectiveFell where `after` is below `before` by more than rounding.

    Parameters
    ----------
    size : how large the terms are that the objective adds up: their number times that of one of them.
    """
    allowed = 64.0 * np.finfo(np.float64).eps * max(1.0, size, abs(before))
    if not after >= before - allowed:
        raise ObjectiveFell(f"{method}: the {objective} fell from {before!r} to {after!r} at iteration {t}")
