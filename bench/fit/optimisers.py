"""Optimisers: from a gradient to the next λ, over dicts of float64 arrays, whichever backend the gradient came from.

Objectives are maximised. The step size at iteration t = 1, 2, … is ρ_t = rate · (1 + (t − 1)/delay)^(−forgetting);
with ½ < forgetting ≤ 1 it is a Robbins-Monro sequence (Σρ = ∞, Σρ² < ∞), with 0 it is constant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.fit.method import Vectors
from bench.problems import Problem
from estimators import Normal, NotApplicable, UsageError
from estimators.errors import unknown
from estimators.options import construct, option, parse

#: The least that a precision is multiplied by in one natural step.
LEAST_PRECISION = 0.5


@dataclass(frozen=True)
class Optimiser(ABC):
    """One optimiser, with its options as fields; `rate` is ρ_1."""

    name: ClassVar[str]
    summary: ClassVar[str]

    rate: float
    delay: float = option(100.0, "iterations over which the step size stays near the rate", above=0.0)
    forgetting: float = option(0.0, "power at which the step size falls, 0 not at all", minimum=0.0, maximum=1.0)

    def check(self, problem: Problem) -> None:  # noqa: B027  (most take any λ)
        """Raise NotApplicable, with the reason, where the problem's λ is not of the kind it takes."""

    def step_size(self, t: int) -> float:
        """ρ_t."""
        return float(self.rate * (1.0 + (t - 1) / self.delay) ** -self.forgetting)

    def initial(self, parameters: Vectors) -> Vectors:
        """What it remembers beside λ, before the first step."""
        return {}

    @abstractmethod
    def step(self, parameters: Vectors, gradient: Vectors, memory: Vectors, t: int) -> tuple[Vectors, Vectors]:
        """The next λ, and what is remembered."""


@dataclass(frozen=True)
class Sgd(Optimiser):
    """λ + ρ_t ĝ (Robbins & Monro 1951)."""

    name: ClassVar[str] = "sgd"
    summary: ClassVar[str] = "stochastic gradient ascent with Robbins-Monro steps"

    rate: float = option(5e-4, "the first step size", above=0.0)
    forgetting: float = option(0.6, "power at which the step size falls, 0 not at all", minimum=0.0, maximum=1.0)

    def step(self, parameters: Vectors, gradient: Vectors, memory: Vectors, t: int) -> tuple[Vectors, Vectors]:
        return {name: old + self.step_size(t) * gradient[name] for name, old in parameters.items()}, memory


@dataclass(frozen=True)
class Adam(Optimiser):
    """Adam (Kingma & Ba 2015, algorithm 1), uphill."""

    name: ClassVar[str] = "adam"
    summary: ClassVar[str] = "steps of about the rate in every coordinate, by running moments of the gradient"

    rate: float = option(0.05, "the first step size", above=0.0)
    beta1: float = option(0.9, "memory of the mean", minimum=0.0, below=1.0)
    beta2: float = option(0.999, "memory of the mean square", minimum=0.0, below=1.0)
    epsilon: float = option(1e-8, "added to the root mean square", above=0.0)

    def initial(self, parameters: Vectors) -> Vectors:
        return {f"{moment}.{name}": np.zeros_like(a) for moment in ("mean", "square") for name, a in parameters.items()}

    def step(self, parameters: Vectors, gradient: Vectors, memory: Vectors, t: int) -> tuple[Vectors, Vectors]:
        found, kept = {}, {}
        for name, old in parameters.items():
            g = gradient[name]
            mean = kept[f"mean.{name}"] = self.beta1 * memory[f"mean.{name}"] + (1.0 - self.beta1) * g
            square = kept[f"square.{name}"] = self.beta2 * memory[f"square.{name}"] + (1.0 - self.beta2) * g * g
            typical = np.sqrt(square / (1.0 - self.beta2**t)) + self.epsilon
            found[name] = old + self.step_size(t) * (mean / (1.0 - self.beta1**t)) / typical
        return found, kept


@dataclass(frozen=True)
class Natural(Optimiser):
    """A step of the natural gradient in a mean-field Normal's natural parameters, (μ/σ², −1/(2σ²)).

    Their natural gradient is the gradient with respect to the mean parameters, so that

        1/σ² ← (1/σ²) (1 − ρ ∂L/∂log σ),    μ ← μ + ρ σ² ∂L/∂μ    with the new σ²

    (Khan & Nielsen 2018). Where log p(x, z) is quadratic with a diagonal Hessian, the exact gradient and ρ = 1 make one
    step the optimum, if no bound holds it back: ρ is cut so that its step is at most `clip` long in the Fisher metric
    (as in Wu et al. 2017), whatever a noisy estimate says, and no precision falls by more than half.
    """

    name: ClassVar[str] = "natural"
    summary: ClassVar[str] = "natural gradient of the mean-field Normal, in its natural parameters"

    rate: float = option(0.1, "the first step size", above=0.0)
    forgetting: float = option(0.6, "power at which the step size falls, 0 not at all", minimum=0.0, maximum=1.0)
    clip: float = option(1.0, "the longest step in the Fisher metric, about √(2 KL)", above=0.0)

    def check(self, problem: Problem) -> None:
        if problem.family != Normal():
            raise NotApplicable(f"optimiser natural is for the mean-field Normal, not for family {problem.family.name}")
        others = ", ".join(problem.blocks[len(Normal.blocks) :])
        if others:
            raise NotApplicable(f"optimiser natural moves loc and log_scale, and knows no metric for {others}")

    def step(self, parameters: Vectors, gradient: Vectors, memory: Vectors, t: int) -> tuple[Vectors, Vectors]:
        rate, variance = self.step_size(t), np.exp(2.0 * parameters["log_scale"])
        squares = np.sum(variance * gradient["loc"] ** 2) + 0.5 * np.sum(gradient["log_scale"] ** 2)
        rate = min(rate, self.clip / max(float(np.sqrt(squares)), np.finfo(float).tiny))
        factor = np.maximum(1.0 - rate * gradient["log_scale"], LEAST_PRECISION)
        loc = parameters["loc"] + rate * variance / factor * gradient["loc"]
        return {"loc": loc, "log_scale": parameters["log_scale"] - 0.5 * np.log(factor)}, memory


OPTIMISERS: dict[str, type[Optimiser]] = {cls.name: cls for cls in (Sgd, Adam, Natural)}


def make_optimiser(text: str, rate: str | float | None = None) -> Optimiser:
    """An optimiser from `name[k=v,...]`, and the rate where it is given apart."""
    name, given = parse(text, "optimiser")
    if name not in OPTIMISERS:
        raise unknown("optimiser", name, OPTIMISERS)
    if rate is not None:
        if "rate" in given:
            raise UsageError(f"optimiser '{text}' has a rate, and --learning-rate another; leave one out")
        given["rate"] = str(rate)
    return construct(OPTIMISERS[name], given, f"optimiser {name}")
