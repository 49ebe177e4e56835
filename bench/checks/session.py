"""Checks before the first measurement of what a user brings, once in a session."""

from __future__ import annotations

from typing import Any

from estimators import UsageError

#: By what was checked, what is wrong with it; the objects themselves are kept, so that no other takes their place.
_KNOWN: dict[Any, tuple[str | None, Any]] = {}


def require_right(problem: Any, backend: str) -> None:
    """Check a problem, its integrand and its family where a user wrote them.

    Raises
    ------
    UsageError
        Something is wrong; the message says what, where and what to do.
    """
    from bench.checks.checking import is_users

    expectation = problem.expectation()
    users = [thing for thing in (problem, expectation.integrand, expectation.family) if is_users(thing)]
    if not users:
        return
    key = (*map(type, (problem, expectation.integrand, expectation.family)), _content(problem))
    if key not in _KNOWN:
        _KNOWN[key] = _first_wrong(problem, backend), problem
    message, _ = _KNOWN[key]
    if message is not None:
        raise UsageError(message)


def _content(problem: Any) -> Any:
    """What tells a problem from others of its class."""
    try:
        hash(problem)
    except TypeError:  # a field that is an array
        return id(problem)
    return problem


def _first_wrong(problem: Any, backend: str) -> str | None:
    from bench.checks.checking import problem_findings
    from bench.checks.findings import About, guarded
    from bench.checks.lab import QUICK

    about = About("problem", problem.name)
    for found in guarded(about, "everything", lambda: problem_findings(problem, QUICK, 0, backend)):
        if found.status == "wrong" and not found.raised:  # what raises does so again where it is measured
            return found.sentence
    return None
