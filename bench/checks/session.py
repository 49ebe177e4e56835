"""Quick checks of user-defined classes before their first measurement, once per session."""

from __future__ import annotations

from typing import Any

from gradmeter.bench.identity.content import Same
from gradmeter.estimators import UsageError

#: Error message, or None, by content of the objects checked.
_KNOWN: dict[str, str | None] = {}


def require_right(problem: Any, backend: str) -> None:
    """Check a problem, its integrand and its family, if these are user-defined.

    Raises
    ------
    UsageError
        Something is wrong; the message says what, where and what to do.
    """
    from gradmeter.bench.checks.checking import is_users

    expectation = problem.expectation()
    users = [thing for thing in (problem, expectation.integrand, expectation.family) if is_users(thing)]
    if not users:
        return
    key = Same((problem, *users)).key
    if key not in _KNOWN:
        _KNOWN[key] = _first_wrong(problem, backend)
    message = _KNOWN[key]
    if message is not None:
        raise UsageError(message)


def _first_wrong(problem: Any, backend: str) -> str | None:
    from gradmeter.bench.checks.checking import problem_findings
    from gradmeter.bench.checks.findings import About, guarded
    from gradmeter.bench.checks.lab import QUICK

    about = About("problem", problem.name)
    for found in guarded(about, "everything", lambda: problem_findings(problem, QUICK, 0, backend)):
        if found.status == "wrong" and not found.raised:  # an exception is raised again where the problem is measured
            return found.sentence
    return None
