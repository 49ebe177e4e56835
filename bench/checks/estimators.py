"""The place where an estimator's own checks are called."""

from __future__ import annotations

from collections.abc import Iterator

from gradmeter.bench.checks.findings import About, Finding
from gradmeter.estimators import Estimator


def check_estimator(estimator: Estimator) -> Iterator[Finding]:
    """What can be said of an estimator of the right form without a problem."""
    about = About("estimator", estimator.name)
    yield about.ok("requires")
    yield about.not_checked(
        "estimate", "an estimator is checked where it is measured: gradmeter.measure(problem, estimator)"
    )
