"""The place where an estimator's own checks are called."""

from __future__ import annotations

from collections.abc import Iterator

from bench.checks.findings import About, Finding
from estimators import Estimator
from estimators.families.family import ABILITIES


def check_estimator(estimator: Estimator) -> Iterator[Finding]:
    """What can be said of an estimator without a problem: the names that it requires."""
    about = About("estimator", estimator.name)
    requires = estimator.requirements(estimator.least_entropy())
    unknown = [name for name in requires.family if name not in ABILITIES]
    if unknown:
        yield about.wrong(
            "requires", f"requires names {unknown[0]}, which no family is asked for; choose from {', '.join(ABILITIES)}"
        )
    else:
        yield about.ok("requires")
    yield about.not_checked(
        "estimate", "an estimator is checked where it is measured: bench.measure(problem, estimator)"
    )
