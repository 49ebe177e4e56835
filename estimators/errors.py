"""The one exception that means "what you asked for is wrong", as opposed to "we broke"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A name or value that cannot be used. The message is one line: what was wrong, what would be right."""


class NotApplicable(UsageError):
    """A combination that exists in the grid but has no meaning; the message is the reason a row shows."""


def unknown(kind: str, given: str, known: Iterable[str]) -> UsageError:
    """An error for a name that is not one of `known`, naming the nearest right one."""
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} '{given}'; {hint}")
