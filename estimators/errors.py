"""Errors of usage ("what you asked for is wrong"), as opposed to faults of this package."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

MOST_SUGGESTIONS, MOST_LISTED, SHORTEST_PART = 5, 10, 3
#: Characters of a value that messages show.
MOST_SHOWN = 60
#: Unicode categories of control characters, direction overrides, lone surrogates and separators of lines.
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")


class UsageError(ValueError):
    """A name or value that cannot be used. The message is one line: what is wrong, then what would be right."""


class NotApplicable(UsageError):
    """A combination that exists in the grid but has no meaning. A result row shows the message as the reason."""


class ForeignExit(Exception):
    """A user's code raised something that is no `Exception`, such as SystemExit; the message says what."""


@contextmanager
def contained() -> Iterator[None]:
    """Run a user's code: what it raises that is neither an `Exception` nor Ctrl-C becomes a `ForeignExit`."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        said = "it calls sys.exit" if isinstance(error, SystemExit) else typed(error)
        raise ForeignExit(said).with_traceback(error.__traceback__) from None


def acts(character: str) -> bool:
    """Return whether a character acts on a terminal or a page rather than being shown, such as an escape code."""
    return unicodedata.category(character) in _ACTING


def printable(text: str) -> str:
    """Return a text with a space for each character that acts: safe to print, whoever wrote it."""
    return text if text.isprintable() else "".join(" " if acts(c) else c for c in text)


def one_line(error: BaseException, most: int = 300) -> str:
    """Return an exception's message on one line, of at most `most` characters; also if the message raises."""
    try:
        return " ".join(printable(str(error)[: 20 * most]).split())[:most] or "no message"
    except KeyboardInterrupt:
        raise
    except BaseException:  # of a user's class, SystemExit too
        return "its message cannot be read"


def typed(error: BaseException, most: int = 300) -> str:
    """Return an exception as `type: message` on one line."""
    kind = "" if isinstance(error, ForeignExit) else f"{short(type(error).__name__)}: "
    return kind + one_line(error, most)


def short(value: object) -> str:
    """Return a value as messages show it: its text, cut at 60 characters."""
    try:
        text = printable(str(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in ...
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def unknown(
    kind: str, given: str, known: Iterable[str], listing: str = "", aliases: Mapping[str, str] | None = None
) -> UsageError:
    """Return an error for a name that is not known, with the right ones that are near.

    Parameters
    ----------
    kind
        What was named, such as `problem`.
    given
        The unknown name.
    known
        The right names.
    listing
        The command that shows all of `known`, for where they are many.
    aliases
        More names that are accepted, and what each stands for.

    Returns
    -------
    UsageError
        To be raised.
    """
    names, aliases = list(known), aliases or {}
    near: dict[str, str] = {}
    for name in _near(given.lower(), [*names, *aliases]):  # one of several aliases of one thing
        target = aliases.get(name, name)
        near.setdefault(target, f"'{name}'" + (f" ({target})" if name in aliases else ""))
    if near:
        *first, last = list(near.values())[:MOST_SUGGESTIONS]
        hint = f"did you mean {', '.join(first)}{' or ' if first else ''}{last}?"
        if len(near) > MOST_SUGGESTIONS and listing:
            hint += f" See all with: {listing}"
    elif len(names) > MOST_LISTED and listing:
        shown = ", ".join(names[:MOST_SUGGESTIONS])
        hint = f"choose from: {shown} and {len(names) - MOST_SUGGESTIONS} more; see all with: {listing}"
    else:
        hint = f"choose from: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} '{short(given)}'; {hint}")


def _near(given: str, names: list[str]) -> list[str]:
    """Return the names that `given` may mean.

    That is the name of which it is a typing error; else those it is a part of or a misspelt word of; else a similar
    name, or those it begins with.
    """
    part = [name for name in names if len(given) >= SHORTEST_PART and given in name]
    typing = difflib.get_close_matches(given, names, n=1, cutoff=0.9 if part else 0.8)
    if typing:
        return typing
    word = [name for name in names if difflib.get_close_matches(given, name.split("-"), n=1, cutoff=0.8)]
    similar = difflib.get_close_matches(given, names, n=1, cutoff=0.65)
    begins = [name for name in names if len(name) >= SHORTEST_PART and given.startswith(name)]
    return list(dict.fromkeys(part + word)) or similar or begins
