"""The tasks of the peers, and which peers can do them."""

from __future__ import annotations

from dataclasses import dataclass

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.reading.peers import PEERS

EVERY = tuple(PEERS)
#: A loop makes one sample after another, so an estimate of a thousand samples adds nothing to one of a single sample.
VECTORISED = tuple(name for name, peer in PEERS.items() if not peer.loops)


@dataclass(frozen=True)
class Task:
    """One problem and estimator.

    Attributes
    ----------
    num_samples
        S of the estimates whose variance is measured, gradmeter's and the peers'.
    whole
        Whether one call makes one estimate: S is large, and no larger batch is tried.
    peers
        Their names.
    replicates
        Most estimates, of gradmeter and of every peer.
    """

    problem: str
    estimator: str
    num_samples: int
    peers: tuple[str, ...]
    whole: bool = False
    replicates: int = 2**18

    @property
    def name(self) -> str:
        return f"{self.problem} {self.estimator}"

    def cell(self, backend: str) -> Cell:
        """Return gradmeter's cell, in the precision that the peers compute in."""
        problem, estimator = make_problem(self.problem), make_estimator(self.estimator)
        goals = StoppingCriteria(max_replicates=self.replicates)
        return Cell(problem, estimator, backend, dtype="float32", num_samples=self.num_samples, goals=goals)


def _square(dimension: int) -> str:
    return f"square[k=2,dim={dimension}]"


TASKS = (
    *(Task(_square(d), "pathwise", 1, EVERY) for d in (1, 10, 100, 1000)),
    *(Task(_square(d), "score-function", 1, EVERY) for d in (1, 10, 100, 1000)),
    *(Task(_square(d), "score-function[baseline=leave-one-out]", 10, ("storchastic",)) for d in (1, 10, 100)),
    *(Task(_square(d), "measure-valued", 1, ("optax",)) for d in (1, 10, 100)),
    Task("logistic-regression", "pathwise", 1000, VECTORISED, whole=True, replicates=2**9),
)
