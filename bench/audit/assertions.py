"""Assertions on gradients, for tests: `gradmeter.testing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradmeter.bench.audit.auditing import audit
from gradmeter.bench.audit.result import Audit
from gradmeter.bench.reading.numbers import interval, percent, significant
from gradmeter.estimators import UsageError
from gradmeter.estimators.options import number

#: Probability that a correct gradient is called `biased` (two stages of 3e-4 each, the second with the sign).
FALSE_ALARM = 1e-7
#: Called with every audit that an assertion makes.
listeners: list[Callable[[Audit], None]] = []


def assert_unbiased(
    gradient: Callable[..., Any], parameters: Any = None, *, bound: float = 0.05, alpha: float = 1e-6, **options: Any
) -> Audit:
    """Assert that the bias of a gradient is certified to be at most a part of the exact gradient.

    Parameters
    ----------
    gradient, parameters
        As in `gradmeter.audit`.
    bound
        Largest relative bias ‖E ĝ − g‖ / ‖g‖, certified at 99.9 %.
    alpha
        Largest probability that a correct gradient is called `biased`; it is 1e-7, so 1e-7 is the least that may be
        asked for. The seed is fixed, so the outcome is the same every time unless the gradient, the machine's speed, or
        `seconds` changes.
    **options
        Arguments of `gradmeter.audit`: one of its references, `replicates`, `seconds` and so on.

    Returns
    -------
    Audit
        What was found.

    Raises
    ------
    AssertionError
        The gradient is biased, or its bias could not be bounded that well; the message says what more time would buy.
    UsageError
        As in `gradmeter.audit`; or there is no reference.
    """
    __tracebackhide__ = True
    _check(alpha)
    found = _audited(gradient, parameters, {"bias_bound": bound, **options})
    if found.verdict == "no-reference":
        raise UsageError("assert_unbiased needs a reference: exact=, problem=, objective=, integrand= or against=")
    if found.verdict in ("unbiased", "agrees"):
        return found
    raise AssertionError(_said(found, f"a bias of at most {percent(bound)} is not certified"))


def assert_agrees(
    gradient: Callable[..., Any],
    against: Callable[..., Any],
    parameters: Any = None,
    *,
    bound: float = 0.05,
    alpha: float = 1e-6,
    **options: Any,
) -> Audit:
    """Assert that two gradients have the same mean, to a part of the second one's.

    Parameters
    ----------
    gradient
        As in `gradmeter.audit`.
    against
        The other gradient, called in the same way.
    parameters
        As in `gradmeter.audit`.
    bound
        Largest norm of the difference of the means, relative to the norm of the mean of `against`; certified at 99.9 %.
    alpha
        Largest probability that two gradients with the same mean are called different; at least 1e-7.
    **options
        Further arguments of `gradmeter.audit`.

    Returns
    -------
    Audit
        Its verdict is `agrees`.

    Raises
    ------
    AssertionError
        The means differ, or the difference could not be bounded that well.
    UsageError
        As in `gradmeter.audit`.
    """
    __tracebackhide__ = True
    _check(alpha)
    found = _audited(gradient, parameters, {"bias_bound": bound, **options, "against": against})
    if found.verdict == "agrees":
        return found
    raise AssertionError(_said(found, f"agreement to {percent(bound)} is not certified"))


def assert_variance_below(
    gradient: Callable[..., Any], limit: float, parameters: Any = None, *, precision: float = 0.1, **options: Any
) -> Audit:
    """Assert that the variance of a gradient, the trace of its covariance, is below a limit.

    It fails if the 95 % interval of the variance reaches the limit, or cannot be trusted. So a gradient whose variance
    is truly at the limit fails in 97.5 % of cases, and one that is `precision` below it passes as often.

    Parameters
    ----------
    gradient, parameters
        As in `gradmeter.audit`.
    limit
        Largest variance.
    precision
        Half-width of the 95 % interval of log variance to reach.
    **options
        Further arguments of `gradmeter.audit`.

    Returns
    -------
    Audit
        What was found.

    Raises
    ------
    AssertionError
        The variance is not below the limit for certain.
    UsageError
        As in `gradmeter.audit`, or the limit is no number above 0.
    """
    __tracebackhide__ = True
    limit = number("limit", limit, above=0.0)
    found = _audited(gradient, parameters, {"precision": precision, **options})
    whole = found.whole
    if whole["variance_flag"] == "ok" and whole["variance_high"] < limit:
        return found
    measured = f"{significant(whole['variance'])} {interval(whole['variance_low'], whole['variance_high'])}"
    raise AssertionError(
        _said(found, f"its variance, {measured} ({whole['variance_flag']}), is not below {significant(limit)}")
    )


def _check(alpha: float) -> None:
    if number("alpha", alpha, above=0.0) < FALSE_ALARM:
        raise UsageError(
            f"alpha is {alpha}; a correct gradient is called biased once in ten million: 1e-7 is the least"
        )


def _audited(gradient: Callable[..., Any], parameters: Any, options: dict[str, Any]) -> Audit:
    found = audit(gradient, parameters, **options)
    for listener in listeners:
        listener(found)
    return found


def _said(found: Audit, what: str) -> str:
    return f"{found.name}: {what}\n{found}"
