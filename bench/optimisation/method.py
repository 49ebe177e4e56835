"""The interface of a fitting method: steps from one state to the next, and the objective.

A state is a dict of arrays on the method's backend, with names chosen by the method: λ, natural parameters, an
optimiser's moments. It holds everything about a fit, so that continuing from a state is reproducible.
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
    """The value of the maximised objective at one state.

    Attributes
    ----------
    value : float
        An ELBO, a log-likelihood, or E f.
    source : str
        How the value was computed: `closed-form`, `quadrature` or `enumeration`; `sampling` for an estimate.
    standard_error : float, optional
        Standard error of an estimate; None if the value is exact.
    gradient_norm : float, optional
        ‖∇L‖₂ in the problem's parameters, if the problem knows it.
    """

    value: float
    source: str
    standard_error: float | None = None
    gradient_norm: float | None = None


class Method(ABC):
    """One fitting method on one problem with one seed.

    Attributes
    ----------
    evaluations : float
        Evaluations of the integrand per step. A pass over all data counts as one, a minibatch of B rows of N as B/N.
    check_every : int
        Number of steps between synchronisations, at which the state is checked to be finite.
    """

    evaluations: float = 1.0
    check_every: int = 1

    @abstractmethod
    def initial(self) -> State:
        """Return the state before the first step."""

    @abstractmethod
    def step(self, state: State, t: int) -> State:
        """Return the state after iteration t = 1, 2, …; a pure function whose noise depends on the seed and t alone."""

    @abstractmethod
    def objective(self, state: State) -> Objective:
        """Return the objective at a state, exact where it is known."""

    @abstractmethod
    def parameters(self, state: State) -> Vectors:
        """Return the fitted values in the problem's parameter blocks, for saving and for figures."""

    def held_out(self, state: State, last: bool) -> dict[str, Any]:
        """Return row columns about held-out data; slow columns only for the `last` state."""
        return {}

    def to_host(self, state: State) -> Vectors:
        """Convert a state to NumPy arrays, as checkpoints hold them; return the same dict if it holds such arrays."""
        return state

    def to_device(self, kept: Vectors) -> State:
        """Convert NumPy arrays back to a state: the inverse of `to_host`."""
        return kept

    def wait(self, state: State) -> None:  # noqa: B027  (most methods compute synchronously)
        """Wait until a state is computed."""

    def finite(self, state: State) -> bool:
        """Return whether every number of a state is finite."""
        return all(bool(np.all(np.isfinite(values))) for values in self.to_host(state).values())

    def spent(self, t: int) -> float:
        """Return the evaluations spent on the first t steps, including those before the first step."""
        return t * self.evaluations

    def warm_up(self, state: State) -> None:  # noqa: B027  (most methods compile nothing)
        """Compile the functions of a step before timing starts."""

    def diagnose(self, state: State, t: int, replicates: int) -> dict[str, Any]:
        """Return row columns about the gradient's variance at a state, from `replicates` estimates, and `mean_norm`."""
        return {}

    def converged(self, before: State, after: State) -> bool:
        """Return whether the step between two states shows convergence."""
        return False


def unchanged(before: Vectors, after: Vectors) -> bool:
    """Return whether no number changed by more than rounding, which is a fixed point in float64."""
    return all(
        bool(np.all(np.abs(after[name] - old) <= 1e-12 * np.maximum(1.0, np.abs(old)))) for name, old in before.items()
    )
