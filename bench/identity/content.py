"""Digests of content: two objects belong to the same cell only if they compute the same thing.

Objects that the project, the standard library or an installed package defines are identified by name, together with the
version of their package. Everything else is the user's and is hashed by content, recursively: functions by their
instructions and constants, the values they close over or default to, and the globals and modules they name; classes by
all attributes, including those of bases; instances by class and state; arrays by dtype, shape and bytes.

Functions are compared as compiled, without docstrings and line numbers: a file may have been edited since it was
imported, and a lambda or a function typed into a session has no file. Objects are not serialised as bytes, which differ
between two compilations of one source, and refer to an importable class by name only.
"""

from __future__ import annotations

import builtins
import copyreg
import enum
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradmeter.bench.identity.code import ABOUT, read_by
from gradmeter.bench.identity.owner import ATOMS, named_class, once_for_class, owner_of, slots_of, state_of
from gradmeter.estimators import UsageError

_CONTAINERS: tuple[type, ...] = (dict, list, tuple, set, frozenset, str, bytes, int, float, complex)
_BUILTIN = (
    *(types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType, types.MethodWrapperType),
    *(types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType),
)
#: Functions that look up objects by a text known only at run time.
_BY_TEXT = {"eval", "exec", "globals", "__import__", "import_module", "reload", "sys.modules"}
#: Objects hashed by identity, kept alive so that their ids stay unique.
_KEPT: dict[int, Any] = {}


class Unhashable(UsageError):
    """An object has content that cannot be hashed; the message says where."""


def digest(value: Any, what: str) -> str:
    """Return the SHA-256 of an object's content, the same in every process.

    Parameters
    ----------
    value : object
        The object to hash.
    what : str
        Its name in error messages, which give the path to a part.

    Raises
    ------
    Unhashable
        A part has no content that can be hashed, such as an open file, a generator or a lock.
    """
    return _Walk(by_identity=False).of(value, what)


@dataclass(frozen=True)
class Same:
    """A cache key, equal for two objects with the same content at construction, within one process.

    Parts without content are equal only to themselves.
    """

    value: Any = field(compare=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", _Walk(by_identity=True).of(self.value, ""))


class _Walk:
    """One traversal of everything reachable from an object.

    Objects are numbered when first met, and hashed by their number when met again, so that the traversal ends on
    cycles.
    """

    def __init__(self, by_identity: bool, path: Iterable[str] = ()) -> None:
        self.by_identity = by_identity
        self.hash = hashlib.sha256()
        self.numbers: dict[int, int] = {}
        self.met: list[Any] = []  # kept alive, so that no id is reused
        self.path = list(path)

    def of(self, value: Any, what: str) -> str:
        where = "".join([*self.path, what])
        try:
            self.visit(value, what)
        except RecursionError:
            if not self.by_identity:
                raise Unhashable(f"{where} is nested too deeply for its content to be hashed") from None
            self.without_content(value)
        return self.hash.hexdigest()

    def put(self, *parts: str | bytes | int) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
            self.hash.update(b"%d:" % len(data) + data)

    def without_content(self, value: Any, why: str | None = None) -> None:
        """Hash the object by its identity, or raise Unhashable."""
        if not self.by_identity:
            why = why or f"is a {type(value).__name__}, which has no content that can be hashed"
            raise Unhashable(f"{''.join(self.path)} {why}")
        _KEPT[id(value)] = value
        self.put("identity", id(value))

    def visit(self, value: Any, label: str = "") -> None:
        kind = type(value)
        if kind in ATOMS:
            self.put(kind.__name__, ATOMS[kind](value))  # type: ignore[operator]
            return
        if kind is not tuple:  # the compiler may or may not share tuples
            if id(value) in self.numbers:
                self.put("again", self.numbers[id(value)])
                return
            self.numbers[id(value)] = len(self.numbers)
            self.met.append(value)
        self.path.append(label)
        self.content(value, kind)
        self.path.pop()

    def content(self, value: Any, kind: type) -> None:
        if isinstance(value, np.ndarray) or _is_a("torch", "Tensor", value) or _is_a("jax", "Array", value):
            self.array(value, kind)
        elif isinstance(value, type):
            self.cls(value)
        elif kind is types.FunctionType:
            self.function(value)
        elif kind is types.MethodType:
            self.put("method")
            self.visit(value.__func__)
            self.visit(value.__self__)
        elif isinstance(value, types.ModuleType):
            self.module(value)
        elif kind in _BUILTIN:
            self.builtin(value)
        elif kind is types.CodeType:
            self.code(value, {})
        elif kind is types.CellType:
            self.put("cell")
            self.cell(value, "")
        elif kind is property:
            self.parts("property", value.fget, value.fset, value.fdel)
        elif kind in (staticmethod, classmethod):
            self.parts(kind.__name__, value.__func__)
        elif kind is functools.cached_property:
            self.parts("cached property", value.func)
        elif isinstance(value, logging.Logger):
            self.put("logger", value.name)  # computes nothing
        elif kind in (dict, types.MappingProxyType):
            self.mapping(value)
        elif kind in (list, tuple):
            self.put(kind.__name__, len(value))
            for i, part in enumerate(value):
                self.visit(part, f"[{i}]")
        elif kind in (set, frozenset):
            self.put(kind.__name__, len(value))
            self.put(*sorted(_Walk(self.by_identity, self.path).of(part, "") for part in value))
        else:
            self.instance(value, kind)

    def parts(self, what: str, *parts: Any) -> None:
        self.put(what, len(parts))
        for part in parts:
            self.visit(part)

    def mapping(self, value: Mapping[Any, Any]) -> None:
        self.put("dict", len(value))
        for key, part in value.items():
            self.visit(key, " a key")
            self.visit(part, f"[{key!r}]" if type(key) in ATOMS else "[...]")

    def named(self, values: Mapping[str, Any], label: str) -> None:
        """Hash values by name, independent of their order."""
        self.put("named", len(values))
        for name in sorted(values):
            self.put(name)
            self.visit(values[name], label + name)

    def array(self, value: Any, kind: type) -> None:
        try:
            framework, dtype, shape, data = _array(value)
        except Exception:  # traced, without storage, or of a layout without bytes of its own
            self.without_content(value)
            return
        self.put("array", framework, dtype, str(shape))
        if data is None:  # Python objects
            self.visit(value.tolist())
        else:
            self.put(data)
        if isinstance(value, np.ndarray) and kind not in (np.ndarray, np.memmap):
            self.visit(kind)
            self.named(state_of(value), ".")

    def instance(self, value: Any, kind: type) -> None:
        if isinstance(value, enum.Enum):
            self.put("enum", value.name)
            self.visit(kind)
            self.visit(value.value, ".value")
            return
        if _is_a("torch._dynamo.eval_frame", "OptimizedModule", value):
            self.put("compiled")
            self.visit(value._orig_mod)
            return
        base = next((c for c in _CONTAINERS if isinstance(value, c)), object)
        if not _hides_state(kind, base):
            self.put("instance")
            self.visit(kind)
            if base is not object:
                self.visit(base(value))
            self.named(state_of(value), ".")
        elif callable(value) and hasattr(value, "__wrapped__"):  # a cache, or compiled by a framework
            self.put("wrapper")
            self.visit(kind)
            self.visit(value.__wrapped__)
        else:
            self.reduced(value, kind)

    def reduced(self, value: Any, kind: type) -> None:
        """Hash an object implemented in C by what it reduces to, or by identity if it cannot be reduced."""
        try:
            reduce = copyreg.dispatch_table.get(kind)
            made = reduce(value) if reduce else value.__reduce_ex__(4)
            if isinstance(made, str):
                made = (made, _package_of(value, made))
            else:
                made = (*made[:3], *(list(items) for items in made[3:5] if items is not None))
        except Exception:
            self.without_content(value)
            return
        self.put("reduced")
        self.visit(kind)
        self.visit(made)

    def cls(self, cls: type) -> None:
        known = named_class(cls)
        if known is not None:
            self.put("class", *known)
            return
        self.put("class of the user", cls.__name__, len(cls.__mro__))
        for base in (*cls.__mro__[1:], type(cls)):
            self.visit(base)
        attributes = {name: part for name, part in vars(cls).items() if name not in ABOUT}
        slots = {name for name, part in attributes.items() if type(part) is types.MemberDescriptorType}
        self.put(*sorted(slots))
        self.named({name: part for name, part in attributes.items() if name not in slots}, ".")

    def module(self, module: types.ModuleType) -> None:
        owner = owner_of(module.__name__)
        if owner is not None:
            self.put("module", owner, module.__name__)
            return
        self.put("module of the user")
        self.named({n: part for n, part in vars(module).items() if not n.startswith("__")}, ".")

    def builtin(self, value: Any) -> None:
        owner, bound = getattr(value, "__objclass__", None), getattr(value, "__self__", None)
        module = getattr(value, "__module__", None) or getattr(bound, "__name__", "")
        self.put("builtin", str(module), owner_of(str(module)) or "", getattr(value, "__qualname__", value.__name__))
        self.visit(owner)
        self.visit(None if isinstance(bound, types.ModuleType) else bound)

    def function(self, function: types.FunctionType) -> None:
        name, code = function.__globals__.get("__name__"), function.__code__
        module = sys.modules.get(name) if isinstance(name, str) else None
        owner = owner_of(str(name)) if getattr(module, "__dict__", None) is function.__globals__ else None
        self.put("function", owner or "")
        if owner is not None:
            self.put(str(name), code.co_qualname)
            if "_torchdynamo_orig_callable" in vars(function):  # other attributes contain addresses
                self.visit(function._torchdynamo_orig_callable)  # type: ignore[attr-defined]
                return
            if "<" not in code.co_qualname:
                return
            self.code(code, None)  # one of several lambdas, or created by a call
        else:
            self.code(code, function.__globals__)
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self.cell(cell, f" → {variable}")
        self.visit(function.__defaults__, " default ")
        self.visit(function.__kwdefaults__, " default ")
        self.named(vars(function), ".")

    def cell(self, cell: types.CellType, label: str) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            self.put("empty")
        else:
            self.visit(value, label)

    def code(self, code: types.CodeType, scope: Mapping[str, Any] | None) -> None:
        """Hash instructions, constants and what they read of the globals `scope`; None if their owner is hashed."""
        read = read_by(code)
        self.put("code", read.instructions, len(read.constants))
        for constant in read.constants:
            if isinstance(constant, types.CodeType):
                self.code(constant, scope)
            else:
                self.visit(constant)
        if scope is None:
            return
        for level, name, wanted in read.imports:
            self.imported(level, name, wanted, scope)
        for chain in read.globals:
            self.name(chain, scope)

    def name(self, chain: tuple[str, ...], scope: Mapping[str, Any]) -> None:
        """Hash a global that is read, or the attribute that is read through the user's modules."""
        if chain[0] in scope:
            self.reached(scope[chain[0]], chain[0], chain[1:])
        else:
            self.put("builtin" if hasattr(builtins, chain[0]) else "missing", chain[0])
        self.refuse_texts(chain)

    def refuse_texts(self, chain: tuple[str, ...]) -> None:
        found = _BY_TEXT & {*chain, ".".join(chain[:2])}
        if found:
            self.without_content(chain, f"uses {min(found)}: what that finds by name cannot be hashed")

    def reached(self, value: Any, name: str, chain: tuple[str, ...]) -> None:
        while chain and isinstance(value, types.ModuleType) and owner_of(value.__name__) is None:
            name, value, chain = f"{name}.{chain[0]}", getattr(value, chain[0], None), chain[1:]
        self.put(name)
        self.visit(value, f" → {name}")

    def imported(self, level: int, name: str, wanted: tuple[str, ...] | None, scope: Mapping[str, Any]) -> None:
        """Hash what an import statement inside a function imports."""
        try:
            package = scope.get("__package__") or str(scope.get("__name__", "")).rpartition(".")[0]
            module = importlib.import_module(importlib.util.resolve_name("." * level + name, package))
        except Exception as error:
            self.put("cannot be imported", level, name, type(error).__name__)
            return
        if owner_of(module.__name__) is not None or not wanted or "*" in wanted:
            self.visit(module, f" → {name}")
            return
        for attribute in wanted:
            if not hasattr(module, attribute):  # possibly a submodule
                self.imported(0, f"{module.__name__}.{attribute}", None, scope)
            else:
                self.reached(module, name, (attribute,))


def _is_a(module: str, name: str, value: Any) -> bool:
    """Return whether a value is of a framework's class, without importing the framework."""
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name, ()))


def _array(value: Any) -> tuple[str, str, tuple[int, ...], bytes | None]:
    """Return framework, dtype, shape and bytes; the bytes are None for an array of Python objects."""
    if isinstance(value, np.ndarray):
        plain = np.asarray(value)
        return "numpy", str(plain.dtype), plain.shape, None if plain.dtype.hasobject else plain.tobytes()
    if _is_a("torch", "Tensor", value):
        torch = sys.modules["torch"]
        whole = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return "torch", str(value.dtype), tuple(value.shape), whole.reshape(-1).view(torch.uint8).numpy().tobytes()
    jax = sys.modules["jax"]
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "jax", str(value.dtype), value.shape, np.asarray(jax.random.key_data(value)).tobytes()
    return "jax", str(value.dtype), value.shape, np.asarray(value).tobytes()


def _package_of(value: Any, name: str) -> str:
    """Return the installed package and version that define a constant under that name.

    The package of the value's type takes precedence over packages that import the constant.
    """
    own = type(value).__module__.partition(".")[0]
    having = {
        n.partition(".")[0] for n, m in list(sys.modules.items()) if getattr(m, "__dict__", {}).get(name) is value
    }
    packages = [top for top in having if owner_of(top) is not None]
    return str(owner_of(min(packages, key=lambda top: (top != own, top))))  # ValueError if there is no package


@once_for_class
def _hides_state(kind: Any, base: Any) -> bool:
    """Return whether instances hold more than `base`, `__dict__` and slots: C fields, which cannot be read."""
    references = len(slots_of(kind)) + (kind.__dictoffset__ not in (0, -1)) + (kind.__weakrefoffset__ > 0)
    return kind.__basicsize__ > base.__basicsize__ + 8 * references or kind.__itemsize__ != base.__itemsize__
