"""The expectation whose gradient is estimated: L(λ, θ) = E_{q_λ(z)}[f_{λ,θ}(z)].

`Integrand` is what a user writes. `Expectation` joins it to a family, and knows the ways in which f may depend on
parameters: not at all; for an ELBO, through the entropy term −log q_λ(z), whose ∂/∂λ at fixed z has expectation zero;
on parameters θ of a model, which q does not have, so ∇_θ L = E ∇_θ f; and on blocks of λ, so that

    ∇_λ L = E[f_λ(z) ∇_λ log q_λ(z) + ∂f_λ(z)/∂λ],

or any other estimate of the first term. The second, the explicit term, is averaged over samples of q, like ∇_θ f.

With K > 1 importance samples L is the bound of Burda et al. 2016 in place of the ELBO, which it is for K = 1:
L_K(λ, θ) = E[log (1/K) Σ_k w_k] with w_k = p(x, z_k)/q_λ(z_k) and z_1, …, z_K ~ q_λ independent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Family
from gradmeter.estimators.noise import Noise

Array = Any
Blocks = dict[str, Array]
Entropy = Literal["none", "sampled", "analytic"]
Differentiate = Literal["closed-form", "autodiff"]

#: What an estimator may require of f.
INTEGRAND = {
    "gradient": "∇f",
    "hessian_product": "∇²f times a vector",
    "curvature": "E ∇²f as the curvature of E f",
}


def relative_weights(xp: Any, log_weights: Array) -> tuple[Array, Array]:
    """Return w_k / max_j w_j [..., K] from log w [..., K], and the largest log w [..., 1]."""
    top = xp.max(log_weights, axis=-1, keepdims=True)
    return xp.exp(log_weights - top), top


def log_mean_weight(xp: Any, log_weights: Array) -> Array:
    """Return log (1/K) Σ_k w_k [...] from log w [..., K]; log w itself for K = 1."""
    if log_weights.shape[-1] == 1:
        return log_weights[..., 0]
    weights, top = relative_weights(xp, log_weights)
    return xp.log(xp.mean(weights, axis=-1)) + top[..., 0]


class Integrand(ABC):
    """f(z), or log p(x, z) for an ELBO, over a batch of samples.

    Instances are stateless and hashable (equal ones share compiled functions): numbers belong in `data`. An instance
    with attributes is equal to itself alone, unless its class is a frozen dataclass. A class says whether f is smooth,
    in `lacks`.
    Shapes: z [R, S, D], or [R, D] where S = 1, so [..., D]; values [...], gradients [..., D]. `noise` holds what
    `noise_specs` declares, [R, ...].
    `xp` is the array API namespace of the backend.
    """

    def noise_specs(self, data: dict[str, Array]) -> dict[str, Noise]:
        """Noise of its own, such as the row numbers of a minibatch."""
        return {}

    def width(self, data: dict[str, Array], dimension: int) -> int:
        """Elements of the largest intermediate array, per sample: what sizes a block of replicates."""
        return dimension

    @abstractmethod
    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        """f at every sample [...]."""

    #: Whether `value`, `gradient` and `local_terms` take the `Logs` of z as a last argument, where the family has them
    #: (`Family.logs`): for an f that goes as log z or log(1 − z) near an end, where z alone has been rounded.
    reads_logs: ClassVar[bool] = False

    #: Blocks of λ that f reads, in `data` under their names. Every estimator adds the explicit term E ∂f/∂λ at fixed z.
    reads: tuple[str, ...] = ()

    #: Whether E ∂f/∂λ = 0 at every λ, as of a maximum over λ. Blocks in `reads` then count as constants: no estimator
    #: adds the explicit term.
    explicit_term_is_zero: bool = False

    #: Σ_s cotangent_s ∂f(z_s)/∂λ at fixed z_s, for every block in `reads` and every replicate, {block: [R, *shape]};
    #: optional, like `model_pullback`, and with its arguments: without it, only backends that differentiate
    #: automatically can serve.
    explicit_pullback: Any = None

    def model_shapes(self, data: dict[str, Array]) -> dict[str, tuple[int, ...]]:
        """The shapes of f's own parameter blocks θ, which it reads in `data` under their names."""
        return {}

    #: Σ_s cotangent_s ∇_θ f(z_s) for every replicate, {block: [R, *shape]}, with a cotangent [...] of the values'
    #: shape; optional, like `gradient`. Takes (xp, data, z, cotangent, noise).
    model_pullback: Any = None

    #: ∇_z f [..., D]; optional: without it, only backends that differentiate automatically can serve.
    gradient: Any = None

    #: ∇²_z f times a vector [..., D]; optional, like `gradient`. Takes (xp, data, z, vector, noise).
    hessian_product: Any = None

    #: ∇²_z f written out [..., D, D]; optional: without it, D products. Takes (backend, data, z, noise).
    hessian: Any = None

    #: f at z with coordinate i replaced by replacement_i, for every i [..., D]; optional: without it, f is
    #: evaluated D times. Takes (backend, data, z, replacement, noise).
    replaced: Any = None

    #: The sum of the terms of f that contain z_i, for every i [..., D]; optional: without it, f counts as one term
    #: that contains them all. Takes (xp, data, z, noise).
    local_terms: Any = None

    #: What f has not got, {name in `INTEGRAND`: why}: a corner or a jump costs it the identities that rest on ∇²f
    #: ("curvature"), and quadrature over the noise its accuracy. `lacks = {}` says that f is smooth, in z and in noise
    #: of its own: a user's class that does not say itself is never integrated, but sampled.
    lacks: Mapping[str, str] = MappingProxyType({})

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
        Arrays the integrand reads; traced under compilation, so a grid over numbers compiles once.
    entropy
        `none`: f is the integrand. `sampled`: f is the integrand − log q_λ. `analytic`: the entropy's exact
        gradient is added to every estimate of the integrand's.
    differentiate
        `closed-form` uses the integrand's own gradient, `autodiff` the backend's.
    importance_samples
        K, the importance samples of a bound; above 1 with `sampled` entropy only. S counts averages of K.
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
        self.family = family
        self.integrand = integrand
        self.data = data
        self.entropy = entropy
        self.differentiate = differentiate
        self.importance_samples = importance_samples

    @property
    def structure(self) -> Hashable:
        """All that is static: equal structures can share one compiled function."""
        return (self.family, self.integrand, self.entropy, self.differentiate, self.importance_samples)

    def bind(self, data: dict[str, Array]) -> Expectation:
        """The same structure on other arrays."""
        return Expectation(self.family, self.integrand, data, self.entropy, self.differentiate, self.importance_samples)

    def at(self, parameters: Blocks) -> tuple[Expectation, Blocks]:
        """The same with what f reads of the parameters among its data, and λ alone."""
        read = (*self.integrand.reads, *self.model_blocks)
        if not read:
            return self, parameters
        own = {name: parameters[name] for name in self.family.blocks}
        return self.bind({**self.data, **{name: parameters[name] for name in read}}), own

    def each_law(self, backend: Any, parameters: Blocks) -> Blocks:
        """λ of everything that has a z of its own, one after another along the coordinates."""
        return self.at(parameters)[1]

    @property
    def model_blocks(self) -> tuple[str, ...]:
        """The names of θ's blocks."""
        return tuple(self.integrand.model_shapes(self.data))

    @property
    def read_blocks(self) -> tuple[str, ...]:
        """The names of the blocks of λ whose gradient has an explicit term E ∂f/∂λ."""
        return () if self.integrand.explicit_term_is_zero else self.integrand.reads

    @property
    def explicit_blocks(self) -> tuple[str, ...]:
        """The names of all blocks whose gradient has an explicit term: those of λ, then θ's, which have no other."""
        return (*self.read_blocks, *self.model_blocks)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of all parameter blocks, λ's first."""
        return (*self.family.blocks, *self.model_blocks)

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        """Their shapes, for z of D coordinates."""
        return {**self.family.shapes(dimension), **self.integrand.model_shapes(self.data)}

    @property
    def population(self) -> int:
        """How many data have a z of their own: 1 where one z stands for all."""
        return 1

    def noise_specs(self) -> dict[str, Noise]:
        return self.integrand.noise_specs(self.data)

    def estimated_by(self, estimator: Any) -> Any:
        """What makes the estimates of ∇L that an estimator of ∇_λ E f is asked for: itself, where λ is free."""
        return estimator

    def sample_specs(self, dimension: int) -> dict[str, Noise]:
        """The noise of f, and of one sample; of a bound, of K."""
        shape = () if self.importance_samples == 1 else (self.importance_samples,)
        return {**self.family.noise(shape, dimension), **self.noise_specs()}

    def sampled_objective(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """f_λ at the sample that such noise makes [R]; of a bound, log (1/K) Σ_k w_k."""
        bound, own = self.at(parameters)
        z, logs = self.family.sample(backend, own, noise), self.family.logs(backend, own, noise)
        value = bound.value(backend, own, z, noise, *logs)
        weights = backend.xp.reshape(value, (value.shape[0], -1, self.importance_samples))
        return log_mean_weight(backend.xp, weights)[:, 0]

    def width(self, dimension: int) -> int:
        """Elements of the largest array, per sample (of a bound, per K samples), that f or the family's derivatives
        make."""
        sizes = [math.prod(shape) for shape in self.shapes(dimension).values()]
        return self.importance_samples * max(self.integrand.width(self.data, dimension), *sizes)

    def value(self, backend: Any, parameters: Blocks, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """f_λ(z) [...]; `logs` of z where they are known (`Family.logs`), here and below."""
        value = self.integrand.value(backend.xp, self.data, z, noise, *self._read(logs))
        if self.entropy == "sampled":
            value = value - self.family.log_density(backend, parameters, z, *logs)
        return value

    def gradient(self, backend: Any, parameters: Blocks, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """∇_z f_λ(z) at fixed λ [..., D]."""
        gradient = self.integrand_gradient(backend, z, noise, *logs)
        if self.entropy == "sampled":
            gradient = gradient - self.family.log_density_gradient(backend, parameters, z, *logs)
        return gradient

    def _read(self, logs: tuple[Any, ...]) -> tuple[Any, ...]:
        """What of the logs the integrand is given."""
        return logs if self.integrand.reads_logs else ()

    def integrand_gradient(self, backend: Any, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """∇_z of the integrand, without an ELBO's entropy term [..., D]."""
        xp = backend.xp
        if self.differentiate == "closed-form" and self.integrand.gradient is not None:
            return self.integrand.gradient(xp, self.data, z, noise, *self._read(logs))
        return backend.gradient(lambda at: xp.sum(self.integrand.value(xp, self.data, at, noise)))(z)

    def hessian_product(
        self, backend: Any, parameters: Blocks, z: Array, vector: Array, noise: dict[str, Array]
    ) -> Array:
        """∇²_z f_λ(z) times vector, at fixed λ [..., D]."""
        product = self.integrand_hessian_product(backend, z, vector, noise)
        if self.entropy == "sampled":
            product = product - self.family.log_density_hessian_product(backend, parameters, z, vector)
        return product

    def integrand_hessian_product(self, backend: Any, z: Array, vector: Array, noise: dict[str, Array]) -> Array:
        """∇²_z of the integrand, without an ELBO's entropy term, times vector [..., D]."""
        xp = backend.xp
        if self.differentiate == "closed-form" and self.integrand.hessian_product is not None:
            return self.integrand.hessian_product(xp, self.data, z, vector, noise)
        return backend.hvp(lambda at: xp.sum(self.integrand.value(xp, self.data, at, noise)))(z, vector)

    def explicit_pullback(self, backend: Any, z: Array, cotangent: Array, noise: dict[str, Array]) -> Blocks:
        """Σ_s cotangent_s ∂f(z_s) at fixed z_s in every one of `explicit_blocks`, for every replicate, {block: [R,
        *shape]}; of what `at` made.

        Raises
        ------
        NotApplicable
            The integrand has no method for it, and the backend cannot differentiate.
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
        return {**found, **pullback(left, z, cotangent, noise)}

    def replaced(
        self, backend: Any, parameters: Blocks, z: Array, replacement: Array, noise: dict[str, Array]
    ) -> Array:
        """f_λ at z with coordinate i replaced by replacement_i, for every i [..., D]."""
        if self.integrand.replaced is not None:
            value = self.integrand.replaced(backend, self.data, z, replacement, noise)
        else:
            value = self._replace_one_by_one(backend, z, replacement, noise)
        if self.entropy == "sampled":
            value = value - self.family.log_density_replaced(backend, parameters, z, replacement)
        return value

    def local_terms(self, backend: Any, parameters: Blocks, z: Array, noise: dict[str, Array], *logs: Any) -> Array:
        """The sum of the terms of f_λ that contain z_i, for every i [..., D]."""
        xp = backend.xp
        if self.integrand.local_terms is not None:
            terms = self.integrand.local_terms(xp, self.data, z, noise, *self._read(logs))
        else:
            terms = self.integrand.value(xp, self.data, z, noise)[..., None] + xp.zeros_like(z)
        if self.entropy == "sampled":
            terms = terms - self.family.log_densities(backend, parameters, z, *logs)
        return terms

    def _replace_one_by_one(self, backend: Any, z: Array, replacement: Array, noise: dict[str, Array]) -> Array:
        """D full evaluations, one coordinate after another, so that memory stays that of one."""
        xp = backend.xp

        def evaluate(chosen: Array) -> Array:
            return self.integrand.value(xp, self.data, xp.where(chosen, replacement, z), noise)

        dimension = z.shape[-1]
        coordinates = backend.asarray(range(dimension), None)
        values = backend.map(evaluate, coordinates[:, None] == coordinates[None, :])  # [D, ...]
        return xp.moveaxis(values, 0, -1)
