"""What every gradient estimator is: a pure function of its noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from gradmeter.estimators import draws
from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.expectation import INTEGRAND, Expectation
from gradmeter.estimators.families.family import ABILITIES, Family
from gradmeter.estimators.noise import Noise

Array = Any
Blocks = dict[str, Array]
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Knowledge:
    """What an estimator with memory may learn from before it is frozen.

    Attributes
    ----------
    objective : E f where it is known exactly, else None.
    optimal_baseline : [*shape] by parameter block, E[f s²]/E[s²] where it is known exactly, else None.
    warm_up : () -> integrand values [W, S] of W estimates, in order, and the scores [W, S, *shape] of the same
        samples by parameter block; drawn from a stream of their own.
    pilot : () -> backend, expectation, parameters and the noise [W, ...] of that warm-up, for what learns from more
        than values and scores.
    """

    objective: float | None
    optimal_baseline: Blocks | None
    warm_up: Callable[[], tuple[Array, Blocks]]
    pilot: Callable[[], tuple[Any, Expectation, Blocks, dict[str, Array]]] | None = None


@dataclass(frozen=True)
class Requires:
    """What an estimator cannot do without.

    Attributes
    ----------
    family : names in `ABILITIES`.
    integrand : names in `INTEGRAND`; values of f alone where empty.
    inputs : whether f must draw which inputs it sees, such as the rows of a minibatch.
    """

    family: tuple[str, ...] = ()
    integrand: tuple[str, ...] = ()
    inputs: bool = False

    def __or__(self, other: Requires) -> Requires:
        return Requires(
            tuple(dict.fromkeys(self.family + other.family)),
            tuple(dict.fromkeys(self.integrand + other.integrand)),
            self.inputs or other.inputs,
        )


@dataclass(frozen=True)
class Estimator(ABC):
    """One estimator of ∇_λ L, with its options as fields.

    `estimate` is pure: the same noise gives the same gradient on every backend. Equal estimators share
    compiled functions.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: What it requires, whatever its options.
    requires: ClassVar[Requires]
    #: Declared wrong: a positive control of the bias verdict.
    planted: ClassVar[bool] = False
    #: Why it is biased by nature, and of what order; None where it is unbiased.
    biased: ClassVar[str | None] = None
    #: Whether it estimates gradients of bounds with several importance samples.
    bounds: ClassVar[bool] = False

    def also_requires(self, entropy: str) -> Requires:
        """What it requires with the options it has, in its own use of an ELBO's entropy."""
        return Requires()

    @final
    def requirements(self, entropy: str) -> Requires:
        """All of it, with what any estimator needs for an ELBO's entropy."""
        own = self.requires | self.also_requires(entropy)
        if entropy == "analytic":
            return own | Requires(("entropy_gradient",))
        if entropy == "sampled" and own.integrand:
            return own | Requires(("log_density_gradient",))
        return own

    @final
    def lacking(self, family: Family, entropy: str, integrand: Mapping[str, str] = NOTHING) -> str | None:
        """What this estimator requires and the family has not got, or f, whose `lacks` is the last argument, with the
        reason; None if they have all."""
        for ability in self.requirements(entropy).family:
            if ability in family.lacks:
                return f"{self.name} needs {ABILITIES[ability]}; family {family.name}: {family.lacks[ability]}"
        for ability in self.requirements(entropy).integrand:
            if ability in integrand:
                return f"{self.name} needs {INTEGRAND[ability]}; {integrand[ability]}"
        return self.also_lacking(family)

    def also_lacking(self, family: Family) -> str | None:
        """The same for what is not an ability, whatever S and the dimension: a kind of noise."""
        return None

    def least_entropy(self) -> str:
        """The `entropy` of the simplest problem it applies to: `sampled` for what is for ELBOs alone."""
        return "none"

    @final
    def check(
        self,
        family: Family,
        entropy: str,
        num_samples: int,
        dimension: int,
        integrand: Mapping[str, str] = NOTHING,
        importance_samples: int = 1,
    ) -> None:
        """Raise NotApplicable, with the reason, where this estimator has no meaning."""
        reason = self.lacking(family, entropy, integrand)
        if reason is not None:
            raise NotApplicable(reason)
        if importance_samples > 1 and not self.bounds:
            raise NotApplicable(
                f"{self.name} estimates the gradient of an expectation; the bound of {importance_samples} importance "
                "samples is the expectation of a logarithm of a mean: use iwae, dreg or vimco, or importance-samples=1"
            )
        self.check_settings(family, entropy, num_samples, dimension)

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:  # noqa: B027
        """The same for what is not a requirement: S, the dimension, options that need an ELBO."""

    def smallest_num_samples(self) -> int:
        """The least S it can work with."""
        return 1

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        """Everything one estimate draws, by name."""
        base = expectation.family.noise(sample_shape(num_samples), dimension)
        return {**base, **expectation.noise_specs()}

    def noise_by_block(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, set[str]]:
        """Which of the names each parameter block's estimate reads."""
        names = set(self.noise_specs(expectation, num_samples, dimension))
        return dict.fromkeys(expectation.blocks, names)

    def jumps(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        """Where an estimate jumps or has a corner: by name of noise, values that broadcast to [*shape, J]; for names of
        which nothing is said, nowhere. Certificates by integration rest on it, so a class that draws noise or branches
        on it in a way of its own says so here, and a user's class that does not say is sampled instead.

        Parameters
        ----------
        parameters : float64 NumPy arrays.

        Raises
        ------
        NotApplicable
            It jumps where no value of a single number tells.
        """
        return expectation.family.jumps(parameters, dimension)

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        """Evaluations of f (or of its gradient) that one estimate costs."""
        return num_samples

    def fit(self, known: Knowledge) -> Blocks:
        """The frozen state, as NumPy arrays."""
        return {}

    def estimate(
        self, backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        """One gradient per replicate, {parameter block: [R, *shape]}.

        Parameters
        ----------
        backend : Backend
        expectation : what is differentiated, with its data.
        parameters : λ, {parameter block: [*shape]}.
        noise : {name: [R, ...]} as `noise_specs` declares.
        state : from `fit`.
        """
        bound, own = expectation.at(parameters)
        explicit: Blocks = {}
        if expectation.explicit_blocks:
            gradients, z, weights = self.estimate_and_samples(backend, bound, own, noise, state)
            explicit = self.explicit_terms(backend, bound, z, weights, noise)
        else:
            gradients = self.estimate_integrand(backend, bound, own, noise, state)
        check_blocks(self.name, gradients, own)
        if expectation.entropy == "analytic":
            exact = expectation.family.entropy_gradient(backend, own)
            gradients = {name: gradient + exact[name] for name, gradient in gradients.items()}
        terms = {name: gradients[name] + term if name in gradients else term for name, term in explicit.items()}
        return {**gradients, **terms}

    def family_noise(self, backend: Any, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
        """The family's noise of all S samples, made from what this estimator draws."""
        return noise

    def estimate_and_samples(
        self, backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        """`estimate_integrand`, and samples of q with the weights [R, S] at which explicit derivatives of f, in λ or in
        θ, are added up over them. Here the samples that the noise makes, each of them from q, and 1/S: the mean."""
        found = self.estimate_integrand(backend, expectation, parameters, noise, state)
        z = self._samples(backend, expectation.family, parameters, noise)
        share = 1.0 if z.ndim == 2 else 1.0 / z.shape[1]
        return found, z, backend.xp.zeros_like(z[..., 0]) + share

    def _samples(self, backend: Any, family: Family, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """The samples of q that the noise makes: from the family's own, or by rounding relaxed ones."""
        made = self.family_noise(backend, family, noise)
        if all(name in made for name in family.noise((), 1)):
            return family.sample(backend, parameters, made)
        if "relaxation" not in family.lacks:
            relaxation = family.relaxation()
            if all(name in made for name in relaxation.noise((), 1)):
                return relaxation.hard(backend, relaxation.perturbed(backend, parameters, made))
        raise NotApplicable(
            f"{self.name} draws no samples of q, over which ∇f in λ or in a model's parameters, at fixed z, is averaged"
        )

    def explicit_terms(
        self, backend: Any, expectation: Expectation, z: Array, weights: Array, noise: dict[str, Array]
    ) -> Blocks:
        """Σ_s weight_s ∂f(z_s) at fixed z_s in every one of `explicit_blocks`, {block: [R, *shape]}."""
        return expectation.explicit_pullback(backend, z, weights, noise)

    @abstractmethod
    def estimate_integrand(
        self, backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        """The estimate without an analytic entropy's term and without explicit derivatives of f, which `estimate` adds:
        of ∇_λ E_{q_λ} f with λ in f held fixed."""


def check_learnt(name: str, *arrays: np.ndarray) -> None:
    """Raise FloatingPointError where an estimator would learn from numbers that are not finite."""
    if not all(np.all(np.isfinite(a)) for a in arrays):
        raise FloatingPointError(
            f"{name} fits its control variate to a warm-up with NaN or infinite values; give less extreme options"
        )


def check_blocks(estimator: str, found: Any, blocks: Iterable[str]) -> None:
    """Raise UsageError where estimates are no dict of exactly these parameter blocks."""
    wanted = ", ".join(blocks)
    if not isinstance(found, dict):
        raise UsageError(
            f"estimator {estimator} returns {described(found)}; return a dict of arrays [R, *shape], one for each of "
            f"{wanted}"
        )
    missing, extra = [name for name in blocks if name not in found], [name for name in found if name not in blocks]
    if missing and extra:
        raise UsageError(
            f"estimator {estimator} returns an estimate of {', '.join(map(str, extra))} and none of "
            f"{', '.join(missing)}; the parameter blocks here are {wanted}"
        )
    if missing:
        raise UsageError(
            f"estimator {estimator} returns no estimate of {', '.join(missing)}; return one for each of {wanted}"
        )
    if extra:
        raise UsageError(
            f"estimator {estimator} returns an estimate of {', '.join(map(str, extra))}, which is no parameter block "
            f"here; these are {wanted}"
        )


def dtype_of(array: Any) -> str:
    """Return the name of an array's dtype without its framework, as `Backend.asarray` takes it."""
    return str(array.dtype).rpartition(".")[2]


def described(found: Any) -> str:
    """Name the type of an object, for people."""
    kind = type(found)
    owner = kind.__module__.partition(".")[0]
    return "None" if found is None else kind.__name__ if owner == "builtins" else f"{owner}.{kind.__name__}"


def sample_shape(num_samples: int) -> tuple[int, ...]:
    """The sample axis of one estimate's arrays. S = 1 has none: the replicates are then one flat batch [R, D],
    which compilers turn into faster loops than [R, 1, D]."""
    return () if num_samples == 1 else (num_samples,)


def mean_over_samples(xp: Any, z: Array, per_sample: Array) -> Array:
    """[R, S, *shape] to [R, *shape]; where S = 1 the samples z [R, D] have no sample axis, and neither has this."""
    return per_sample if z.ndim == 2 else xp.mean(per_sample, axis=1)


def spread(values: Array, over: Array) -> Array:
    """Values [...], one a sample, in a form that broadcasts with what is [..., *shape]."""
    return values[(..., *(None,) * (over.ndim - values.ndim))]


def values_and_scores(
    backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]
) -> tuple[Array, Blocks]:
    """f [R, S] and the scores [R, S, *shape] at the samples that the noise makes, as NumPy arrays."""
    noise = draws.from_uniforms(backend, expectation.family, noise)
    family = expectation.family
    z, logs = family.sample(backend, parameters, noise), family.logs(backend, parameters, noise)
    values = backend.to_numpy(expectation.value(backend, parameters, z, noise, *logs))
    values = values.reshape(len(values), -1)
    scores = family.score(backend, parameters, z, *logs)
    return values, {k: backend.to_numpy(s).reshape(*values.shape, *s.shape[z.ndim - 1 :]) for k, s in scores.items()}
