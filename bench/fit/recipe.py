"""Specifications of a fit with options: `em`, `svi[batch=100]`, or stochastic gradient ascent with an estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.bench.cells import Cell
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.optimisation.method import Method
from gradmeter.bench.optimisation.optimisers import Optimiser
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Estimator, NotApplicable
from gradmeter.estimators.options import effective, spell


@dataclass(frozen=True)
class Recipe(ABC):
    """Base class of the methods that `--method` names: frozen dataclasses whose fields are options.

    See `gradmeter.estimators.options.option`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def columns(self) -> dict[str, Any]:
        """Return the row columns that describe the method."""
        return {"method": self.name, "method_options": effective(self)}

    def parts(self) -> dict[str, str]:
        """Return the parts of the displayed name; parts that all compared methods share may be omitted."""
        return {"method": spell(self.name, effective(self), type(self))}

    @abstractmethod
    def check(self, problem: Problem) -> None:
        """Check that the method applies to the problem.

        Raises
        ------
        NotApplicable
            It does not; the message gives the reason.
        """

    @abstractmethod
    def prepare(self, problem: Problem, seed: int) -> Method:
        """Return the method on a problem for which `check` passes."""


@dataclass(frozen=True)
class Gradient(Recipe):
    """Stochastic gradient ascent: an estimator, an optimiser, a backend and a number of samples."""

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
        reason = infeasible(self.cell(problem, 0))
        if reason is not None:
            raise NotApplicable(reason)
        self.optimiser.check(problem.family, problem.blocks)

    def prepare(self, problem: Problem, seed: int) -> Method:
        from gradmeter.bench.fit.gradient import GradientMethod

        return GradientMethod(self.cell(problem, seed), self.optimiser, self.refit)
