"""What a family q_λ(z) is: a sample path, a log-density, and the derivatives that estimators ask for.

A family is stateless and hashable: its fields are structure (a rank, a number of components), never numbers.
λ travels as a dict of arrays, unconstrained, one a parameter block; `Point` is what makes them from options in
the field's own terms.

Shapes: z [..., D], where ... is [R, S], or [R] where S = 1. "By block, per sample" is {block: [..., *shape]} with
the block's shape from `shapes`. Every method that computes takes the backend first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.families.outline import Marginals, Outline
from gradmeter.estimators.families.relaxation import Relaxation
from gradmeter.estimators.families.states import States
from gradmeter.estimators.noise import Noise, mirror
from gradmeter.estimators.options import converted

Array = Any
Blocks = dict[str, Array]

#: What an estimator may require of a family: a method of `Family`, or an identity. A family that cannot have one
#: says so in `lacks`.
ABILITIES = {
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
    "outline": "an outline of the law of one coordinate",
    "marginals": "laws of single coordinates that are families themselves",
    "bonnet_price": "Bonnet's and Price's identities",
    "accepted": "the law of accepted proposals",
    "stratified": "components",
    "states": "finitely many states",
    "logits": "binary coordinates, each with a logit",
    "expected": "a mean with derivatives, at which f is relaxed",
    "relaxation": "a relaxation",
}


#: Why a family lacks what it does not override, where it need not say so itself.
_ASSUMED = {
    "log_densities": "its coordinates depend on each other",
    "dispersed": "none is written for it",
    "outline": "none is written for it",
    "marginals": "none are written for it",
    "bonnet_price": "they hold for Normals alone",
    "accepted": "its coordinates are not each one gamma number, by rejection",
    "stratified": "it is not a mixture",
    "states": "its states cannot be listed",
    "logits": "its coordinates are not 0 or 1",
    "expected": "it is not made of choices",
    "relaxation": "it is not made of choices",
}
#: The same of what most families have, where a class neither defines it nor says why not.
_NONE_WRITTEN = "none is written for it"
_LEFT_OUT = ("weak_derivatives", "log_density_gradient", "log_density_replaced", "entropy_gradient", "power_moment")


@dataclass(frozen=True)
class Family(ABC):
    """One family. To add one: a subclass in a file of its own, with a nested `At`, registered in `FAMILIES`."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: The names of the parameter blocks.
    blocks: ClassVar[tuple[str, ...]]
    #: What it cannot have, {name in `ABILITIES`: why}.
    lacks: ClassVar[Mapping[str, str]] = {}
    #: How `power_moment` has its numbers: `closed-form` or `quadrature`, to rounding either way.
    moment_source: ClassVar[str] = "closed-form"
    #: Its options: a subclass of `Point`.
    At: ClassVar[Any]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        said = cls.__dict__.get("lacks", {})
        if not isinstance(said, Mapping):
            raise UsageError(f"family {cls.__name__}: lacks is {said!r}; it must be a dict {{ability: why}}")

        def left_out(name: str) -> bool:
            return getattr(cls, name) is getattr(Family, name)

        assumed = {name: why for name, why in _ASSUMED.items() if left_out(name)}
        said = {name: why for name, why in said.items() if name in assumed or name not in _ASSUMED}
        inherited = {
            name: why
            for name, why in cls.lacks.items()
            if name in said or (name not in _ASSUMED and (why != _NONE_WRITTEN or left_out(name)))
        }
        cls.lacks = {**{name: _NONE_WRITTEN for name in _LEFT_OUT if left_out(name)}, **assumed, **inherited}

    @property
    def discrete(self) -> bool:
        """Whether z, or part of it, is one of states that can be counted: then it has no sample path."""
        return "pathwise" in self.lacks

    def without(self, ability: str) -> NotApplicable:
        """The error for what this family cannot have."""
        why = self.lacks.get(ability, f"it does not define {ability}")
        return NotApplicable(f"family {self.name} has not got {ABILITIES[ability]}: {why}")

    @abstractmethod
    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter block for z of D coordinates."""

    @abstractmethod
    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """What a sample is made from: named arrays [*sample_shape, ...]."""

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        """The concentrations of the standard gamma numbers that a sample is made from by rejection (`gamma_path.py`),
        by the prefix of their noise: NumPy arrays of the shape of one sample's. Measurement relieves estimates of
        functions of these numbers; empty where there are none."""
        return {}

    def mirrored(self, backend: Any, noise: dict[str, Array]) -> dict[str, Array]:
        """This family's noise reflected (ε to −ε, u to 1 − u): of the same law, and antithetic."""
        if "mirrored" in self.lacks:
            raise self.without("mirrored")
        return {name: mirror(backend.xp, spec.kind, noise[name]) for name, spec in self.noise((), 1).items()}

    @abstractmethod
    def sample(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """z = t(ε, λ) [..., D]; reads the names that `noise` declares."""

    def logs(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        """The `Logs` of the sample that the noise makes, as a tuple of one, of a family whose samples are rounded to an
        end of the support; else an empty tuple.

        What has logs takes them as the last argument of `score`, `log_density`, `log_densities` and
        `log_density_gradient`: `family.score(backend, parameters, z, *family.logs(backend, parameters, noise))`.
        Without them, and for a z of other origin, they are computed from z.
        """
        return ()

    @abstractmethod
    def log_density(self, backend: Any, parameters: Blocks, z: Array) -> Array:
        """log q(z) [...]."""

    def log_density_gradient(self, backend: Any, parameters: Blocks, z: Array) -> Array:
        """∇_z log q(z) [..., D]."""
        raise self.without("log_density_gradient")

    def log_density_hessian_product(self, backend: Any, parameters: Blocks, z: Array, vector: Array) -> Array:
        """∇²_z log q(z) times vector [..., D]; by the backend's derivatives unless a family knows better."""
        return backend.hvp(lambda at: backend.xp.sum(self.log_density(backend, parameters, at)))(z, vector)

    def log_density_replaced(self, backend: Any, parameters: Blocks, z: Array, replacement: Array) -> Array:
        """log q of z with coordinate i replaced by replacement_i, for every i [..., D]."""
        raise self.without("log_density_replaced")

    def log_densities(self, backend: Any, parameters: Blocks, z: Array) -> Array:
        """log q(z_i) of each coordinate [..., D], where they are independent; λ may have the batch axes of z."""
        raise self.without("log_densities")

    def dispersed(self, backend: Any, parameters: Blocks, dispersion: float) -> Blocks:
        """λ of the member with density ∝ h(z) exp(η·T(z)/dispersion): for a Normal, dispersion times the variance."""
        raise self.without("dispersed")

    def score(self, backend: Any, parameters: Blocks, z: Array) -> Blocks:
        """∇_λ log q_λ(z) at fixed z, by block, per sample."""
        raise self.without("score")

    def pathwise(self, backend: Any, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array) -> Blocks:
        """cotangent · ∂z/∂λ at fixed noise, by block, per sample; z is the sample that the noise makes."""
        raise self.without("pathwise")

    def accepted(self, backend: Any, parameters: Blocks, noise: dict[str, Array], z: Array) -> tuple[Blocks, Blocks]:
        """Of the proposals ε that a rejection accepts: ∂z/∂λ at fixed ε, and ∇_λ log of the density of ε, by block,
        per sample; λ_i concerns coordinate i alone."""
        raise self.without("accepted")

    def stratified(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array, list[Array]]:
        """Of a mixture of Normals: the components' probabilities [K], and each one's z [..., D], of the same ε."""
        raise self.without("stratified")

    def jumps(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Where a sample jumps, or its path or score has a corner: by name of noise (that of weak derivatives too),
        values [D, J] or [1, J] of each number; float64 NumPy arrays in and out. A user's family says it itself, if only
        that there is nothing: else what it makes is never integrated, but sampled."""
        return {}

    def states(self, dimension: int) -> States:
        """Every z of positive probability."""
        raise self.without("states")

    def logits(self, backend: Any, parameters: Blocks) -> Array:
        """log q(z_i = 1)/q(z_i = 0), [D] or [1]."""
        raise self.without("logits")

    def from_logits(self, backend: Any, gradient: Array) -> Blocks:
        """∇_λ from that in every coordinate's logit [..., D], by block; of what has `logits`."""
        raise self.without("logits")

    def expected(self, backend: Any, parameters: Blocks) -> Array:
        """E z, [D] or [1]."""
        raise self.without("expected")

    def expected_pathwise(self, backend: Any, parameters: Blocks, cotangent: Array) -> Blocks:
        """cotangent [..., D] · ∂(E z)/∂λ, by block; of what has `expected`."""
        raise self.without("expected")

    def relaxation(self) -> Relaxation:
        """How a sample is made by rounding numbers that depend smoothly on λ."""
        raise self.without("relaxation")

    def entropy_pathwise(self, backend: Any, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """d/dλ of −log q_λ(t(ε, λ)) at fixed noise, the sampler's path included, by block; what broadcasts with
        [..., *shape], and not at all for a block where it is 0.

        −log q is log |∂t/∂ε| less the log-density of the noise, so where t is affine in ε it is the same for every
        sample, and the family knows it.
        """
        logs = self.logs(backend, parameters, noise)
        slope = self.log_density_gradient(backend, parameters, z, *logs)
        path, score = self.pathwise(backend, parameters, noise, z, -slope), self.score(backend, parameters, z, *logs)
        return {name: path[name] - score[name] for name in path}

    def entropy_gradient(self, backend: Any, parameters: Blocks) -> Blocks:
        """∇_λ of the entropy −E log q, {block: [*shape]}."""
        raise self.without("entropy_gradient")

    def bonnet_price(self, backend: Any, parameters: Blocks, slope: Array, hessian: Array) -> Blocks:
        """∇_λ E f, one block of them `loc`, from E ∇f [..., D] and E ∇²f [..., D, D]: {block: [..., *shape]}."""
        raise self.without("bonnet_price")

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        """The noise of the weak derivatives by parameter block, under names that `noise` does not use."""
        raise self.without("weak_derivatives")

    def weak_derivatives(
        self, backend: Any, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """∂q/∂λ_i = c (q⁺ − q⁻), where λ_i moves coordinate i alone: c [D], and draws of that coordinate [..., D].

        With `coupling`, both draws come from common randomness; c may then be random too, [..., D].
        """
        raise self.without("weak_derivatives")

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """E z_i^order [D], and ∇_λ of their sum, {block: [*shape]}; float64 NumPy arrays in and out.

        Raises
        ------
        NotApplicable
            There is no such moment.
        """
        raise self.without("power_moment")

    def outline(self, parameters: Blocks) -> Outline:
        """What is known of each coordinate's law beside its density; float64 NumPy arrays in and out."""
        raise self.without("outline")

    def marginals(self, parameters: Blocks) -> Marginals:
        """The laws of single coordinates, likewise."""
        raise self.without("marginals")


@dataclass(frozen=True)
class MeanField(Family):
    """Independent coordinates, each with parameters of its own: every block is [D], and λ_i concerns z_i alone."""

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(self.blocks, (dimension,))

    @abstractmethod
    def log_densities(self, backend: Any, parameters: Blocks, z: Array) -> Array:
        """log q(z_i) of each coordinate [..., D]; λ may have the batch axes of z."""

    def log_density(self, backend: Any, parameters: Blocks, z: Array, *logs: Any) -> Array:
        return backend.xp.sum(self.log_densities(backend, parameters, z, *logs), axis=-1)

    def log_density_replaced(self, backend: Any, parameters: Blocks, z: Array, replacement: Array) -> Array:
        terms = self.log_densities(backend, parameters, z)
        others = backend.xp.sum(terms, axis=-1, keepdims=True) - terms
        return others + self.log_densities(backend, parameters, replacement)

    def marginals(self, parameters: Blocks) -> Marginals:
        return Marginals(self, parameters, lambda values, gradient: (float(values.sum()), gradient))


@dataclass(frozen=True)
class Point(ABC):
    """A family at a point λ. The fields are options in the field's own terms.

    Options declared `per` coordinate (or component, category, choice) take one number for all or a sequence with one
    for each, which becomes a tuple.
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
        """λ for z of D coordinates: unconstrained, float64 NumPy arrays by block."""

    def check(self, dimension: int) -> None:
        """Raise UsageError where options do not go together, or not with D coordinates."""
        counts = self.counts(dimension)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and len(value) != counts[field.metadata["per"]]:
                raise self._miscounted(field.name, counts[field.metadata["per"]])

    def counts(self, dimension: int) -> dict[str, int]:
        """How many there are of what may have a number of its own, for z of D coordinates."""
        return {"coordinate": dimension}

    @property
    def unequal(self) -> bool:
        """Whether an option has several numbers."""
        return any(isinstance(getattr(self, field.name), tuple) for field in fields(self))

    def rows(self, *names: str) -> list[tuple[float, ...]]:
        """The numbers of these options side by side: one row where each has one number for all, else a row for each."""
        values = [getattr(self, name) for name in names]
        size = max(len(v) if isinstance(v, tuple) else 1 for v in values)
        for name, value in zip(names, values, strict=True):
            if isinstance(value, tuple) and len(value) != size:
                raise self._miscounted(name, size)
        return list(zip(*(v if isinstance(v, tuple) else (v,) * size for v in values), strict=True))

    def each(self, size: int, function: Callable[..., float], *names: str) -> Array:
        """function(numbers of these options) for each of `size` coordinates, or whatever the options are about [size].

        Raises
        ------
        UsageError
            An option has several numbers, and not `size` of them.
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
