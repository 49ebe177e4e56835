"""The recording of what a function does with NumPy arrays, call by call, on stand-ins for the arrays."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import array_api_compat.numpy
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

#: The most calls on a tape: a loop over a thousand coordinates should stay a loop.
MOST_CALLS = 1000
#: Functions that convert a Python number to the dtype of the other operand.
_WEAK = {np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum}
#: Functions whose result depends only on shapes and dtypes.
_STATIC = {np.shape, np.ndim, np.size, np.result_type}
_METHODS = {"astype", "copy", "reshape", "sum", "swapaxes", "transpose"}
_NAME = re.compile(r"\bv\d+\b")


class Unrecordable(Exception):
    """A function uses an array in a way that cannot be recorded."""


class StandIn(NDArrayOperatorsMixin):
    """A stand-in for an array during the recording, with its present values and its name on the tape."""

    def __init__(self, tape: Tape, value: Any, name: str) -> None:
        self._tape, self._value, self._name = tape, value, name

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.shape

    @property
    def ndim(self) -> int:
        return self._value.ndim

    @property
    def size(self) -> int:
        return self._value.size

    @property
    def dtype(self) -> Any:
        return self._value.dtype

    @property
    def T(self) -> Any:
        return self._tape.call(np.transpose, (self,), {})

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        return self._tape.call(operator.getitem, (self, index), {})

    def __pow__(self, exponent: Any) -> Any:  # differs from np.power for small whole exponents
        return self._tape.call(operator.pow, (self, exponent), {})

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return self._tape.call(ufunc if method == "__call__" else getattr(ufunc, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        return self._tape.call(function, inputs, options)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return array_api_compat.numpy

    def __getattr__(self, name: str) -> Any:
        if name not in _METHODS:
            raise Unrecordable(name)
        return lambda *inputs, **options: self._tape.call(getattr(np.ndarray, name), (self, *inputs), options)

    def _refuse(self, *given: Any, **options: Any) -> Any:
        raise Unrecordable

    __array__ = __bool__ = __float__ = __int__ = __index__ = __complex__ = __setitem__ = __contains__ = _refuse


@dataclass
class Call:
    """A recorded call: inputs, options and result by name, and the shape, dtype and strides of an array result."""

    function: Callable[..., Any]
    inputs: list[str]
    options: dict[str, str]
    result: str
    layout: tuple[Any, ...]

    @property
    def elementwise(self) -> bool:
        f = self.function
        return isinstance(f, np.ufunc) and f.signature is None and f.nout == 1 and not self.options

    @functools.cached_property
    def read(self) -> set[str]:
        """The names of the arrays that the call reads."""
        return {name for text in (*self.inputs, *self.options.values()) for name in names_in(text)}


class Tape:
    """The calls of one run of a function, and their constants by name."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.constants: dict[str, Any] = {}
        self._names: dict[Any, str] = {}
        self._made: dict[Any, str] = {}
        self._count = 0

    def stand_in(self, value: Any) -> StandIn:
        self._count += 1
        return StandIn(self, value, f"v{self._count}")

    def call(self, function: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Execute a call, and record it."""
        if "out" in options or len(self.calls) >= MOST_CALLS:
            raise Unrecordable
        value = function(*_numbers(inputs), **_numbers(options))
        if function in _STATIC:
            return value
        if not isinstance(value, np.ndarray | np.generic | tuple):
            raise Unrecordable
        if isinstance(function, np.ufunc) and function.signature is None:
            inputs = tuple(self._alike(function, each, inputs, value) for each in inputs)
        texts, named = [self.text(each) for each in inputs], {name: self.text(o) for name, o in options.items()}
        key = (self.constant(function), *texts, *named.items())
        found = self.stand_in(value)
        if key in self._made:
            found._name = self._made[key]
        else:
            self._made[key] = found._name
            layout = (value.shape, value.dtype, value.strides) if isinstance(value, np.ndarray) else ()
            self.calls.append(Call(function, texts, named, found._name, layout))
        return tuple(found[i] for i in range(len(value))) if isinstance(value, tuple) else found

    def _alike(self, function: Any, operand: Any, inputs: tuple[Any, ...], result: Any) -> Any:
        """Return an operand in the form that NumPy computes with fastest."""
        if type(operand) in (int, float) and function in _WEAK:
            kinds = {each.dtype for each in inputs if isinstance(each, StandIn | np.ndarray | np.generic)}
            if len(kinds) == 1 and (kind := kinds.pop()).kind == "f":
                return np.asarray(operand, dtype=kind)
        missing_axes = result.ndim - operand.ndim if isinstance(operand, StandIn) else 0
        return operand[(None,) * missing_axes] if missing_axes > 0 and operand.size == result.size else operand

    def text(self, given: Any) -> str:
        """Return Python source for an argument, a result, or a structure of them."""
        if isinstance(given, StandIn):
            return given._name
        if type(given) is list:
            return f"[{', '.join(map(self.text, given))}]"
        if type(given) is tuple:
            return f"({''.join(self.text(each) + ', ' for each in given)})"
        if type(given) is dict:
            return "{" + ", ".join(f"{name!r}: {self.text(each)}" for name, each in given.items()) + "}"
        return self.constant(given)

    def constant(self, value: Any) -> str:
        if isinstance(value, np.ndarray) and value.ndim == 0:
            key: Any = (value.dtype, value.tobytes())
        elif isinstance(value, bool | int | float | str | None | slice | type(...)):
            key = (type(value), repr(value))
        else:
            key = id(value)  # unique, because the value is kept
        name = self._names.setdefault(key, f"c{len(self._names)}")
        self.constants.setdefault(name, value)
        return name


def _numbers(given: Any) -> Any:
    """Return the same structure with arrays in place of stand-ins."""
    if isinstance(given, StandIn):
        return given._value
    if type(given) in (list, tuple):
        return type(given)(_numbers(each) for each in given)
    return {name: _numbers(each) for name, each in given.items()} if type(given) is dict else given


def names_in(text: str) -> list[str]:
    """Return the names of the arrays that source from `Tape.text` reads."""
    return _NAME.findall(text)
