"""REBAR: a score function whose control variate is f at a relaxed sample.

Approximates   ∇_λ E_{q_λ}[f(z)],  z = H(ζ) with ζ smooth in λ and in noise
with           (1/S) Σ_s (f(z) − c(ζ̃)) ∇_λ log q_λ(z) + ∇_λ c(ζ) − ∇_λ c(ζ̃),     ζ̃ drawn given z, c(ζ) = η f(H_T(ζ))
requires       a relaxation H_T of H and ∇f between the states of z. Costs four evaluations a sample.

The estimate is unbiased for any c: E[c(ζ̃) ∇ log q(z)] + E[∇_λ c(ζ̃)] = ∇_λ E c(ζ), where the gradients of c(ζ) and
c(ζ̃) are taken along their smooth paths. η and the temperature T are fitted on other samples, then frozen: η by least
squares, and T as the best of `TEMPERATURES`.

Source: Tucker, Mnih, Maddison, Lawson & Sohl-Dickstein 2017.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import (
    Blocks,
    Estimator,
    Requires,
    WarmupContext,
    check_learnt,
    concatenated,
    mean_over_samples,
    spread,
)
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.noise import Noise

TEMPERATURES = (0.125, 0.25, 0.5, 1.0, 2.0)


class Drawn:
    """The samples z, ζ and ζ̃ of one batch of noise, with f and the score at z."""

    def __init__(self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]) -> None:
        self.backend, self.expectation, self.parameters, self.noise = backend, expectation, parameters, noise
        self.relaxation = expectation.family.relaxation()
        self.perturbed = self.relaxation.perturbed(backend, parameters, noise)
        self.z = self.relaxation.hard(backend, self.perturbed)
        self.given, self.factor = self.relaxation.given(backend, parameters, noise, self.z)
        self.score = expectation.family.score(backend, parameters, self.z)
        self.value = expectation.value(backend, parameters, self.z, noise)

    def relaxed_value(self, soft: Array) -> Array:
        """Return f at a soft sample, between the states [...]."""
        return self.expectation.value(self.backend, self.parameters, soft, self.noise)

    def relaxed_gradient(self, soft: Array) -> Array:
        """Return ∇f at a soft sample, between the states [..., D]."""
        return self.expectation.gradient(self.backend, self.parameters, soft, self.noise)

    def path(self, soft: Array, temperature: Any, slope: Array, factor: Any = 1.0) -> Blocks:
        """Return ∇_λ c along the path of ζ (or of ζ̃, with its factor), from the gradient of c at the soft sample."""
        along = self.relaxation.soft_pullback(self.backend, soft, temperature, slope)
        return self.relaxation.pathwise(self.backend, self.parameters, along * factor)

    def mean(self, per_sample: Blocks) -> Blocks:
        return {name: mean_over_samples(self.backend.xp, g) for name, g in per_sample.items()}


@dataclass(frozen=True)
class Controlled(Estimator):
    """The base of REBAR and RELAX, with a control variate c of the soft sample.

    Its temperature and coefficients are in `state`.
    """

    requires: ClassVar[Requires] = Requires(("score", "score_identity", "relaxation"))

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        relaxation, shape = expectation.family.relaxation(), (num_samples,)
        made = {**relaxation.noise(shape, dimension), **relaxation.given_noise(shape, dimension)}
        return {**made, **expectation.noise_specs()}

    @abstractmethod
    def control_value(self, drawn: Drawn, soft: Array, state: Blocks) -> Array:
        """Return c [...]."""

    @abstractmethod
    def control_gradient(self, drawn: Drawn, soft: Array, state: Blocks) -> Array:
        """Return the gradient of c with respect to the soft sample [..., D]."""

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        drawn = Drawn(backend, expectation, parameters, noise)
        taken = self.taken(drawn, state)
        return drawn.mean({name: spread(drawn.value, s) * s - taken[name] for name, s in drawn.score.items()})

    def taken(self, drawn: Drawn, state: Blocks) -> Blocks:
        """Return c(ζ̃) ∇ log q(z) − ∇_λ c(ζ) + ∇_λ c(ζ̃), of mean 0, by block, per sample."""
        temperature = state["temperature"]
        soft, given = (drawn.relaxation.soft(drawn.backend, at, temperature) for at in (drawn.perturbed, drawn.given))
        value = self.control_value(drawn, given, state)
        path = drawn.path(soft, temperature, self.control_gradient(drawn, soft, state))
        given_path = drawn.path(given, temperature, self.control_gradient(drawn, given, state), drawn.factor)
        return {name: spread(value, s) * s - path[name] + given_path[name] for name, s in drawn.score.items()}

    def fit(self, known: WarmupContext) -> Blocks:
        """Fit the temperature and coefficients to minimise the total variance over all parameters on a warm-up."""
        assert known.pilot is not None
        backend, expectation, parameters, noise = known.pilot()
        drawn = Drawn(backend, expectation, parameters, noise)
        plain = concatenated(backend, drawn.mean({k: spread(drawn.value, s) * s for k, s in drawn.score.items()}))
        best: tuple[float, Blocks] | None = None
        for temperature in TEMPERATURES:
            states = [
                {k: backend.asarray(a, str(plain.dtype)) for k, a in each.items()}
                for each in self.candidates(temperature, drawn.z.shape[-1])
            ]
            parts = [concatenated(backend, drawn.mean(self.taken(drawn, each))) for each in states]
            centred = np.stack([np.ravel(part - part.mean(axis=0)) for part in parts])
            response = np.ravel(plain - plain.mean(axis=0))
            gram, cross = centred @ centred.T, centred @ response
            check_learnt(self.name, gram, cross)
            weights = np.linalg.lstsq(gram, cross, rcond=1e-10)[0]
            left = float(((response - weights @ centred) ** 2).sum())
            if best is None or left < best[0]:
                best = left, self.combined(temperature, weights)
        assert best is not None
        return best[1]

    @abstractmethod
    def candidates(self, temperature: float, dimension: int) -> list[Blocks]:
        """Return the states whose c span the control variate linearly, as NumPy arrays."""

    @abstractmethod
    def combined(self, temperature: float, weights: np.ndarray) -> Blocks:
        """Return the state whose c is Σ weight × c of each candidate."""


@dataclass(frozen=True)
class Rebar(Controlled):
    """The REBAR estimator, with c = η f(H_T(ζ))."""

    name: ClassVar[str] = "rebar"
    summary: ClassVar[str] = "score function less f at a relaxed sample, whose part comes from its path"
    requires: ClassVar[Requires] = Controlled.requires | Requires((), ("gradient",))

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        """Count f at z and at ζ̃, and its gradient at ζ and at ζ̃."""
        return 4 * num_samples

    def control_value(self, drawn: Drawn, soft: Array, state: Blocks) -> Array:
        return state["scale"] * drawn.relaxed_value(soft)

    def control_gradient(self, drawn: Drawn, soft: Array, state: Blocks) -> Array:
        return state["scale"] * drawn.relaxed_gradient(soft)

    def candidates(self, temperature: float, dimension: int) -> list[Blocks]:
        return [self.combined(temperature, np.ones(1))]

    def combined(self, temperature: float, weights: np.ndarray) -> Blocks:
        return {"temperature": np.asarray(temperature), "scale": weights[0]}
