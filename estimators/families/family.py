"""The interface of a family q_λ(z): a sample path, a log-density, and the derivatives that estimators ask for.

A family is stateless and hashable: its fields are structure (a rank, a number of components), never numbers. λ is a
dict of unconstrained arrays, one per parameter block. A `FamilyConfig` makes these arrays from options in the usual
parameterisation (σ, not log σ).

Shapes: z is [..., D]. Estimators pass [R, S, D], also for S = 1; exact values pass other leading axes. "By block, per
sample" means {block: [..., *shape]} with the block's shape from `shapes`. Every method that computes with arrays of a
backend takes the backend first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.families.relaxation import Relaxation
from gradmeter.estimators.families.states import States
from gradmeter.estimators.families.support_and_tails import Marginals, SupportAndTails
from gradmeter.estimators.noise import Noise, mirror
from gradmeter.estimators.options import converted

Array = Any
Blocks = dict[str, Array]

#: Capabilities that an estimator may require of a family: a method of `Family`, or an identity that must hold. A family
#: declares those that it cannot have in `unsupported`.
CAPABILITIES = {
    "score": "∇_λ log q_λ(z)",
    "score_identity": "E[∇_λ log q_λ(z)] = 0",
    "pathwise": "a differentiable sample path",
    "weak_derivatives": "weak derivatives",
    "independent_parts": "weak derivatives of independent parts",
    "mirrored": "noise with a mirror image",
    "log_density_gradient": "∇_z log q(z)",
    "log_density_replaced": "log q(z) with one coordinate replaced",
    "log_densities": "independent coordinates, each with parameters of its own",
    "dispersed": "an overdispersed form of itself",
    "entropy_gradient": "the entropy's gradient",
    "power_moment": "exact moments",
    "support_and_tails": "the support and tails of one coordinate",
    "marginals": "laws of single coordinates that are families themselves",
    "bonnet_price": "Bonnet's and Price's identities",
    "accepted": "the law of accepted proposals",
    "stratified": "components",
    "states": "finitely many states",
    "logits": "binary coordinates, each with a logit",
    "expected": "a mean with derivatives, at which f is relaxed",
    "relaxation": "a relaxation",
}


#: Default reasons for `unsupported`, for a family that neither overrides the method nor gives a reason itself.
_ASSUMED = {
    "log_densities": "its coordinates depend on each other",
    "dispersed": "none is written for it",
    "support_and_tails": "none is written for it",
    "marginals": "none are written for it",
    "bonnet_price": "they hold for Normals alone",
    "accepted": "its coordinates are not each one gamma number, by rejection",
    "stratified": "it is not a mixture",
    "states": "its states cannot be listed",
    "logits": "its coordinates are not 0 or 1",
    "expected": "it is not made of choices",
    "relaxation": "it is not made of choices",
}
#: Default reason for the methods that most families have.
_NONE_WRITTEN = "none is written for it"
_LEFT_OUT = ("weak_derivatives", "log_density_gradient", "log_density_replaced", "entropy_gradient", "power_moment")


@dataclass(frozen=True)
class Family(ABC):
    """A family of distributions q_λ(z).

    To add a family, write a subclass in its own file, with a nested `Config` class of options, and register it in
    `FAMILIES`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: The names of the parameter blocks.
    blocks: ClassVar[tuple[str, ...]]
    #: The capabilities that the family cannot have, {name in `CAPABILITIES`: why}.
    unsupported: ClassVar[Mapping[str, str]] = {}
    #: How `power_moment` computes its values: `closed-form` or `quadrature`; both are exact to rounding.
    moment_source: ClassVar[str] = "closed-form"
    #: The options of the family: a subclass of `FamilyConfig`.
    Config: ClassVar[Any]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        said = cls.__dict__.get("unsupported", {})
        if not isinstance(said, Mapping):
            raise UsageError(f"family {cls.__name__}: unsupported is {said!r}; it must be a dict {{capability: why}}")

        def left_out(name: str) -> bool:
            return getattr(cls, name) is getattr(Family, name)

        assumed = {name: why for name, why in _ASSUMED.items() if left_out(name)}
        said = {name: why for name, why in said.items() if name in assumed or name not in _ASSUMED}
        inherited = {
            name: why
            for name, why in cls.unsupported.items()
            if name in said or (name not in _ASSUMED and (why != _NONE_WRITTEN or left_out(name)))
        }
        cls.unsupported = {**{name: _NONE_WRITTEN for name in _LEFT_OUT if left_out(name)}, **assumed, **inherited}

    @property
    def discrete(self) -> bool:
        """Whether z, or a part of z, is discrete; there is then no differentiable sample path."""
        return "pathwise" in self.unsupported

    def without(self, ability: str) -> NotApplicable:
        """Return the error for a capability that this family does not have."""
        why = self.unsupported.get(ability, f"it does not define {ability}")
        return NotApplicable(f"family {self.name} has not got {CAPABILITIES[ability]}: {why}")

    @abstractmethod
    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter block for z of D coordinates."""

    @abstractmethod
    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return the noise that a sample is made from: named arrays [*sample_shape, ...]."""

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        """Return the shapes α of the standard gamma variables that a sample is made from (`gamma_path.py`).

        The measurement uses functions of these variables as control variates.

        Returns
        -------
        dict
            NumPy arrays of the shape that one sample's gamma variables have, by the prefix of their noise; empty if the
            family does not sample by rejection.
        """
        return {}

    def mirrored(self, backend: Backend, noise: dict[str, Array]) -> dict[str, Array]:
        """Return the antithetic noise (−ε for ε, 1 − u for u), which has the same distribution."""
        if "mirrored" in self.unsupported:
            raise self.without("mirrored")
        return {name: mirror(backend.xp, spec.kind, noise[name]) for name, spec in self.noise((), 1).items()}

    @abstractmethod
    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return the sample z = t(ε, λ) [..., D], from noise with the names that `noise` declares."""

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        """Return the `Logs` of the sample that the noise makes, as a tuple of one, or an empty tuple.

        A family has logs if its samples may be rounded to an end of the support. Its `score`, `log_density`,
        `log_densities` and `log_density_gradient` then take the logs as a last argument: `family.score(backend,
        parameters, z, *family.logs(backend, parameters, noise))`. If they are omitted, as for a z that was not made
        from this noise, the methods compute them from z.
        """
        return ()

    @abstractmethod
    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log q(z) [...]."""

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return ∇_z log q(z) [..., D]."""
        raise self.without("log_density_gradient")

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        """Return ∇²_z log q(z) times vector [..., D]; by automatic differentiation unless the family overrides it."""
        return backend.hvp(lambda at: backend.xp.sum(self.log_density(backend, parameters, at)))(z, vector)

    def log_density_replaced(self, backend: Backend, parameters: Blocks, z: Array, replacement: Array) -> Array:
        """Return log q of z with coordinate i replaced by replacement_i, for every i [..., D]."""
        raise self.without("log_density_replaced")

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log q(z_i) of each independent coordinate [..., D]; λ may have the batch axes of z."""
        raise self.without("log_densities")

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        """Return λ of the member with density ∝ h(z) exp(η·T(z)/dispersion).

        For a Normal, that is dispersion times the variance.
        """
        raise self.without("dispersed")

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return the score ∇_λ log q_λ(z) at fixed z, by block, per sample."""
        raise self.without("score")

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return cotangent · ∂z/∂λ at fixed noise, by block, per sample, where z is the sample that the noise makes."""
        raise self.without("pathwise")

    def accepted(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array
    ) -> tuple[Blocks, Blocks]:
        """Return the two derivatives of the accepted proposals ε of a rejection sampler, each by block, per sample.

        λ_i must concern coordinate i alone.

        Returns
        -------
        path
            ∂z/∂λ at fixed ε.
        score
            ∇_λ of the log-density of the accepted ε.
        """
        raise self.without("accepted")

    def stratified(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array, list[Array]]:
        """Return a Normal mixture's weights [K], and a sample [..., D] of each component, all from the same ε."""
        raise self.without("stratified")

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return the values of the noise at which a sample is discontinuous, or its path or score has a corner.

        A user's family must define this method, even if only to return that there are no such values; otherwise the
        certificate by integration is not available for it.

        Parameters
        ----------
        parameters
            λ as float64 NumPy arrays.

        Returns
        -------
        dict
            Float64 NumPy arrays [D, J] or [1, J] by name of noise, that of the weak derivatives included.
        """
        return {}

    def states(self, dimension: int) -> States:
        """Return every z of positive probability."""
        raise self.without("states")

    def logits(self, backend: Backend, parameters: Blocks) -> Array:
        """Return the logits log q(z_i = 1)/q(z_i = 0), [D] or [1]."""
        raise self.without("logits")

    def from_logits(self, backend: Backend, gradient: Array) -> Blocks:
        """Return ∇_λ by block from the gradient in each coordinate's logit [..., D]; for families with `logits`."""
        raise self.without("logits")

    def expected(self, backend: Backend, parameters: Blocks) -> Array:
        """Return E z, [D] or [1]."""
        raise self.without("expected")

    def expected_pathwise(self, backend: Backend, parameters: Blocks, cotangent: Array) -> Blocks:
        """Return cotangent [..., D] · ∂(E z)/∂λ, by block; for families with `expected`."""
        raise self.without("expected")

    def relaxation(self) -> Relaxation:
        """Return the relaxation of the family: a sample is made by rounding variables that depend smoothly on λ."""
        raise self.without("relaxation")

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return the total derivative d/dλ of −log q_λ(t(ε, λ)) at fixed noise, by block.

        The arrays broadcast with [..., *shape]; a block whose derivative is 0 may be left out.

        −log q is log |∂t/∂ε| minus the log-density of the noise. So where t is affine in ε, the derivative is the same
        for every sample, and the family overrides this method with the closed form.
        """
        logs = self.logs(backend, parameters, noise)
        slope = self.log_density_gradient(backend, parameters, z, *logs)
        path, score = self.pathwise(backend, parameters, noise, z, -slope), self.score(backend, parameters, z, *logs)
        return {name: path[name] - score[name] for name in path}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇_λ of the entropy −E log q, {block: [*shape]}."""
        raise self.without("entropy_gradient")

    def bonnet_price(self, backend: Backend, parameters: Blocks, slope: Array, hessian: Array) -> Blocks:
        """Return ∇_λ E f by the identities of Bonnet and Price, {block: [..., *shape]}; one of the blocks is `loc`.

        Parameters
        ----------
        slope
            E ∇f [..., D].
        hessian
            E ∇²f [..., D, D].
        """
        raise self.without("bonnet_price")

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        """Return the noise of the weak derivatives by parameter block, under names that `noise` does not use."""
        raise self.without("weak_derivatives")

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return the weak derivatives ∂q/∂λ_i = c (q⁺ − q⁻) by block, where λ_i concerns coordinate i alone.

        Parameters
        ----------
        coupling
            Whether both draws come from common randomness; c may then be random too, [..., D].

        Returns
        -------
        dict
            By block: c [D], and draws of coordinate i from q⁺ and from q⁻ [..., D].
        """
        raise self.without("weak_derivatives")

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return E z_i^order [D] and ∇_λ of the sum over i, {block: [*shape]}.

        Parameters
        ----------
        parameters
            λ as float64 NumPy arrays; the results are float64 NumPy arrays too.

        Raises
        ------
        NotApplicable
            The moment does not exist.
        """
        raise self.without("power_moment")

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        """Return the support and tails of each coordinate's distribution; float64 NumPy arrays in and out."""
        raise self.without("support_and_tails")

    def marginals(self, parameters: Blocks) -> Marginals:
        """Return the marginal distributions of single coordinates; float64 NumPy arrays in and out."""
        raise self.without("marginals")


@dataclass(frozen=True)
class MeanField(Family):
    """A family of independent coordinates: every block is [D], and λ_i concerns z_i alone."""

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(self.blocks, (dimension,))

    @abstractmethod
    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log q(z_i) of each coordinate [..., D]; λ may have the batch axes of z."""

    def log_density(self, backend: Backend, parameters: Blocks, z: Array, *logs: Any) -> Array:
        return backend.xp.sum(self.log_densities(backend, parameters, z, *logs), axis=-1)

    def log_density_replaced(self, backend: Backend, parameters: Blocks, z: Array, replacement: Array) -> Array:
        terms = self.log_densities(backend, parameters, z)
        others = backend.xp.sum(terms, axis=-1, keepdims=True) - terms
        return others + self.log_densities(backend, parameters, replacement)

    def marginals(self, parameters: Blocks) -> Marginals:
        return Marginals(self, parameters, lambda values, gradient: (float(values.sum()), gradient))


@dataclass(frozen=True)
class FamilyConfig(ABC):
    """A family at given parameter values. The fields are options in the usual parameterisation.

    An option declared `per` coordinate (or component, category, choice) takes one number for all or a sequence with one
    number for each, which is stored as a tuple.

    Raises
    ------
    UsageError
        An option is not a number, or is out of bounds.
    """

    def __post_init__(self) -> None:
        named = getattr(self.family, "name", type(self.family).__name__)
        for name, value in converted(self, f"family {named}").items():
            object.__setattr__(self, name, value)

    @property
    @abstractmethod
    def family(self) -> Family:
        """The family, with its structure."""

    @abstractmethod
    def parameters(self, dimension: int) -> Blocks:
        """Return λ for z of D coordinates: unconstrained float64 NumPy arrays by block."""

    def check(self, dimension: int) -> None:
        """Raise UsageError if options contradict each other, or do not suit D coordinates."""
        counts = self.counts(dimension)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and len(value) != counts[field.metadata["per"]]:
                raise self._miscounted(field.name, counts[field.metadata["per"]])

    def counts(self, dimension: int) -> dict[str, int]:
        """Return the number of items by kind that options are declared `per`, for z of D coordinates."""
        return {"coordinate": dimension}

    @property
    def unequal(self) -> bool:
        """Whether any option has several numbers."""
        return any(isinstance(getattr(self, field.name), tuple) for field in fields(self))

    def rows(self, *names: str) -> list[tuple[float, ...]]:
        """Return the values of these options side by side: one row if none has several numbers, else one per item."""
        values = [getattr(self, name) for name in names]
        size = max(len(v) if isinstance(v, tuple) else 1 for v in values)
        for name, value in zip(names, values, strict=True):
            if isinstance(value, tuple) and len(value) != size:
                raise self._miscounted(name, size)
        return list(zip(*(v if isinstance(v, tuple) else (v,) * size for v in values), strict=True))

    def each(self, size: int, function: Callable[..., float], *names: str) -> Array:
        """Return function(values of these options) for each of `size` items [size].

        Raises
        ------
        UsageError
            An option has several numbers, but not `size` of them.
        """
        made = [function(*row) for row in self.rows(*names)]
        if len(made) == 1:
            return np.full(size, made[0])
        if len(made) != size:
            raise self._miscounted(next(name for name in names if isinstance(getattr(self, name), tuple)), size)
        return np.asarray(made, dtype=np.float64)

    def _miscounted(self, name: str, size: int) -> UsageError:
        per = next(field.metadata["per"] for field in fields(self) if field.name == name)
        has, option = len(getattr(self, name)), name.replace("_", "-")
        return UsageError(
            f"family {self.family.name} option '{option}' has {has} numbers; it must have {size}, one a {per}, or one "
            "number for all"
        )
