"""Problems whose maximiser of L is known for some families, and whose option `at` may choose it as λ."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields
from typing import ClassVar

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.problem import Problem
from gradmeter.estimators import UsageError


class KnownOptimum(Problem):
    """Base class of these problems."""

    at: str
    #: The value of `at` that chooses the maximiser, and the names of the families for which it is known.
    at_optimum: ClassVar[str]
    known_for: ClassVar[tuple[str, ...]]

    @abstractmethod
    def maximiser(self) -> Vectors:
        """Return the λ that maximises L."""

    def check(self) -> None:
        super().check()
        what = f"problem {self.name}: at={self.at_optimum}"
        if self.at != self.at_optimum:
            return
        if self.family.name not in self.known_for:
            raise UsageError(f"{what} is for family={' or family='.join(self.known_for)}")
        if self.q != type(self.q)():
            own = [field.name for field in fields(self.q)]
            raise UsageError(f"{what} chooses {', '.join(own[:-1])} and {own[-1]} itself; leave them out")

    def parameters(self) -> Vectors:
        return self.maximiser() if self.at == self.at_optimum else super().parameters()

    def optimum(self) -> Vectors | None:
        return self.maximiser() if self.family.name in self.known_for else None
