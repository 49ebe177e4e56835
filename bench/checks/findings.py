"""Results of checks: `ok`, `wrong`, or `not checked` with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.checks.lab import NoArray
from gradmeter.bench.forms.objects import WrongForm
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import contained, one_line, typed

OK, WRONG, NOT_CHECKED = "ok", "wrong", "not checked"
#: Number of coordinates of z shown in a message.
MOST_SHOWN = 4


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    kind, name : str
        Kind and name of the object, such as `family` and `normal`.
    check : str
        Name of the method or property checked, such as `samples`.
    status : str
        `ok`, `wrong` or `not checked`.
    message : str
        If wrong, what and where, both numbers, and what to do. If not checked, the reason. Else the precision of the
        check.
    raised : bool
        Whether the class's code raised an exception.
    """

    kind: str
    name: str
    check: str
    status: str
    message: str = ""
    raised: bool = False

    @property
    def sentence(self) -> str:
        """The message, preceded by the object's kind and name."""
        return f"{self.kind} {self.name}: {self.message}"

    def __str__(self) -> str:
        if self.status == WRONG:
            return f"{self.status:<12} {self.sentence}"
        detail = f" ({self.message})" if self.status == OK and self.message else ""
        reason = f": {self.message}" if self.status == NOT_CHECKED else ""
        return f"{self.status:<12} {self.kind} {self.name}: {self.check}{detail}{reason}"

    @property
    def as_json(self) -> str:
        """The finding as a JSON object."""
        shown = {n: getattr(self, n) for n in ("kind", "name", "check", "status", "message")}
        return json.dumps(shown, ensure_ascii=False)


class Findings(tuple[Finding, ...]):
    """The findings of `check` in order, printed one per line."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def wrong(self) -> list[Finding]:
        """The findings with status `wrong`."""
        return [found for found in self if found.status == WRONG]

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__


@dataclass(frozen=True)
class About:
    """The object that findings are about."""

    kind: str
    name: str

    def ok(self, check: str, message: str = "") -> Finding:
        return Finding(self.kind, self.name, check, OK, message)

    def wrong(self, check: str, message: str) -> Finding:
        return Finding(self.kind, self.name, check, WRONG, message)

    def not_checked(self, check: str, reason: str) -> Finding:
        return Finding(self.kind, self.name, check, NOT_CHECKED, reason)

    def raised(self, check: str, error: BaseException) -> Finding:
        if isinstance(error, NoArray):
            return self.wrong(check, f"{check}: {error}")
        return Finding(self.kind, self.name, check, WRONG, f"{check} raises {typed(error)}", raised=True)


def wrong_form(error: WrongForm) -> Finding:
    """Return the finding that an object does not have the required form."""
    return About(error.kind, error.name).wrong(error.part, error.message)


def number(value: Any) -> str:
    """Format a number for messages."""
    return f"{float(value):.6g}"


def numbers(values: Any) -> str:
    """Format one number, or a few in brackets."""
    flat = np.ravel(np.asarray(values, dtype=np.float64))
    if len(flat) == 1:
        return f"{flat[0]:.4g}"
    shown = ", ".join(f"{v:.4g}" for v in flat[:MOST_SHOWN])
    return f"[{shown}{', …' if len(flat) > MOST_SHOWN else ''}]"


def guarded(about: About, check: str, made: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """Return the findings of a check, with exceptions turned into findings.

    UsageError means that the check cannot be made; any other exception, that the class is wrong.

    Parameters
    ----------
    about
        What the findings are about.
    check
        The method that is checked.
    made
        Makes the check.
    """
    found: list[Finding] = []
    try:
        with contained(), np.errstate(all="ignore"):
            several = made()
            found.extend((several,) if isinstance(several, Finding) else several)
    except WrongForm as error:
        found.append(wrong_form(error))
    except UsageError as error:
        found.append(about.not_checked(check, one_line(error)))
    except Exception as error:  # raised by the class's code
        found.append(about.raised(check, error))
    return found
