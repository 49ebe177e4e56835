"""The compiled form for NumPy: a pure function's calls, recorded for arguments of given shapes and replayed.

The function runs once on stand-ins that record every NumPy call. The recording becomes one straight-line Python
function without the lookups and branches between the calls, which take longer than the arithmetic for small arrays. The
result is the same to the last bit, with these savings:

- a call that repeats an earlier one on the same operands is left out;
- a Python number is made an array once, and an operand that lacks leading axes of length one is given them, because for
  small arrays broadcasting costs more than computing;
- a result takes the memory of an operand that is not read again.

As with any compiler, the function must not branch on the numbers in an array, write into an array, or pass one to code
other than NumPy. Such a function is called unrecorded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradmeter.estimators.backends.tape import Call, Tape, Unrecordable, names_in

#: The most argument shapes that one function is recorded for.
MOST_SHAPES = 16
#: Functions that read arrays and return no view of them, in addition to all ufuncs.
_READERS = {operator.pow, np.sum, np.mean, np.max, np.min, np.where, np.stack, np.concatenate}
#: Ufuncs that do not accept an output as their third positional argument any more.
_KEYWORD_OUT = {np.maximum, np.minimum}
OTHER = object()


def _unpacked(tape: Tape, given: Any, path: str, lines: list[str], checks: list[str]) -> Any:
    """Return stand-ins for an argument.

    The code that unpacks and checks later arguments is appended to `lines` and `checks`.
    """
    if isinstance(given, np.ndarray):
        found = tape.stand_in(given)
        lines.append(f"{found._name} = {path}")
        checks.append(f"{found._name}.shape != {tape.constant(given.shape)}")
        checks.append(f"{found._name}.dtype is not {tape.constant(given.dtype)}")
        return found
    if not isinstance(given, dict):
        raise Unrecordable
    checks.append(f"len({path}) != {len(given)}")
    return {name: _unpacked(tape, each, f"{path}[{name!r}]", lines, checks) for name, each in given.items()}


def _needed(tape: Tape, kept: set[str]) -> list[Call]:
    """Return the calls whose results are read, in order."""
    read, found = set(kept), []
    for call in reversed(tape.calls):
        if call.result in read:
            read |= call.read
            found.append(call)
    return found[::-1]


def _statements(tape: Tape, kept: set[str]) -> Iterator[str]:
    """Yield one statement per call.

    Arrays are deleted after their last use, and their memory is reused for results where possible.
    """
    calls = _needed(tape, kept)
    last = {name: i for i, call in enumerate(calls) for name in call.read}
    owned: dict[str, tuple[Any, ...]] = {}  # layouts, by name, of arrays that have no views
    for i, call in enumerate(calls):
        done = sorted(name for name in call.read if last[name] == i and name not in kept)
        arguments = [*call.inputs, *(f"{name}={text}" for name, text in call.options.items())]
        if call.elementwise:
            out = "out=" if call.function in _KEYWORD_OUT else ""
            arguments += [f"{out}{name}" for name in done if owned.get(name) == call.layout][:1]
            if call.layout:
                owned[call.result] = call.layout
        elif not isinstance(call.function, np.ufunc) and call.function not in _READERS:
            for name in call.read:  # the result may be a view
                owned.pop(name, None)
        if call.function is operator.getitem:
            yield f"{call.result} = {arguments[0]}[{arguments[1]}]"
        else:
            yield f"{call.result} = {tape.constant(call.function)}({', '.join(arguments)})"
        if done:
            yield f"del {', '.join(done)}"


def record(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a function that replays `function` for arguments of these shapes, and returns `OTHER` for any others.

    Raises
    ------
    Unrecordable
        The function uses an array in a way that cannot be recorded.
    """
    tape = Tape()
    finding: list[str] = []
    checks: list[str] = []
    names = [f"a{i}" for i in range(len(arguments))]
    stand_ins = [_unpacked(tape, a, name, finding, checks) for a, name in zip(arguments, names, strict=True)]
    result = tape.text(function(*stand_ins))
    lines = [
        f"def replay({', '.join(names)}):",
        " try:",
        *(f"  {line}" for line in finding),
        f"  if {' or '.join(checks) or False}: return OTHER",
        " except (AttributeError, LookupError, TypeError): return OTHER",
        *(f" {line}" for line in _statements(tape, set(names_in(result)))),
        f" return {result}",
    ]
    scope = {**tape.constants, "OTHER": OTHER}
    exec("\n".join(lines), scope)
    return scope["replay"]


def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, recorded for each combination of argument shapes that it is called with."""
    replays: list[Callable[..., Any]] = []
    plain = False

    def call(*arguments: Any) -> Any:
        nonlocal plain
        for replay in replays:
            found = replay(*arguments)
            if found is not OTHER:
                return found
        if plain or len(replays) == MOST_SHAPES:
            return function(*arguments)
        try:
            replays.append(record(function, arguments))
        except Exception:  # an error of the function itself is raised again below
            plain = True
            return function(*arguments)
        return replays[-1](*arguments)

    return call
