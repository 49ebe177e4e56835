"""Find out which parts declare the discontinuities of an estimate.

Quadrature does not detect undeclared discontinuities. The classes of the catalogue are checked against exact gradients,
so their declarations are trusted. A user's own parts are integrated only if they declare for themselves: a class that
overrides a method may have added a branch of which the inherited declaration knows nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from gradmeter.bench.identity.owner import of_the_catalogue
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.estimators import Estimator, Family, Integrand
from gradmeter.estimators.amortised import Amortised

#: How a class of each kind declares its discontinuities, and the advice if it does not.
DECLARATIONS: dict[type, tuple[str, str]] = {
    Estimator: ("discontinuities", "define `discontinuities` there too: where an estimate jumps, by name of noise"),
    Family: (
        "discontinuities",
        "define `discontinuities` there too: where a sample jumps or has a corner, by name of noise",
    ),
    Integrand: ("unsupported", "say `unsupported = {}` there if f is smooth, else what it lacks"),
}


def undeclared(setting: Setting) -> str | None:
    """Return which user-defined part does not declare its discontinuities, with advice, in one line; None if all do."""
    if not setting.users_parts:
        return None
    expectation, estimator = setting.expectation, setting.estimator
    if not of_the_catalogue(type(expectation)):
        return f"expectation {type(expectation).__name__} is of a class of its own, whose jumps are not known"
    if isinstance(estimator, Amortised) and not of_the_catalogue(type(estimator.inner)):
        return f"{estimator.inner.name} is a class of its own, whose jumps are not known for every datum at once"
    return next(_undeclared([estimator, expectation.family, expectation.integrand]), None)


def all_of_the_catalogue(setting: Setting) -> bool:
    """Return whether everything is from the catalogue, without a class or a function of a user's own."""
    parts = setting.estimator, setting.expectation.family, setting.expectation.integrand
    return not setting.users_parts or all(of_the_catalogue(type(part)) for each in parts for part in _parts(each))


def _parts(thing: Any) -> Iterator[Any]:
    """Yield an object and, recursively, its parts."""
    yield thing
    if is_dataclass(thing):
        for each in fields(thing):
            part = getattr(thing, each.name)
            if isinstance(part, tuple(DECLARATIONS)):
                yield from _parts(part)
            elif callable(part):
                yield part


def _undeclared(things: list[Any]) -> Iterator[str]:
    for thing in things:
        for part in _parts(thing):
            if not isinstance(part, tuple(DECLARATIONS)):
                if not of_the_catalogue(part):
                    yield "f is a function of the user's own, which does not say where it jumps"
                continue
            kind = next(each for each in DECLARATIONS if isinstance(part, each))
            name, remedy = DECLARATIONS[kind]
            said = False
            for cls in type(part).__mro__:
                if cls is object or of_the_catalogue(cls):
                    continue
                said = said or name in vars(cls)
                own = [each for each, value in vars(cls).items() if not each.startswith("__") and _computes(value)]
                if own and not said:
                    yield f"{cls.__name__} defines {own[0]}, and does not say where that jumps; {remedy}"


def _computes(value: Any) -> bool:
    """Return whether an attribute of a class is code."""
    return isinstance(value, (property, classmethod, staticmethod)) or (callable(value) and not inspect.isclass(value))
