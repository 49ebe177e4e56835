"""Errors of usage ("what you asked for is wrong"), as opposed to faults of this package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A name or value that cannot be used. The message is one line: what is wrong, then what would be right."""


class NotApplicable(UsageError):
    """A combination that exists in the grid but has no meaning. A result row shows the message as the reason."""


def unknown(kind: str, given: str, known: Iterable[str]) -> UsageError:
    """Return an error for a name that is not one of `known`, with the nearest known name as a suggestion."""
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} '{given}'; {hint}")
