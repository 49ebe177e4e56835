"""NumPy's compiled form: the calls that a pure function makes, recorded once for arrays of given shapes, then replayed.

The function runs once on stand-ins that note every NumPy call. What they noted becomes one straight Python function
without the lookups and choices between the calls, which for small arrays take longer than the arithmetic. It does the
same arithmetic, to the last bit, with these savings:

- a call made before on the same operands is not made again;
- of few numbers NumPy is slower to broadcast than to compute, so a Python number is made an array once, and an operand
  that lacks leading axes of length one is given them;
- a result takes the memory of an operand that nothing reads any more.

What a function of arrays must not do here, any compiler forbids: choose by the numbers in an array, write into one, or
hand one to what is not NumPy. Such a function is called as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradmeter.estimators.backends.tape import Call, Tape, Unrecordable, names_in

#: Shapes of arguments that one function is recorded for at most.
MOST_SHAPES = 16
#: What reads arrays and returns no view of them, beside all ufuncs.
_READERS = {operator.pow, np.sum, np.mean, np.max, np.min, np.where, np.stack, np.concatenate}
#: Ufuncs that no longer take an output as their third argument.
_KEYWORD_OUT = {np.maximum, np.minimum}
OTHER = object()


def _unpacked(tape: Tape, given: Any, path: str, lines: list[str], checks: list[str]) -> Any:
    """Stand-ins for arguments; the lines that find these in other arguments, and what must hold for those."""
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
    """The calls whose results are read, in order."""
    read, found = set(kept), []
    for call in reversed(tape.calls):
        if call.result in read:
            read |= call.read
            found.append(call)
    return found[::-1]


def _statements(tape: Tape, kept: set[str]) -> Iterator[str]:
    """One for each call, with what is read for the last time forgotten, and its memory taken where that can be."""
    calls = _needed(tape, kept)
    last = {name: i for i, call in enumerate(calls) for name in call.read}
    owned: dict[str, tuple[Any, ...]] = {}  # by name, the layout of arrays that nothing else is a view of
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
    """A function that does what `function` does for arguments shaped as these, and returns `OTHER` for any others.

    Raises
    ------
    Unrecordable
        It does what cannot be recorded.
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
    """The function, recorded for each family of shapes that it is called with."""
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
        except Exception:  # whatever it is, the function itself will raise it if it is at fault
            plain = True
            return function(*arguments)
        return replays[-1](*arguments)

    return call
