"""Whose an object is: the project's own, an installed package's, or the user's."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

CATALOGUE = ("gradmeter",)
#: Types without parts, and their text.
ATOMS = {type(None): repr, bool: repr, int: hex, float: float.hex, complex: repr, str: str, bytes: bytes}
ATOMS |= {type(Ellipsis): repr, type(NotImplemented): repr}


def of_the_catalogue(thing: Any) -> bool:
    """Return whether a class or function is defined in the project's own packages."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] in CATALOGUE


def of_the_user(module: Any) -> bool:
    """Return whether a module of that name is outside the project, the standard library and installed packages."""
    return isinstance(module, str) and owner_of(module) is None


def brought(value: Any) -> bool:
    """Return whether an object is the user's: its class is not the project's own, or a part of it is the user's."""
    if type(value) in ATOMS:
        return False
    if isinstance(value, tuple | list):
        return any(brought(part) for part in value)
    kind: Any = type(value)
    known = named_class(kind)
    if known is None or known[0] != "catalogue":
        return True
    return any(brought(part) for part in state_of(value).values())


def once_for_class(function: Callable[..., T]) -> Callable[..., T]:
    """Cache results by class and further arguments; classes are compared by identity, since == may be redefined."""
    held: dict[tuple[Any, ...], tuple[Any, T]] = {}

    @functools.wraps(function)
    def call(cls: Any, *more: Any) -> T:
        key = (id(cls), *more)
        if key not in held:
            if len(held) > 4096:
                held.clear()
            held[key] = cls, function(cls, *more)
        return held[key][1]

    return call


def state_of(value: Any) -> dict[str, Any]:
    """Return an instance's attributes, including slots; cached properties are omitted, as they follow from others."""
    kind: type = type(value)
    found = {
        f"{i} {name}": slot.__get__(value, kind)
        for i, (name, slot) in enumerate(slots_of(kind))
        if hasattr(value, name)
    }
    held = getattr(value, "__dict__", {})
    return found | {name: part for name, part in held.items() if not _is_cached(kind, name)}


@once_for_class
def slots_of(kind: Any) -> list[tuple[str, Any]]:
    """Return the descriptors of all slots of a class, by name."""
    declared = [vars(cls) for cls in kind.__mro__ if "__slots__" in vars(cls)]
    return [(n, part) for names in declared for n, part in names.items() if type(part) is types.MemberDescriptorType]


@once_for_class
def _is_cached(kind: Any, name: str) -> bool:
    defined = next((vars(cls)[name] for cls in kind.__mro__ if name in vars(cls)), None)
    return isinstance(defined, functools.cached_property)


@once_for_class
def named_class(cls: Any) -> tuple[str, str, str] | None:
    """Return owner, module and name of a class that is neither the user's nor created by a call; None otherwise."""
    owner = owner_of(cls.__module__) if isinstance(cls.__module__, str) else None
    if owner is None:
        return None
    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    public = found is cls or not cls.__flags__ & 1 << 9  # an interpreter type may not be found under its name
    return (owner, cls.__module__, cls.__qualname__) if public else None


def owner_of(module: str) -> str | None:
    """Return the package of a module, with its version; None for the user's own module."""
    top = module.partition(".")[0]
    if top in CATALOGUE:
        return "catalogue"
    known = top in sys.stdlib_module_names or (top in sys.modules and top != "__main__")
    return _installed(top) if known else None


@functools.lru_cache(maxsize=4096)
def _installed(top: str) -> str | None:
    if top in sys.stdlib_module_names:
        return f"Python {platform.python_version()}"
    module = sys.modules[top]
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    if not any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places if place):
        return None
    version = getattr(module, "__version__", None)
    if not isinstance(version, str):
        try:
            version = importlib.metadata.version(top)
        except importlib.metadata.PackageNotFoundError:
            version = "of no version"
    return f"{top} {version}"
