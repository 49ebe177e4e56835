"""Problems on the rows of a data set, of which every estimate may draw a minibatch anew, without replacement."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Arrays, Vectors
from gradmeter.bench.problems.problem import Problem
from gradmeter.estimators import Integrand, Noise, UsageError


class OfRows(Integrand):
    """An integrand over the rows of an array in `data`, or over a minibatch of them if `data` has `batch` [B]."""

    #: The name of that array.
    rows_of: ClassVar[str]

    def noise_specs(self, data: Arrays) -> dict[str, Noise]:
        if "batch" not in data:
            return {}
        return {"rows": Noise("rows", (data["batch"].shape[0],), population=data[self.rows_of].shape[0])}


class RowProblem(Problem):
    """Base class of problems with a data set and the option `batch`."""

    dataset: str
    batch: int | None

    @property
    @abstractmethod
    def rows(self) -> int:
        """The number of rows N, known without loading bundled data."""

    def check(self) -> None:
        super().check()
        if self.batch is not None and self.batch > self.rows:
            raise UsageError(f"problem {self.name}: batch is {self.batch}; there are {self.rows} rows")

    def minibatch(self) -> Vectors:
        """Return the part of the data that says how many rows an estimate draws; nothing if it takes all."""
        return {} if self.batch is None else {"batch": np.zeros(self.batch)}
