"""RELAX: REBAR with a learned control variate.

Approximates   ∇_λ E_{q_λ}[f(z)],  z = H(ζ) with ζ smooth in λ and in noise
with           (1/S) Σ_s (f(z) − c(ζ̃)) ∇_λ log q_λ(z) + ∇_λ c(ζ) − ∇_λ c(ζ̃),     ζ̃ drawn given z
requires       a relaxation H_T of H; with `control=joint` also ∇f between the states of z.

c(ζ) = b + Σ_i a_i H_T(ζ)_i, plus η f(H_T(ζ)) with `control=joint`; `control=surrogate` needs values of f at the states
only. The estimate is linear in b, a and η, so they are fitted by least squares instead of by gradient descent on the
variance. The fit uses other samples and chooses the best temperature; the result is then frozen.

Source: Grathwohl, Choi, Wu, Roeder & Duvenaud 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Requires
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.options import option
from gradmeter.estimators.rebar import Controlled, Drawn

#: The largest number of coordinates: each has a coefficient a_i.
MOST = 256


@dataclass(frozen=True)
class Relax(Controlled):
    """The RELAX estimator; `control=surrogate` leaves the term η f(H_T(ζ)) out of c."""

    name: ClassVar[str] = "relax"
    summary: ClassVar[str] = "REBAR with a control variate learned on other samples, then frozen"

    control: str = option("joint", "what the control variate is made of", choices=("joint", "surrogate"))

    def also_requires(self, entropy: str) -> Requires:
        return Requires((), ("gradient",) if self.control == "joint" else ())

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if dimension > MOST:
            raise NotApplicable(f"relax fits a coefficient a coordinate, of at most {MOST}, not {dimension}")

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return (4 if self.control == "joint" else 1) * num_samples

    def control_value(self, drawn: Drawn, soft: Array, state: Blocks) -> Array:
        value = state["offset"] + drawn.backend.xp.sum(state["slope"] * soft, axis=-1)
        return value + state["scale"] * drawn.relaxed_value(soft) if self.control == "joint" else value

    def control_gradient(self, drawn: Drawn, soft: Array, state: Blocks) -> Array:
        gradient = state["slope"] + drawn.backend.xp.zeros_like(soft)
        return gradient + state["scale"] * drawn.relaxed_gradient(soft) if self.control == "joint" else gradient

    def candidates(self, temperature: float, dimension: int) -> list[Blocks]:
        count = 1 + dimension + (self.control == "joint")
        return [self.combined(temperature, unit) for unit in np.eye(count)]

    def combined(self, temperature: float, weights: np.ndarray) -> Blocks:
        found = {"temperature": np.asarray(temperature), "offset": weights[0]}
        if self.control == "joint":
            return {**found, "slope": weights[2:], "scale": weights[1]}
        return {**found, "slope": weights[1:]}
