"""The check that a monotone method never decreases its objective."""

from __future__ import annotations

import numpy as np


class ObjectiveFell(ArithmeticError):
    """The objective of a monotone method decreased by more than rounding, through a bug or numbers out of range."""


def check_monotone(method: str, objective: str, t: int, before: float, after: float, size: float) -> None:
    """Check that `after` is not below `before` by more than rounding.

    Parameters
    ----------
    method
        Name of the method, for the message.
    objective
        Name of the objective, for the message.
    t
        Number of the iteration.
    before
        Objective before it.
    after
        Objective after it.
    size : float
        Magnitude of the sum that forms the objective: the number of its terms times the size of one.

    Raises
    ------
    ObjectiveFell
        It is.
    """
    allowed = 64.0 * np.finfo(np.float64).eps * max(1.0, size, abs(before))
    if not after >= before - allowed:
        raise ObjectiveFell(f"{method}: the {objective} fell from {before!r} to {after!r} at iteration {t}")
