"""What every gradient estimator is: a pure function of its noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from estimators.expectation import Expectation
from estimators.noise import Noise

Array = Any
Blocks = dict[str, Array]


@dataclass(frozen=True)
class Knowledge:
    """What an estimator with memory may learn from before it is frozen.

    Attributes
    ----------
    objective : E f where it is known exactly, else None.
    optimal_baseline : [D] by parameter block, E[f s²]/E[s²] where it is known exactly, else None.
    warm_up : () -> integrand values [W, S] of W estimates, in order, and the scores [W, S, D] of the same samples
        by parameter block; drawn from a stream of their own.
    """

    objective: float | None
    optimal_baseline: Blocks | None
    warm_up: Callable[[], tuple[Array, Blocks]]


@dataclass(frozen=True)
class Estimator(ABC):
    """One estimator of ∇_λ L, with its options as fields.

    `estimate` is pure: the same noise gives the same gradient on every backend. Equal estimators share
    compiled functions.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Whether it needs ∇_z f; otherwise values of f suffice.
    needs_gradient: ClassVar[bool] = False
    #: Declared wrong: a positive control of the bias verdict.
    planted: ClassVar[bool] = False

    def check(self, entropy: str, num_samples: int, dimension: int) -> None:  # noqa: B027
        """Raise NotApplicable, with the reason, where this estimator has no meaning."""

    def smallest_num_samples(self) -> int:
        """The least S it can work with."""
        return 1

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        """Everything one estimate draws, by name."""
        base = expectation.family.base_noise(sample_shape(num_samples), dimension)
        return {**base, **expectation.noise_specs()}

    def noise_by_block(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, set[str]]:
        """Which of the names each parameter block's estimate reads."""
        names = set(self.noise_specs(expectation, num_samples, dimension))
        return dict.fromkeys(expectation.family.blocks, names)

    def evaluations(self, num_samples: int, dimension: int) -> int:
        """Evaluations of f (or of its gradient) that one estimate costs."""
        return num_samples

    def fit(self, known: Knowledge) -> Blocks:
        """The frozen state, as NumPy arrays."""
        return {}

    def estimate(
        self, backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        """One gradient per replicate, {parameter block: [R, D]}.

        Parameters
        ----------
        backend : Backend
        expectation : what is differentiated, with its data.
        parameters : λ, {parameter block: [D]}.
        noise : {name: [R, ...]} as `noise_specs` declares.
        state : from `fit`.
        """
        gradients = self.estimate_integrand(backend, expectation, parameters, noise, state)
        if expectation.entropy == "analytic":
            exact = expectation.family.entropy_gradient(backend.xp, parameters)
            gradients = {name: gradient + exact[name] for name, gradient in gradients.items()}
        return gradients

    @abstractmethod
    def estimate_integrand(
        self, backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        """The estimate without an analytic entropy's term, which `estimate` adds."""


def sample_shape(num_samples: int) -> tuple[int, ...]:
    """The sample axis of one estimate's arrays. S = 1 has none: the replicates are then one flat batch [R, D],
    which compilers turn into faster loops than [R, 1, D]."""
    return () if num_samples == 1 else (num_samples,)


def mean_over_samples(xp: Any, per_sample: Array) -> Array:
    """[R, S, D], or [R, D] where S = 1, to [R, D]."""
    return per_sample if per_sample.ndim == 2 else xp.mean(per_sample, axis=1)


def values_and_scores(
    backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]
) -> tuple[Array, Blocks]:
    """f [R, S] and the scores [R, S, D] at the samples that base noise makes, as NumPy arrays."""
    z = expectation.family.sample(backend.xp, parameters, noise["base"])
    values = backend.to_numpy(expectation.value(backend, parameters, z, noise))
    values = values.reshape(len(values), -1)
    scores = expectation.family.score(backend.xp, parameters, z)
    return values, {k: backend.to_numpy(s).reshape(*values.shape, -1) for k, s in scores.items()}
