"""The expectation whose gradient is estimated: L(λ, θ) = E_{q_λ(z)}[f_{λ,θ}(z)].

`Integrand` is the interface that a user implements. `Expectation` joins an integrand to a family. f may depend on
parameters in these ways:

- not at all;
- for an ELBO, through the entropy term −log q_λ(z), whose ∂/∂λ at fixed z has expectation zero;
- on parameters θ of a model, which q does not depend on, so ∇_θ L = E ∇_θ f;
- on blocks of λ, so that

    ∇_λ L = E[f_λ(z) ∇_λ log q_λ(z) + ∂f_λ(z)/∂λ],

  where the first term may be estimated in any way. The second, the explicit term, is averaged over samples of q, as is
  ∇_θ f.

With K > 1 importance samples, L is the importance-weighted bound of Burda et al. 2016, which for K = 1 is the ELBO:
L_K(λ, θ) = E[log (1/K) Σ_k w_k] with w_k = p(x, z_k)/q_λ(z_k) and z_1, …, z_K ~ q_λ independent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast, get_args

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.capabilities import Capable
from gradmeter.estimators.families.family import Family
from gradmeter.estimators.noise import DrawnNoise, Noise

Array = Any
Blocks = dict[str, Array]
Entropy = Literal["none", "sampled", "analytic"]
Differentiate = Literal["closed-form", "autodiff"]

#: Capabilities that an estimator may require of f.
INTEGRAND = {
    "gradient": "∇f",
    "hessian_product": "∇²f times a vector",
    "curvature": "E ∇²f as the curvature of E f",
}


def relative_weights(xp: Any, log_weights: Array) -> tuple[Array, Array]:
    """Return the weights of K samples, divided by the largest one, and the logarithm of the largest one.

    Parameters
    ----------
    xp
        Array API namespace of the backend.
    log_weights
        log w [..., K].

    Returns
    -------
    weights
        w_k / max_j w_j [..., K].
    top
        max_j log w_j [..., 1].
    """
    top = xp.max(log_weights, axis=-1, keepdims=True)
    return xp.exp(log_weights - top), top


def log_mean_weight(xp: Any, log_weights: Array) -> Array:
    """Return log (1/K) Σ_k w_k; log w itself for K = 1.

    Parameters
    ----------
    xp
        Array API namespace of the backend.
    log_weights
        log w [..., K].

    Returns
    -------
    array
        [...].
    """
    if log_weights.shape[-1] == 1:
        return log_weights[..., 0]
    weights, top = relative_weights(xp, log_weights)
    return xp.log(xp.mean(weights, axis=-1)) + top[..., 0]


class Integrand(ABC):
    """The function f(z), or log p(x, z) for an ELBO, over a batch of samples.

    Instances are stateless and hashable, and equal ones share compiled functions, so numbers belong in `data`. An
    instance with attributes is equal only to itself, unless its class is a frozen dataclass. A class declares in
    `unsupported` whether f is smooth.

    Shapes: z is [R, S, D], also for S = 1; values are [R, S], gradients [R, S, D]. `noise` holds the
    arrays [R, ...] that `noise_specs` declares. `xp` is the array API namespace of the backend.

    Attributes
    ----------
    reads_logs
        Whether `value`, `gradient` and `local_terms` take the `Logs` of z as a last argument if the family provides
        them (`Family.logs`): for an f that behaves like log z or log(1 − z) near an end of the support, where z itself
        has been rounded.
    reads
        Blocks of λ that f reads in `data`, under their names. Every estimator adds the explicit term E ∂f/∂λ at fixed
        z.
    explicit_term_is_zero
        Whether E ∂f/∂λ = 0 at every λ, as for a maximum over λ. Blocks in `reads` then count as constants: no estimator
        adds the explicit term.
    explicit_pullback
        Optional method: Σ_s cotangent_s ∂f(z_s)/∂λ at fixed z_s for every block in `reads` and every replicate, {block:
        [R, *shape]}. Arguments as for `model_pullback`. Without it, only backends with automatic differentiation work.
    model_pullback
        Optional method: Σ_s cotangent_s ∇_θ f(z_s) for every replicate, {block: [R, *shape]}, with the cotangent [...]
        of the shape of the values. Takes (xp, data, z, cotangent, noise). Without it, only backends with automatic
        differentiation work.
    gradient
        Optional method: ∇_z f [..., D]. Takes (xp, data, z, noise). Without it, only backends with automatic
        differentiation work.
    hessian_product
        Optional method: ∇²_z f times a vector [..., D]. Takes (xp, data, z, vector, noise). Without it, only backends
        with automatic differentiation work.
    hessian
        Optional method: the full Hessian ∇²_z f [..., D, D]. Takes (backend, data, z, noise). Default: D Hessian-vector
        products.
    replaced
        Optional method: f at z with coordinate i replaced by replacement_i, for every i [..., D]. Takes (backend, data,
        z, replacement, noise). Default: D evaluations of f.
    local_terms
        Optional method: the sum of the terms of f that contain z_i, for every i [..., D]. Takes (xp, data, z, noise).
        Default: f counts as one term that contains every z_i.
    unsupported
        The capabilities that f does not have, {name in `INTEGRAND`: why}. A corner or a discontinuity invalidates the
        identities that rest on ∇²f ("curvature") and makes quadrature over the noise inaccurate. `unsupported = {}`
        declares that f is smooth, in z and in its own noise. A user's class that does not set `unsupported` is never
        integrated over the noise, only sampled.
    """

    reads_logs: ClassVar[bool] = False
    reads: tuple[str, ...] = ()
    explicit_term_is_zero: bool = False
    explicit_pullback: Any = None
    model_pullback: Any = None
    gradient: Any = None
    hessian_product: Any = None
    hessian: Any = None
    replaced: Any = None
    local_terms: Any = None
    unsupported: Mapping[str, str] = MappingProxyType({})

    def noise_specs(self, data: dict[str, Array]) -> dict[str, Noise]:
        """Return the noise that f itself draws, such as the row numbers of a minibatch.

        Parameters
        ----------
        data
            {name: array}, the arrays that f reads.

        Returns
        -------
        dict
            {name: Noise}; empty if f draws nothing.
        """
        return {}

    def width(self, data: dict[str, Array], dimension: int) -> int:
        """Return the size of the largest intermediate array per sample, which determines the block size.

        Parameters
        ----------
        data
            {name: array}, the arrays that f reads.
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        int
        """
        return dimension

    @abstractmethod
    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        """Return f at every sample.

        Parameters
        ----------
        xp
            Array API namespace of the backend.
        data
            {name: array}, the arrays that f reads.
        z
            Samples [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.

        Returns
        -------
        array
            [...].
        """

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameter blocks θ of f, which it reads in `data` under their names.

        They are known without data, so that a problem's blocks are too.

        Returns
        -------
        dict
            {block: shape}; empty for an f without parameters of its own.
        """
        return {}

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and not vars(self) and not vars(other))

    def __hash__(self) -> int:
        return hash(type(self))


class Expectation:
    """L(λ) = E_{q_λ}[f(z)], or the ELBO E_{q_λ}[log p(x, z) − log q_λ(z)].

    Parameters
    ----------
    family, integrand
        q_λ, and f (log p(x, z) for an ELBO).
    data
        Arrays that the integrand reads. They are traced under compilation, so a grid over numbers compiles once.
    entropy
        `none`: f is the integrand. `sampled`: f is the integrand − log q_λ. `analytic`: f is the integrand, and the
        exact gradient of the entropy is added to every estimate.
    differentiate
        `closed-form` uses the integrand's own derivatives where it has them, `autodiff` those of the backend.
    importance_samples
        K, the number of importance samples of a bound; above 1 with `sampled` entropy only. S counts averages over K.

    Raises
    ------
    UsageError
        An argument has the wrong type or value, or the integrand reads a block that the family does not have.
    """

    def __init__(
        self,
        family: Family,
        integrand: Integrand,
        data: dict[str, Array],
        entropy: Entropy = "none",
        differentiate: Differentiate = "closed-form",
        importance_samples: int = 1,
    ) -> None:
        for what, given, kind in (("family", family, Family), ("integrand", integrand, Integrand)):
            if not isinstance(given, kind):
                shown = f"the class {given.__name__}; give an object of it" if isinstance(given, type) else repr(given)
                raise UsageError(f"{what} of the Expectation is {shown}; it must be an object of class {kind.__name__}")
        if not isinstance(data, Mapping):
            raise UsageError(f"data of the Expectation is {data!r:.60}; it must be a dict {{name: array}}")
        for what, chosen, choices in (("entropy", entropy, Entropy), ("differentiate", differentiate, Differentiate)):
            if chosen not in get_args(choices):
                raise UsageError(f"{what} of the Expectation is {chosen!r}; choose from {', '.join(get_args(choices))}")
        reads: Any = integrand.reads
        if isinstance(reads, str) or not isinstance(reads, Sequence):
            raise UsageError(
                f"{type(integrand).__name__}: reads is {reads!r}; it must be a tuple of names of blocks of λ"
            )
        if importance_samples < 1 or (importance_samples > 1 and entropy != "sampled"):
            raise UsageError(
                f"importance samples: {importance_samples} with entropy={entropy}; they must be at least 1, and above "
                "1 the bound needs entropy=sampled"
            )
        unknown = [name for name in integrand.reads if name not in family.blocks]
        if unknown:
            raise UsageError(
                f"{type(integrand).__name__} reads {', '.join(unknown)}, which family {family.name} has not got; "
                f"`reads` must be among its blocks: {', '.join(family.blocks)}"
            )
        self.family = cast(Capable, family)  # `Estimator.check` comes before any estimate
        self.integrand = integrand
        self.data = data
        self.entropy = entropy
        self.differentiate = differentiate
        self.importance_samples = importance_samples

    @property
    def structure(self) -> Hashable:
        """The static part of the expectation: expectations with equal structures can share one compiled function."""
        return (self.family, self.integrand, self.entropy, self.differentiate, self.importance_samples)

    def bind(self, data: dict[str, Array]) -> Expectation:
        """Return an expectation with the same structure and other data.

        Parameters
        ----------
        data
            {name: array}, with the names and shapes of the present data.

        Returns
        -------
        Expectation
        """
        return Expectation(self.family, self.integrand, data, self.entropy, self.differentiate, self.importance_samples)

    def at(self, parameters: Blocks) -> tuple[Expectation, Blocks]:
        """Return the expectation with the blocks that f reads moved into its data, and the blocks of λ.

        Parameters
        ----------
        parameters
            λ, and θ of a model that has parameters, {parameter block: [*shape]}.

        Returns
        -------
        expectation
            Its data hold the blocks that f reads.
        blocks
            λ alone, {parameter block: [*shape]}.
        """
        read = (*self.integrand.reads, *self.model_blocks)
        if not read:
            return self, parameters
        own = {name: parameters[name] for name in self.family.blocks}
        return self.bind({**self.data, **{name: parameters[name] for name in read}}), own

    def per_datum_parameters(self, backend: Backend, parameters: Blocks) -> list[Blocks]:
        """Return the parameters of every per-datum posterior, concatenated where all coordinates are independent.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.

        Returns
        -------
        list of dict
            Parameters of the family; one dict, unless coordinates of one datum depend on each other.
        """
        return [self.at(parameters)[1]]

    @property
    def model_blocks(self) -> tuple[str, ...]:
        """The names of the blocks of θ."""
        return tuple(self.integrand.model_shapes())

    @property
    def read_blocks(self) -> tuple[str, ...]:
        """The names of the blocks of λ whose gradient has an explicit term E ∂f/∂λ."""
        return () if self.integrand.explicit_term_is_zero else self.integrand.reads

    @property
    def explicit_blocks(self) -> tuple[str, ...]:
        """The names of all blocks whose gradient has an explicit term: those of λ, then those of θ.

        The gradient of a block of θ has no other term.
        """
        return (*self.read_blocks, *self.model_blocks)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of all parameter blocks, those of λ first."""
        return (*self.family.blocks, *self.model_blocks)

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter block, for z of D coordinates.

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {parameter block: shape}.
        """
        return {**self.family.shapes(dimension), **self.integrand.model_shapes()}

    @property
    def population(self) -> int:
        """The number of data that have a latent variable z of their own; 1 if one z stands for all."""
        return 1

    def noise_specs(self) -> dict[str, Noise]:
        """Return the noise that f itself draws.

        Returns
        -------
        dict
            {name: Noise}.
        """
        return self.integrand.noise_specs(self.data)

    def estimated_by(self, estimator: Any) -> Any:
        """Return the estimator of ∇L built from an estimator of ∇_λ E f: the same one, unless an encoder computes λ.

        Parameters
        ----------
        estimator
            An estimator of ∇_λ E f.

        Returns
        -------
        Estimator
        """
        return estimator

    def sample_specs(self, dimension: int) -> dict[str, Noise]:
        """Return the noise of f and of one sample z (of K samples for a bound).

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {name: Noise}.
        """
        return {**self.family.noise((self.importance_samples,), dimension), **self.noise_specs()}

    def sampled_objective(self, backend: Backend, parameters: Blocks, noise: DrawnNoise) -> Array:
        """Return f_λ at the sample that this noise makes; for a bound, log (1/K) Σ_k w_k.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            As `sample_specs` declares.

        Returns
        -------
        array
            [R].
        """
        bound, own = self.at(parameters)
        z, logs = self.family.sample(backend, own, noise), self.family.logs(backend, own, noise)
        value = bound.value(backend, own, z, noise, *logs)
        weights = backend.xp.reshape(value, (value.shape[0], -1, self.importance_samples))
        return log_mean_weight(backend.xp, weights)[:, 0]

    def width(self, dimension: int) -> int:
        """Return the size of the largest array that f or the family's derivatives make.

        The size is per sample, for a bound per K samples.

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        int
        """
        sizes = [math.prod(shape) for shape in self.shapes(dimension).values()]
        return self.importance_samples * max(self.integrand.width(self.data, dimension), *sizes)

    def value(self, backend: Backend, parameters: Blocks, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """Return f_λ(z).

        In all methods here, `logs` are the logs of z, if the family provides them (`Family.logs`).

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        z
            Samples [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.
        *logs
            The `Logs` of z, if the family provides them (`Family.logs`).

        Returns
        -------
        array
            [...].
        """
        value = self.integrand.value(backend.xp, self.data, z, noise, *self._read(logs))
        if self.entropy == "sampled":
            value = value - self.family.log_density(backend, parameters, z, *logs)
        return value

    def gradient(self, backend: Backend, parameters: Blocks, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """Return ∇_z f_λ(z) at fixed λ.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        z
            Samples [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.
        *logs
            The `Logs` of z, if the family provides them (`Family.logs`).

        Returns
        -------
        array
            [..., D].
        """
        gradient = self.integrand_gradient(backend, z, noise, *logs)
        if self.entropy == "sampled":
            gradient = gradient - self.family.log_density_gradient(backend, parameters, z, *logs)
        return gradient

    def _read(self, logs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments that pass the logs to the integrand, if it reads them."""
        return logs if self.integrand.reads_logs else ()

    def integrand_gradient(self, backend: Backend, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """Return ∇_z of the integrand, without an ELBO's entropy term.

        Parameters
        ----------
        backend
            Array framework.
        z
            Samples [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.
        *logs
            The `Logs` of z, if the family provides them (`Family.logs`).

        Returns
        -------
        array
            [..., D].
        """
        xp = backend.xp
        if self.differentiate == "closed-form" and self.integrand.gradient is not None:
            return self.integrand.gradient(xp, self.data, z, noise, *self._read(logs))
        return backend.gradient(lambda at: xp.sum(self.integrand.value(xp, self.data, at, noise)))(z)

    def hessian_product(
        self, backend: Backend, parameters: Blocks, z: Array, vector: Array, noise: dict[str, Array]
    ) -> Array:
        """Return ∇²_z f_λ(z) times a vector, at fixed λ.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        z
            Samples [..., D].
        vector
            [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.

        Returns
        -------
        array
            [..., D].
        """
        product = self.integrand_hessian_product(backend, z, vector, noise)
        if self.entropy == "sampled":
            product = product - self.family.log_density_hessian_product(backend, parameters, z, vector)
        return product

    def integrand_hessian_product(self, backend: Backend, z: Array, vector: Array, noise: dict[str, Array]) -> Array:
        """Return ∇²_z of the integrand, without an ELBO's entropy term, times a vector.

        Parameters
        ----------
        backend
            Array framework.
        z
            Samples [..., D].
        vector
            [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.

        Returns
        -------
        array
            [..., D].
        """
        xp = backend.xp
        if self.differentiate == "closed-form" and self.integrand.hessian_product is not None:
            return self.integrand.hessian_product(xp, self.data, z, vector, noise)
        return backend.hvp(lambda at: xp.sum(self.integrand.value(xp, self.data, at, noise)))(z, vector)

    def explicit_pullback(self, backend: Backend, z: Array, cotangent: Array, noise: dict[str, Array]) -> Blocks:
        """Return Σ_s cotangent_s ∂f(z_s) at fixed z_s for every block in `explicit_blocks` and every replicate.

        Call this on the expectation that `at` returned, whose data hold the blocks.

        Parameters
        ----------
        backend
            Array framework.
        z
            Samples [R, S, D].
        cotangent
            Weight of every sample [R, S].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.

        Returns
        -------
        dict
            {block: [R, *shape]}.

        Raises
        ------
        NotApplicable
            The integrand has no method for these derivatives, and the backend cannot differentiate automatically.
        """
        xp, integrand = backend.xp, self.integrand
        found: Blocks = {}
        for method, names in (
            (integrand.explicit_pullback, self.read_blocks),
            (integrand.model_pullback, self.model_blocks),
        ):
            if names and method is not None and self.differentiate == "closed-form":
                found |= method(xp, self.data, z, cotangent, noise)
        left = {name: self.data[name] for name in self.explicit_blocks if name not in found}
        if not left:
            return found

        def total(parameters: Blocks, z: Array, cotangent: Array, noise: dict[str, Array]) -> Array:
            alone = {name: values[None, ...] for name, values in noise.items()}
            value = integrand.value(xp, {**self.data, **parameters}, z[None, ...], alone)
            return xp.sum(cotangent * value[0, ...])

        method = "an `explicit_pullback`" if left.keys() & set(self.read_blocks) else "a `model_pullback`"
        form = "" if self.differentiate == "closed-form" else " and differentiate=closed-form"
        pullback = backend.pullback(total, f"the integrand {method} method{form}")
        return {**found, **pullback(left, z, cotangent, dict(noise))}

    def replaced(
        self, backend: Backend, parameters: Blocks, z: Array, replacement: Array, noise: dict[str, Array]
    ) -> Array:
        """Return f_λ at z with coordinate i replaced by replacement_i, for every i.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        z
            Samples [..., D].
        replacement
            New values of the coordinates [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.

        Returns
        -------
        array
            [..., D].
        """
        if self.integrand.replaced is not None:
            value = self.integrand.replaced(backend, self.data, z, replacement, noise)
        else:
            value = self._replace_one_by_one(backend, z, replacement, noise)
        if self.entropy == "sampled":
            value = value - self.family.log_density_replaced(backend, parameters, z, replacement)
        return value

    def local_terms(self, backend: Backend, parameters: Blocks, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """Return the sum of the terms of f_λ that contain z_i, for every i.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        z
            Samples [..., D].
        noise
            {name: [R, ...]}, as the integrand's `noise_specs` declares.
        *logs
            The `Logs` of z, if the family provides them (`Family.logs`).

        Returns
        -------
        array
            [..., D].
        """
        xp = backend.xp
        if self.integrand.local_terms is not None:
            terms = self.integrand.local_terms(xp, self.data, z, noise, *self._read(logs))
        else:
            terms = self.integrand.value(xp, self.data, z, noise)[..., None] + xp.zeros_like(z)
        if self.entropy == "sampled":
            terms = terms - self.family.log_densities(backend, parameters, z, *logs)
        return terms

    def _replace_one_by_one(self, backend: Backend, z: Array, replacement: Array, noise: dict[str, Array]) -> Array:
        """Evaluate f for one replaced coordinate after another, so that memory stays that of a single evaluation."""
        xp = backend.xp

        def evaluate(chosen: Array) -> Array:
            return self.integrand.value(xp, self.data, xp.where(chosen, replacement, z), noise)

        dimension = z.shape[-1]
        coordinates = backend.asarray(range(dimension), None)
        values = backend.map(evaluate, coordinates[:, None] == coordinates[None, :])  # [D, ...]
        return xp.moveaxis(values, 0, -1)
