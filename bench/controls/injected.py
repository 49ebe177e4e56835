"""Estimators with injected bugs. Each docstring states the mistake and the size of the bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.dreg import Dreg
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Array, Blocks, Estimator, Requires, mean_over_samples, spread
from gradmeter.estimators.expectation import Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.importance_weighted import Groups
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option
from gradmeter.estimators.pathwise import Pathwise
from gradmeter.estimators.rebar import Drawn, Rebar


@dataclass(frozen=True)
class Planted(Estimator):
    """Base class of the estimators with injected bugs."""

    requires: ClassVar[Requires] = Requires(("score",))
    injected: ClassVar[bool] = True
    fewest_samples: ClassVar[int] = 1
    #: The only family for which the bug is written, if any.
    only: ClassVar[str | None] = None

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if self.only not in (None, family.name):
            raise NotApplicable(f"{self.name} is for family {self.only} alone, not {family.name}")
        if num_samples < self.fewest_samples:
            raise NotApplicable(f"{self.name} needs at least {self.fewest_samples} samples, not {num_samples}")

    def smallest_num_samples(self) -> int:
        return self.fewest_samples


@dataclass(frozen=True)
class SelfIncludedBaseline(Planted):
    """A mean baseline that includes the sample itself: leave-one-out with 1/S instead of 1/(S − 1). Bias −g/S."""

    name: ClassVar[str] = "injected-self-included-baseline"
    summary: ClassVar[str] = "score function, mean baseline with the sample itself in it: bias −g/S"
    fewest_samples: ClassVar[int] = 2

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp = backend.xp
        z = expectation.family.sample(backend, parameters, noise)
        value = expectation.value(backend, parameters, z, noise)
        value = value - xp.mean(value, axis=1, keepdims=True)
        score = expectation.family.score(backend, parameters, z)
        return {name: mean_over_samples(xp, spread(value, s) * s) for name, s in score.items()}


@dataclass(frozen=True)
class InSampleCoefficient(Planted):
    """A control-variate coefficient fitted on the samples to which it is applied.

    For ∂loc in one dimension and a linear or quadratic f, `covariance`, Cov(f s, s)/Var(s), has bias −2g/S, and
    `ratio`, Σ f s²/Σ s², has bias −3g/(S + 2).
    """

    name: ClassVar[str] = "injected-in-sample-coefficient"
    summary: ClassVar[str] = "score function, coefficient fitted on the same samples: bias about −2g/S"
    fewest_samples: ClassVar[int] = 3

    form: str = option("covariance", "how the coefficient is fitted", choices=("covariance", "ratio"))

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp = backend.xp
        z = expectation.family.sample(backend, parameters, noise)
        value = expectation.value(backend, parameters, z, noise)
        gradients = {}
        for name, score in expectation.family.score(backend, parameters, z).items():
            product = spread(value, score) * score
            if self.form == "covariance":
                centred = score - xp.mean(score, axis=1, keepdims=True)
                coefficient = _fitted(xp, product, score, centred)
            else:
                coefficient = _fitted(xp, product, score, score)
            gradients[name] = xp.mean(product, axis=1) - coefficient * xp.mean(score, axis=1)
        return gradients


def _fitted(xp: Any, product: Array, score: Array, by: Array) -> Array:
    """Return Σ f s r/Σ r² over the samples [R, S, P], or 0 if all r are 0 up to rounding (equal discrete samples)."""
    squares = xp.sum(by * by, axis=1)
    varies = squares > xp.finfo(score.dtype).eps * xp.sum(score * score, axis=1)
    return xp.where(varies, xp.sum(product * by, axis=1) / xp.where(varies, squares, 1.0), 0.0)


@dataclass(frozen=True)
class DifferentiatedSampler(Planted):
    """A score function whose samples are differentiated too: f · d/dλ log q_λ(t(ε, λ)), the total derivative.

    This is REINFORCE with `rsample` instead of `sample`. For the Normal, ∂loc is 0 and ∂log σ is −E f.
    """

    name: ClassVar[str] = "injected-differentiated-sampler"
    summary: ClassVar[str] = "score function whose samples carry gradients: the two paths cancel"
    requires: ClassVar[Requires] = Requires(("score", "pathwise", "log_density_gradient"))

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        value = expectation.value(backend, parameters, z, noise)
        score = family.score(backend, parameters, z)
        path = family.pathwise(backend, parameters, noise, z, family.log_density_gradient(backend, parameters, z))
        return {name: mean_over_samples(xp, spread(value, s) * (s + path[name])) for name, s in score.items()}


@dataclass(frozen=True)
class DifferentiatedBaseline(Planted):
    """A baseline b = f(loc) without stop-gradient, which adds −log q ∇b to the estimate of ∂loc."""

    name: ClassVar[str] = "injected-differentiated-baseline"
    summary: ClassVar[str] = "score function, baseline f(loc) without a stop-gradient: ∂loc gains −E[log q] ∇f(loc)"
    requires: ClassVar[Requires] = Requires(("score",), ("gradient",))
    only: ClassVar[str | None] = "normal"

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        centre = xp.zeros_like(z) + parameters["loc"]
        baseline = expectation.value(backend, parameters, centre, noise)[..., None]
        value = expectation.value(backend, parameters, z, noise)[..., None] - baseline
        score = family.score(backend, parameters, z)
        gradients = {name: mean_over_samples(xp, value * s) for name, s in score.items()}
        log_density = family.log_density(backend, parameters, z)[..., None]
        leak = log_density * expectation.gradient(backend, parameters, centre, noise)
        return {**gradients, "loc": gradients["loc"] - mean_over_samples(xp, leak)}


@dataclass(frozen=True)
class NaiveExchange(Planted):
    """∇_λ exchanged with the expectation as if q did not depend on λ: E[∇_λ f], which is 0 whatever g is."""

    name: ClassVar[str] = "injected-naive-exchange"
    summary: ClassVar[str] = "E[∇_λ f] for ∇_λ E[f]: the gradient of the distribution is forgotten"

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp = backend.xp
        z = expectation.family.sample(backend, parameters, noise)
        score = expectation.family.score(backend, parameters, z)
        partial = -1.0 if expectation.entropy == "sampled" else 0.0  # ∇_λ f at fixed z is −∇_λ log q_λ(z), or 0
        return {name: partial * mean_over_samples(xp, s) for name, s in score.items()}


@dataclass(frozen=True)
class RedrawnFailures(Planted):
    """Silent redrawing of evaluations that "fail", which conditions q on success.

    An evaluation fails where the first coordinate is more than `limit` standard deviations above its mean.
    """

    name: ClassVar[str] = "injected-redrawn-failures"
    summary: ClassVar[str] = "pathwise, samples far out redrawn silently: q is conditioned"
    requires: ClassVar[Requires] = Pathwise.requires
    only: ClassVar[str | None] = "normal"

    limit: float = option(1.0, "standard deviations beyond which an evaluation fails")

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        specs = super().noise_specs(expectation, num_samples, dimension)
        return {**specs, "redrawn": specs["base"]}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        return {"base": np.asarray([self.limit])}

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        failed = noise["base"][..., :1] > self.limit
        kept = {**noise, "base": backend.xp.where(failed, noise["redrawn"], noise["base"])}
        return Pathwise().estimate_integrand(backend, expectation, parameters, kept, state)


@dataclass(frozen=True)
class OppositeBiases(Planted):
    """Biases +`offset` in the first coordinate and −`offset` in the last, which cancel in a sum over parameters."""

    name: ClassVar[str] = "injected-opposite-biases"
    summary: ClassVar[str] = "pathwise, opposite biases in two coordinates that cancel in a sum"
    requires: ClassVar[Requires] = Pathwise.requires
    only: ClassVar[str | None] = "normal"

    offset: float = option(0.1, "size of each bias")

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        super().check_settings(family, entropy, num_samples, dimension)
        if dimension < 2:
            raise NotApplicable(f"{self.name} needs at least 2 coordinates; use a problem with dim=2 or more")

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp = backend.xp
        gradients = Pathwise().estimate_integrand(backend, expectation, parameters, noise, state)
        ones = xp.ones_like(gradients["loc"][:, :1])
        inner = xp.zeros_like(gradients["loc"][:, 2:])
        return {**gradients, "loc": gradients["loc"] + self.offset * xp.concat([ones, inner, -ones], axis=1)}


@dataclass(frozen=True)
class MissingPath(Planted):
    """RELAX (or REBAR) without its path term: the control variate E[c(ζ̃) ∇ log q(z)] is subtracted but not added back.

    c(ζ) = f(H_T(ζ)) at T = 1. The bias is −∇_λ E c(ζ) + E[∇_λ c(ζ̃)].
    """

    name: ClassVar[str] = "injected-missing-path"
    summary: ClassVar[str] = "RELAX without ∇c(ζ) − ∇c(ζ̃): its control variate has no mean to put back"
    requires: ClassVar[Requires] = Requires(("score", "relaxation"))

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        return Rebar().noise_specs(expectation, num_samples, dimension)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        drawn = Drawn(backend, expectation, parameters, noise)
        control = drawn.relaxed_value(drawn.relaxation.soft(backend, drawn.given, 1.0))
        return drawn.mean({name: spread(drawn.value - control, s) * s for name, s in drawn.score.items()})


@dataclass(frozen=True)
class SquaredModelWeights(Dreg):
    """DReG's squared weights applied to the model's gradient: Σ_k w̃_k² ∇_θ log p instead of Σ_k w̃_k ∇_θ log p.

    The estimate is far too small for large K, where Σ w̃² decreases as 1/K, and correct for K = 1.
    """

    name: ClassVar[str] = "injected-squared-model-weights"
    summary: ClassVar[str] = "DReG with its squared weights on the model's gradient too, which shrinks as 1/K"
    injected: ClassVar[bool] = True

    def model_weights(self, groups: Groups) -> Array:
        return groups.normalised * groups.normalised
