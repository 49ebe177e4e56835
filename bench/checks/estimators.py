"""Findings about estimators, which are checked only when they are measured."""

from __future__ import annotations

from collections.abc import Iterator

from gradmeter.bench.checks.findings import About, Finding
from gradmeter.estimators import Estimator


def check_estimator(estimator: Estimator) -> Iterator[Finding]:
    """Yield the findings about an estimator of valid form that need no problem."""
    about = About("estimator", estimator.name)
    yield about.ok("requires")
    yield about.not_checked(
        "estimate", "an estimator is checked where it is measured: gradmeter.measure(problem, estimator)"
    )
