"""What a method of fitting is: something that goes from one state to the next, and knows its objective.

States are dicts of arrays, wherever the method computes, under names of its own: λ, natural parameters, an
optimiser's moments. Nothing about a fit is kept anywhere else, so that the same state goes on in the same way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

Vectors = dict[str, np.ndarray]
State = dict[str, Any]


@dataclass(frozen=True)
class Objective:
    """What is maximised, at one state.

    Attributes
    ----------
    value : an ELBO, a log-likelihood, or E f.
    source : how it was had: `closed-form`, `quadrature` or `enumeration`; `sampling` where it is an estimate.
    standard_error : of an estimate; None where the value is exact.
    gradient_norm : ‖∇L‖₂ in the problem's own parameters, where the problem knows it.
    """

    value: float
    source: str
    standard_error: float | None = None
    gradient_norm: float | None = None


class Method(ABC):
    """One method on one problem with one seed.

    Attributes
    ----------
    evaluations : evaluations of the integrand that one step costs, a pass over all data counting as one and a
        minibatch of B rows in N as B/N.
    check_every : steps after which it is waited for, and looked at whether every number of its state is finite.
    """

    evaluations: float = 1.0
    check_every: int = 1

    @abstractmethod
    def initial(self) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, state: State, t: int) -> State:
        """The next state, at iteration t = 1, 2, …; a pure function, whose noise depends on the seed and t alone."""

    @abstractmethod
    def objective(self, state: State) -> Objective:
        """The objective at a state: exact where it is known."""

    @abstractmethod
    def parameters(self, state: State) -> Vectors:
        """What was fitted, in the problem's own parameter blocks: what is saved, and what pictures show."""

    def held_out(self, state: State, last: bool) -> dict[str, Any]:
        """Columns of a row about data that nothing is fitted to; what takes longer only of the `last` state."""
        return {}

    def to_host(self, state: State) -> Vectors:
        """A state as NumPy arrays, which checkpoints keep; the same dict where it is of such."""
        return state

    def to_device(self, kept: Vectors) -> State:
        """The state that `to_host` gave that of."""
        return kept

    def wait(self, state: State) -> None:  # noqa: B027  (most compute on the spot)
        """Until a state is computed."""

    def finite(self, state: State) -> bool:
        """Whether every number of a state is."""
        return all(bool(np.all(np.isfinite(values))) for values in self.to_host(state).values())

    def spent(self, t: int) -> float:
        """Evaluations that the first t steps cost, and what came before them."""
        return t * self.evaluations

    def warm_up(self, state: State) -> None:  # noqa: B027  (most have nothing to compile)
        """Compile what steps need, before anything is timed."""

    def diagnose(self, state: State, t: int, replicates: int) -> dict[str, Any]:
        """Columns of a row about the gradient's noise at a state, over so many replicates; `mean_norm` beside them."""
        return {}

    def converged(self, before: State, after: State) -> bool:
        """Whether a step from one state to the other was the last worth taking."""
        return False


def unchanged(before: Vectors, after: Vectors, tolerance: float = 1e-12) -> bool:
    """Whether no number moved by more than rounding: a fixed point, as far as float64 can tell."""
    return all(
        bool(np.all(np.abs(after[name] - old) <= tolerance * np.maximum(1.0, np.abs(old))))
        for name, old in before.items()
    )
