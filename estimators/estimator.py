"""The base class of gradient estimators, and helpers for their implementations.

An estimator is a pure function of its noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from gradmeter.estimators import draws
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.expectation import INTEGRAND, Expectation
from gradmeter.estimators.families.capabilities import CAPABILITIES, has, missing
from gradmeter.estimators.families.family import Family
from gradmeter.estimators.noise import DrawnNoise, Noise

Array = Any
Blocks = dict[str, Array]
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class WarmupContext:
    """The information that an estimator with memory may learn from before it is frozen.

    Attributes
    ----------
    objective
        E f where it is known exactly, else None.
    optimal_baseline
        E[f s²]/E[s²] by parameter block [*shape] where it is known exactly, else None.
    warm_up
        Function that returns the integrand values [W, S] of W warm-up estimates, in order, and the scores [W, S,
        *shape] of the same samples by parameter block. The warm-up has a random stream of its own.
    pilot
        Function that returns the backend, the expectation, the parameters and the noise [W, ...] of the same warm-up,
        for estimators that learn from more than values and scores.
    """

    objective: float | None
    optimal_baseline: Blocks | None
    warm_up: Callable[[], tuple[Array, Blocks]]
    pilot: Callable[[], tuple[Any, Expectation, Blocks, DrawnNoise]] | None = None


@dataclass(frozen=True)
class Requires:
    """The capabilities that an estimator needs from the family and from f.

    Attributes
    ----------
    family
        Names in `CAPABILITIES`.
    integrand
        Names in `INTEGRAND`; empty if values of f suffice.
    inputs
        Whether f must draw the inputs it sees, such as the rows of a minibatch.
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
    """An estimator of ∇_λ L, with its options as dataclass fields.

    `estimate` is a pure function: the same noise gives the same gradient on every backend. Estimators that compare
    equal share compiled functions.

    Shapes: noise and samples are [R, S, ...], values of f [R, S], gradients [R, *shape], also for S = 1.

    To add an estimator, subclass this class and implement `estimate_integrand`. Override `noise_specs` and
    `discontinuities` if the estimator draws other noise than S samples of the family, and `evaluations` if it does not
    evaluate f once a sample.

    Attributes
    ----------
    name
        Name in result rows and on the command line.
    summary
        One line for `gradmeter list`.
    requires
        Capabilities that the estimator requires whatever its options are.
    injected
        Whether the estimator is deliberately wrong: a positive control of the bias verdict.
    biased
        Why the estimator is biased by construction, and of what order; None if it is unbiased.
    bounds
        Whether it estimates gradients of importance-weighted bounds (K > 1 importance samples).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    requires: ClassVar[Requires]
    injected: ClassVar[bool] = False
    biased: ClassVar[str | None] = None
    bounds: ClassVar[bool] = False

    def follows(self, problem: Mapping[str, Any] = NOTHING) -> str | None:
        """Return what the present options make of ∇L, in words; None if the estimate is unbiased.

        Parameters
        ----------
        problem
            The options of the problem by name, where they are known.

        Returns
        -------
        str or None
        """
        return self.biased

    def also_requires(self, entropy: str) -> Requires:
        """Return the capabilities that the present options require.

        Parameters
        ----------
        entropy
            How the problem treats an ELBO's entropy: `none`, `sampled` or `analytic` (see `Expectation`). Only the
            estimator's own use of the entropy counts here; `requirements` adds the rest.

        Returns
        -------
        Requires
        """
        return Requires()

    @final
    def requirements(self, entropy: str) -> Requires:
        """Return all required capabilities, including those that every estimator needs for an ELBO's entropy.

        Parameters
        ----------
        entropy
            How the problem treats an ELBO's entropy: `none`, `sampled` or `analytic` (see `Expectation`).

        Returns
        -------
        Requires
        """
        own = self.requires | self.also_requires(entropy)
        if entropy == "analytic":
            return own | Requires(("entropy_gradient",))
        if entropy == "sampled" and own.integrand:
            return own | Requires(("log_density_gradient",))
        return own

    @final
    def unsupported_reason(self, family: Family, entropy: str, integrand: Mapping[str, str] = NOTHING) -> str | None:
        """Return the first required capability that the family or f does not have, with the reason, else None.

        Parameters
        ----------
        family
            Family q_λ.
        entropy
            How the problem treats an ELBO's entropy: `none`, `sampled` or `analytic` (see `Expectation`).
        integrand
            The `unsupported` of the integrand.

        Returns
        -------
        str or None
            One line for the reason of a result row.
        """
        for ability, why in missing(family, self.requirements(entropy).family).items():
            return f"{self.name} needs {CAPABILITIES[ability].what}; family {family.name}: {why}"
        for ability in self.requirements(entropy).integrand:
            if ability in integrand:
                return f"{self.name} needs {INTEGRAND[ability]}; {integrand[ability]}"
        return self.also_unsupported(family)

    def also_unsupported(self, family: Family) -> str | None:
        """Return why the family does not suit the estimator, if the reason is no capability, else None.

        An example is the kind of noise. The answer must not depend on S or on the dimension; those belong in
        `check_settings`.

        Parameters
        ----------
        family
            Family q_λ.

        Returns
        -------
        str or None
            One line for the reason of a result row.
        """
        return None

    def default_entropy(self) -> str:
        """Return the `entropy` of the simplest applicable problem: `sampled` for estimators of ELBOs only.

        Returns
        -------
        {"none", "sampled", "analytic"}
        """
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
        """Check that the estimator applies to a problem.

        Parameters
        ----------
        family
            Family q_λ.
        entropy
            How the problem treats an ELBO's entropy: `none`, `sampled` or `analytic` (see `Expectation`).
        num_samples
            S.
        dimension
            D, the number of coordinates of z.
        integrand
            The `unsupported` of the integrand.
        importance_samples
            K, the number of importance samples of a bound; 1 otherwise.

        Raises
        ------
        NotApplicable
            It does not; the message is the reason.
        """
        reason = self.unsupported_reason(family, entropy, integrand)
        if reason is not None:
            raise NotApplicable(reason)
        if importance_samples > 1 and not self.bounds:
            raise NotApplicable(
                f"{self.name} estimates the gradient of an expectation; the bound of {importance_samples} importance "
                "samples is the expectation of a logarithm of a mean: use iwae, dreg or vimco, or importance-samples=1"
            )
        self.check_importance_samples(importance_samples)
        self.check_settings(family, entropy, num_samples, dimension)

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:  # noqa: B027
        """Check that S, the dimension and the options suit the problem.

        Parameters
        ----------
        family
            Family q_λ.
        entropy
            How the problem treats an ELBO's entropy: `none`, `sampled` or `analytic` (see `Expectation`).
        num_samples
            S.
        dimension
            D, the number of coordinates of z.

        Raises
        ------
        NotApplicable
            They do not; the message is the reason.
        """

    def check_importance_samples(self, importance_samples: int) -> None:  # noqa: B027
        """Raise NotApplicable if K rules the estimator out.

        Parameters
        ----------
        importance_samples
            K, the number of samples of a bound.
        """

    def smallest_num_samples(self) -> int:
        """Return the smallest S that the estimator works with.

        Returns
        -------
        int
        """
        return 1

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        """Return the noise that one estimate draws, by name.

        Parameters
        ----------
        expectation
            Expectation that is differentiated, with its data.
        num_samples
            S.
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {name: Noise}; one array [R, *shape] is drawn for each.
        """
        base = expectation.family.noise((num_samples,), dimension)
        return {**base, **expectation.noise_specs()}

    def noise_by_block(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, set[str]]:
        """Return the names of the noise that the estimate of each parameter block reads.

        Parameters
        ----------
        expectation
            Expectation that is differentiated, with its data.
        num_samples
            S.
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {parameter block: set of names in `noise_specs`}.
        """
        names = set(self.noise_specs(expectation, num_samples, dimension))
        return dict.fromkeys(expectation.blocks, names)

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        """Return the values of the noise at which an estimate is discontinuous or has a corner.

        The certificate by integration relies on these values. Override this method in a class that draws its own noise
        or branches on noise. A user's class that defines other methods but not this one is measured by sampling instead
        of integration.

        Parameters
        ----------
        expectation
            Expectation that is differentiated, with its data.
        parameters
            λ as float64 NumPy arrays.
        num_samples
            S.
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            Arrays that broadcast to [*shape, J], by name of noise. Noise that is left out causes no discontinuity.

        Raises
        ------
        NotApplicable
            A discontinuity is not at a fixed value of a single number.
        """
        return expectation.family.discontinuities(parameters, dimension)

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        """Return how many evaluations of f (or of its gradient) one estimate costs.

        Parameters
        ----------
        expectation
            Expectation that is differentiated, with its data.
        num_samples
            S.
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        int
        """
        return num_samples

    def fit(self, known: WarmupContext) -> Blocks:
        """Return the frozen state learned from the warm-up, as NumPy arrays by name.

        Parameters
        ----------
        known
            What may be learned from; its `warm_up` draws noise of its own.

        Returns
        -------
        dict
            {name: array}; empty for an estimator without memory.

        Raises
        ------
        FloatingPointError
            The warm-up has NaN or infinite values.
        """
        return {}

    def estimate(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        """Return one gradient estimate per replicate.

        Parameters
        ----------
        backend
            The array framework, a `Backend`.
        expectation
            The expectation that is differentiated, with its data.
        parameters
            λ, and θ of a model that has parameters, {parameter block: [*shape]}.
        noise
            {name: [R, ...]}, as `noise_specs` declares, with R in `noise.replicates`.
        state
            The state returned by `fit`, as arrays of the backend.

        Returns
        -------
        dict
            {parameter block: [R, *shape]}, ∇_λ and, for a model with parameters, ∇_θ.

        Raises
        ------
        NotApplicable
            The gradient has explicit terms, and the estimator or the backend cannot compute them.
        UsageError
            `estimate_integrand` returns something other than one array for each block of λ.
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

    def family_noise(self, backend: Backend, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
        """Return the family's noise for all S samples, made from the noise that this estimator draws.

        Parameters
        ----------
        backend
            Array framework.
        family
            Family q_λ.
        noise
            {name: [R, ...]}, as `noise_specs` declares.

        Returns
        -------
        dict
            {name: [R, S, ...]}, as the family's `noise` declares.
        """
        return noise

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        """Return `estimate_integrand` with the samples and weights for the explicit derivatives of f.

        The explicit derivatives, ∂f/∂λ or ∇_θ f at fixed z, are summed over the samples z [R, S, D] of q with the
        weights [R, S]. The default takes the samples that the noise makes, with weight 1/S each.

        Parameters
        ----------
        backend
            Array framework.
        expectation
            Expectation that is differentiated, with its data.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: [R, ...]}, as `noise_specs` declares, with R in `noise.replicates`.
        state
            What `fit` returned, as arrays of the backend.

        Returns
        -------
        gradients
            As `estimate_integrand` returns them.
        z
            Samples of q [R, S, D].
        weights
            [R, S].

        Raises
        ------
        NotApplicable
            The estimator draws no samples of q.
        """
        found = self.estimate_integrand(backend, expectation, parameters, noise, state)
        z = self._samples(backend, expectation.family, parameters, noise)
        return found, z, backend.xp.zeros_like(z[..., 0]) + 1.0 / z.shape[1]

    def _samples(self, backend: Backend, family: Family, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return the samples of q that the noise makes, from the family's noise or by rounding relaxed samples."""
        made = self.family_noise(backend, family, noise)
        if all(name in made for name in family.noise((), 1)):
            return family.sample(backend, parameters, made)
        if has(family, "relaxation"):
            relaxation = family.relaxation()
            if all(name in made for name in relaxation.noise((), 1)):
                return relaxation.hard(backend, relaxation.perturbed(backend, parameters, made))
        raise NotApplicable(
            f"{self.name} draws no samples of q, over which ∇f in λ or in a model's parameters, at fixed z, is averaged"
        )

    def explicit_terms(
        self, backend: Backend, expectation: Expectation, z: Array, weights: Array, noise: dict[str, Array]
    ) -> Blocks:
        """Return Σ_s weight_s ∂f(z_s) at fixed z_s for every block in `explicit_blocks`.

        Parameters
        ----------
        backend
            Array framework.
        expectation
            Expectation that is differentiated, with its data.
        z
            Samples of q [R, S, D].
        weights
            Weights of the samples [R, S].
        noise
            {name: [R, ...]}, as `noise_specs` declares, with R in `noise.replicates`.

        Returns
        -------
        dict
            {block: [R, *shape]}.
        """
        return expectation.explicit_pullback(backend, z, weights, noise)

    @abstractmethod
    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        """Return the estimate of ∇_λ E_{q_λ} f with λ held fixed in f.

        `estimate` adds the gradient of an analytic entropy and the explicit derivatives of f.

        Parameters
        ----------
        backend
            Array framework.
        expectation
            Expectation that is differentiated, with its data.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: [R, ...]}, as `noise_specs` declares, with R in `noise.replicates`.
        state
            What `fit` returned, as arrays of the backend.

        Returns
        -------
        dict
            {parameter block of λ: [R, *shape]}.
        """


def check_learnt(name: str, *arrays: np.ndarray) -> None:
    """Check that the arrays that an estimator learned on its warm-up are finite.

    Parameters
    ----------
    name
        Name of the estimator, for the message.
    *arrays
        Learned arrays.

    Raises
    ------
    FloatingPointError
        A number is NaN or infinite.
    """
    if not all(np.all(np.isfinite(a)) for a in arrays):
        raise FloatingPointError(
            f"{name} fits its control variate to a warm-up with NaN or infinite values; give less extreme options"
        )


def check_blocks(estimator: str, found: Any, blocks: Iterable[str]) -> None:
    """Check that an estimate is a dict with exactly the parameter blocks that are wanted.

    Parameters
    ----------
    estimator
        Name of the estimator, for the message.
    found
        What the estimator returned.
    blocks
        Names of the parameter blocks that are wanted.

    Raises
    ------
    UsageError
        It is no dict, or a block is missing or not wanted.
    """
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
    """Return the name of an array's dtype without its framework, as `Backend.asarray` takes it.

    Parameters
    ----------
    array
        Array of any framework.

    Returns
    -------
    str
        Such as `float64`.
    """
    return str(array.dtype).rpartition(".")[2]


def described(found: Any) -> str:
    """Return the name of an object's type, for error messages.

    Parameters
    ----------
    found
        Any object.

    Returns
    -------
    str
        The name of its type, with the package for types that are not built in.
    """
    kind = type(found)
    owner = kind.__module__.partition(".")[0]
    return "None" if found is None else kind.__name__ if owner == "builtins" else f"{owner}.{kind.__name__}"


def concatenated(backend: Backend, estimates: Blocks) -> np.ndarray:
    """Return the estimates of all parameter blocks in one NumPy array.

    Parameters
    ----------
    backend
        Array framework.
    estimates
        {parameter block: [R, *shape]}.

    Returns
    -------
    numpy.ndarray
        [R, P], with P parameters in all blocks.
    """
    return np.concatenate([a.reshape(len(a), -1) for a in map(backend.to_numpy, estimates.values())], axis=1)


def mean_over_samples(xp: Any, per_sample: Array) -> Array:
    """Average [R, S, *shape] over the samples to [R, *shape]; on NumPy, S = 1 costs no pass over memory.

    Parameters
    ----------
    xp
        Array API namespace.
    per_sample
        [R, S, *shape].

    Returns
    -------
    array
        [R, *shape].
    """
    if per_sample.shape[1] == 1 and xp.__name__ == "array_api_compat.numpy":  # compilers fuse the mean
        return per_sample[:, 0, ...]
    return xp.mean(per_sample, axis=1)


def spread(values: Array, over: Array) -> Array:
    """Append axes to the per-sample values [...] so that they broadcast with `over` [..., *shape].

    Parameters
    ----------
    values
        [...].
    over
        [..., *shape], of which only the number of axes is used.

    Returns
    -------
    array
        [..., 1, ..., 1], with as many axes as `over`.
    """
    return values[(..., *(None,) * (over.ndim - values.ndim))]


def values_and_scores(
    backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]
) -> tuple[Array, Blocks]:
    """Return f [R, S] and the scores [R, S, *shape] at the samples that the noise makes, as NumPy arrays.

    Parameters
    ----------
    backend
        Array framework.
    expectation
        Expectation that is differentiated, with its data.
    parameters
        λ, {parameter block: [*shape]}.
    noise
        {name: [R, ...]} of S samples of the family.

    Returns
    -------
    values
        f_λ(z) [R, S].
    scores
        ∇_λ log q_λ(z), {parameter block: [R, S, *shape]}.
    """
    noise = draws.from_uniforms(backend, expectation.family, noise)
    family = expectation.family
    z, logs = family.sample(backend, parameters, noise), family.logs(backend, parameters, noise)
    values = backend.to_numpy(expectation.value(backend, parameters, z, noise, *logs))
    return values, {k: backend.to_numpy(s) for k, s in family.score(backend, parameters, z, *logs).items()}
