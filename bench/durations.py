"""Times and sizes as people write them."""

from __future__ import annotations

import re
from typing import Any

from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import short

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def seconds(what: str, given: Any) -> float:
    """Return a time in seconds from `90`, `90s`, `10m`, `2h` or `1d`.

    Raises
    ------
    UsageError
        It is no such time.
    """
    return _in_units(what, given, _SECONDS, "a time such as 90s, 10m or 2h")


def size(what: str, given: Any) -> int:
    """Return a size in bytes from `500M`, `2G` or a number of bytes."""
    return int(_in_units(what, given, _BYTES, "a size such as 500M or 2G"))


def _in_units(what: str, given: Any, units: dict[str, Any], wanted: str) -> float:
    parts = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]?)(?:ib|b)?\s*", str(given)[:64].lower())
    if parts is None or parts[2] not in units or float(parts[1]) == 0.0:
        raise UsageError(f"{what} is '{short(given)}'; it must be {wanted}")
    return float(parts[1]) * float(units[parts[2]])


def duration(seconds: float) -> str:
    """Return a time in words: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
