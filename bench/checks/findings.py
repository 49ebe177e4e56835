"""What a check found: `ok`, `wrong`, or `not checked` with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.checks.lab import NoArray
from gradmeter.bench.forms import WrongForm
from gradmeter.estimators import UsageError

OK, WRONG, NOT_CHECKED = "ok", "wrong", "not checked"
#: Coordinates of z that a message shows.
MOST_SHOWN = 4


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    kind, name : of the object, such as `family` and `normal`.
    check : what was checked: the name of a method, or a property such as `samples`.
    status : `ok`, `wrong` or `not checked`.
    message : what is wrong, where, the two numbers and what to do; the reason where nothing was checked; else how
        closely it was checked.
    raised : whether the class's own code raised an exception.
    """

    kind: str
    name: str
    check: str
    status: str
    message: str = ""
    raised: bool = False

    @property
    def sentence(self) -> str:
        """The message after the object's name."""
        return f"{self.kind} {self.name}: {self.message}"

    def __str__(self) -> str:
        if self.status == WRONG:
            return f"{self.status:<12} {self.sentence}"
        detail = f" ({self.message})" if self.status == OK and self.message else ""
        reason = f": {self.message}" if self.status == NOT_CHECKED else ""
        return f"{self.status:<12} {self.kind} {self.name}: {self.check}{detail}{reason}"

    @property
    def as_json(self) -> str:
        shown = {n: getattr(self, n) for n in ("kind", "name", "check", "status", "message")}
        return json.dumps(shown, ensure_ascii=False)


class Findings(tuple[Finding, ...]):
    """The findings of `check`, in order; they print one a line."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def wrong(self) -> list[Finding]:
        """Those that are wrong."""
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
        message = f"{check} raises {type(error).__name__}: {one_line(error)}"
        return Finding(self.kind, self.name, check, WRONG, message, raised=True)


def wrong_form(error: WrongForm) -> Finding:
    """The finding that an object has not the form it must have."""
    return About(error.kind, error.name).wrong(error.part, error.message)


def one_line(error: BaseException) -> str:
    """An exception's message in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or "no message"


def number(value: Any) -> str:
    """A number as messages show it."""
    return f"{float(value):.6g}"


def numbers(values: Any) -> str:
    """One number, or a few in brackets."""
    flat = np.ravel(np.asarray(values, dtype=np.float64))
    if len(flat) == 1:
        return f"{flat[0]:.4g}"
    shown = ", ".join(f"{v:.4g}" for v in flat[:MOST_SHOWN])
    return f"[{shown}{', …' if len(flat) > MOST_SHOWN else ''}]"


def guarded(about: About, check: str, made: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; a reason where it cannot be made, and what is wrong where the class raises."""
    found: list[Finding] = []
    try:
        with np.errstate(all="ignore"):
            several = made()
            found.extend((several,) if isinstance(several, Finding) else several)
    except WrongForm as error:
        found.append(wrong_form(error))
    except UsageError as error:
        found.append(about.not_checked(check, one_line(error)))
    except Exception as error:  # the class's own code
        found.append(about.raised(check, error))
    return found
