"""What a row is called: `problem[k=v]`, `estimator[k=v]`, and whatever else sets it apart from the rows beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.rows import Row
from estimators.options import spell


def problem_text(row: Row) -> str:
    """`name[k=v]` with the options that are not defaults, as the command line takes it."""
    from bench.problems import PROBLEMS

    return _spelled(row["problem"], row["problem_options"], PROBLEMS)


def estimator_text(row: Row) -> str:
    """`name[k=v]` with the options that are not defaults, as the command line takes it."""
    from bench.controls import CONTROLS
    from estimators import ESTIMATORS

    return _spelled(row["estimator"], row["estimator_options"], {**ESTIMATORS, **CONTROLS})


def planted(name: str | None) -> bool:
    """Whether an estimator of that name carries a bug on purpose."""
    from bench.controls import CONTROLS

    return name in CONTROLS


def biased(name: str | None) -> str | None:
    """Why an estimator of that name is biased by nature; None where it is not."""
    from estimators import ESTIMATORS

    return ESTIMATORS[name].biased if name in ESTIMATORS else None


def _spelled(name: Any, options: Any, known: Mapping[str, type]) -> str:
    options = options if isinstance(options, Mapping) else {}
    if name in known:
        return spell(name, options, known[name])
    parts = ",".join(f"{k}={v}" for k, v in options.items())
    return f"{name}[{parts}]" if parts else str(name)
