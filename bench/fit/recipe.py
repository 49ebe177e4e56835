"""What a user names of a fit, with options: `em`, `svi[batch=100]`, or stochastic gradient ascent by an estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.bench.optimisation.method import Method
from gradmeter.bench.optimisation.optimisers import Optimiser
from gradmeter.bench.problems import Problem
from gradmeter.bench.sweep.cells import Cell
from gradmeter.estimators import Estimator, NotApplicable
from gradmeter.estimators.options import effective, spell


@dataclass(frozen=True)
class Recipe(ABC):
    """What `--method` names: a frozen dataclass whose fields are options (`gradmeter.estimators.options.option`)."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def columns(self) -> dict[str, Any]:
        """Its own columns of a row."""
        return {"method": self.name, "method_options": effective(self)}

    def parts(self) -> dict[str, str]:
        """What people call it, in parts of which those that all methods beside it share can be left out."""
        return {"method": spell(self.name, effective(self), type(self))}

    @abstractmethod
    def check(self, problem: Problem) -> None:
        """Raise NotApplicable, with the reason, where the method has no meaning for the problem."""

    @abstractmethod
    def prepare(self, problem: Problem, seed: int) -> Method:
        """The method on that problem. Only called where `check` has nothing to say."""


@dataclass(frozen=True)
class Gradient(Recipe):
    """An estimator, an optimiser, and where and with how many samples."""

    name: ClassVar[str] = "gradient"
    summary: ClassVar[str] = "an estimator of the gradient inside an optimiser"

    estimator: Estimator
    optimiser: Optimiser
    num_samples: int
    backend: str = "numpy"
    device: str = "cpu"
    dtype: str = "float64"
    noise: str = "native"
    refit: int = 100

    def cell(self, problem: Problem, seed: int) -> Cell:
        where = (self.backend, self.device, self.dtype)
        return Cell(problem, self.estimator, *where, self.num_samples, seed, self.noise)

    def columns(self) -> dict[str, Any]:
        return {
            "method": self.name,
            "estimator": self.estimator.name,
            "estimator_options": effective(self.estimator),
            "optimiser": self.optimiser.name,
            "optimiser_options": effective(self.optimiser),
            **{name: getattr(self, name) for name in ("backend", "device", "dtype", "noise", "num_samples")},
        }

    def parts(self) -> dict[str, str]:
        return {
            "method": spell(self.estimator.name, effective(self.estimator), type(self.estimator)),
            "optimiser": spell(self.optimiser.name, effective(self.optimiser), type(self.optimiser)),
            **{name: getattr(self, name) for name in ("backend", "device", "dtype")},
            "samples": f"S={self.num_samples}",
        }

    def check(self, problem: Problem) -> None:
        reason = self.cell(problem, 0).impossible()
        if reason is not None:
            raise NotApplicable(reason)
        self.optimiser.check(problem.family, problem.blocks)

    def prepare(self, problem: Problem, seed: int) -> Method:
        from gradmeter.bench.fit.gradient import GradientMethod

        return GradientMethod(self.cell(problem, seed), self.optimiser, self.refit)
