"""Estimators, families, problems and suites of other packages.

A package offers them as entry points of the groups in `GROUPS`, by the names that users give:

    [project.entry-points."gradmeter.estimators"]
    mine = "my_package.module:Mine"

The names come from the metadata of installed packages. The code of an entry is imported when it is first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from gradmeter.estimators.errors import UsageError, contained, typed

#: Group of entry points by kind.
GROUPS = {
    "estimator": "gradmeter.estimators",
    "family": "gradmeter.families",
    "problem": "gradmeter.problems",
    "suite": "gradmeter.suites",
}


@functools.cache
def offered(kind: str) -> dict[str, metadata.EntryPoint]:
    """Return the entry points of a kind by name; where two packages offer one name, the first counts."""
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=GROUPS[kind]):
        found.setdefault(entry.name, entry)
    return found


def package_of(kind: str, name: str) -> str:
    """Return the distribution that offers an entry, for a listing."""
    entry = offered(kind)[name]
    return entry.dist.name if entry.dist is not None else entry.value.partition(":")[0]


@functools.cache
def imported(kind: str, name: str) -> Any:
    """Import what an entry point names.

    Raises
    ------
    UsageError
        It cannot be imported.
    """
    entry = offered(kind)[name]
    try:
        with contained():
            return entry.load()
    except Exception as error:  # the package may raise anything
        raise UsageError(f"{kind} {name} of {package_of(kind, name)} cannot be imported: {typed(error)}") from error


class Registry(dict[str, Any]):
    """Classes of one kind by name: those of gradmeter, those that `add` took, and those that other packages offer.

    Only the classes that have been imported are iterated over; `names` has the others too.
    """

    def __init__(self, kind: str, base: type, classes: Mapping[str, type]) -> None:
        super().__init__(classes)
        self.kind, self.base, self._own = kind, base, frozenset(classes)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and name in offered(self.kind))

    def __missing__(self, name: str) -> Any:
        if name not in offered(self.kind):
            raise KeyError(name)
        self.add(imported(self.kind, name), name)
        return super().__getitem__(name)

    def names(self) -> list[str]:
        """Return all names: those of gradmeter first."""
        return list(dict.fromkeys([*self, *offered(self.kind)]))

    def elsewhere(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the package of each class that has not been imported yet."""
        for name in offered(self.kind):
            if not super().__contains__(name):
                yield name, package_of(self.kind, name)

    def add(self, cls: Any, name: str | None = None) -> None:
        """Register a class under the name that it has.

        Raises
        ------
        UsageError
            It is no class of this kind, has another name than its entry point, or the name is one of gradmeter's.
        """
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise UsageError(f"{self.kind} {name}: {cls!r:.60} is no subclass of {self.base.__name__}")
        own = getattr(cls, "name", None)
        if not isinstance(own, str) or not own:
            raise UsageError(f'{self.kind} {cls.__name__} has no name; set name = "..." in the class')
        if name is not None and own != name:
            raise UsageError(f"{self.kind} {name} is called {own} by its class; the two must agree")
        if own in self._own:
            raise UsageError(f"{self.kind} {own} is one of gradmeter's own; give yours another name")
        self[own] = cls
