"""What every family q_λ(z) has: the noise, the sample and the log-density. `capabilities.py` has what a family may add.

A family is stateless and hashable: its fields are structure (a rank, a number of components), never numbers. λ is a
dict of unconstrained arrays, one per parameter block. A `FamilyConfig` makes these arrays from options in the usual
parameterisation (σ, not log σ).

Shapes: z is [..., D]. Estimators pass [R, S, D], also for S = 1; exact values pass other leading axes. A block of λ has
the shape that `shapes` gives. Every method that computes with arrays of a backend takes the backend first.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.support_and_tails import Marginals
from gradmeter.estimators.noise import Noise, mirror
from gradmeter.estimators.options import converted

Array = Any
Blocks = dict[str, Array]


@dataclass(frozen=True)
class Family(ABC):
    """A family of distributions q_λ(z).

    To add a family, write a subclass in its own file, with a nested `Config` class of options, and register it in
    `FAMILIES`. Define the methods in `capabilities.py` that the family can have; each makes estimators applicable.

    Attributes
    ----------
    name
        Name in result rows and on the command line.
    summary
        One line for `gradmeter list`.
    blocks
        Names of the parameter blocks.
    unsupported
        Reasons why the family does not have capabilities, {name in `CAPABILITIES`: why}. The family may leave out those
        whose methods it does not define; but a discrete family names `pathwise`, and identities that do not hold
        (`score_identity`, `mirrored`, `independent_parts`) must be named.
    moment_source
        How `power_moment` computes its values: `closed-form` or `quadrature`; both are exact to rounding.
    Config
        The options of the family: a subclass of `FamilyConfig`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    blocks: ClassVar[tuple[str, ...]]
    unsupported: ClassVar[Mapping[str, str]] = {}
    moment_source: ClassVar[str] = "closed-form"
    Config: ClassVar[Any]

    @property
    def discrete(self) -> bool:
        """Whether z, or a part of z, is discrete; there is then no differentiable sample path."""
        return "pathwise" in self.unsupported

    @abstractmethod
    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter block for z of D coordinates.

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {parameter block: shape}.
        """

    @abstractmethod
    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return the noise that a sample is made from.

        Parameters
        ----------
        sample_shape
            Leading axes of the samples for one estimate, such as (S,).
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {name: Noise}, of shapes (*sample_shape, ...).
        """

    def mirrored(self, backend: Backend, noise: dict[str, Array]) -> dict[str, Array]:
        """Return the antithetic noise (−ε for ε, 1 − u for u), which has the same distribution.

        A sample made by rejection has none; such a family names `mirrored` in `unsupported`.

        Parameters
        ----------
        backend
            Array framework.
        noise
            {name: array}, as `noise` declares.

        Returns
        -------
        dict
            {name: array}, of the same shapes.
        """
        return {name: mirror(backend.xp, spec.kind, noise[name]) for name, spec in self.noise((), 1).items()}

    @abstractmethod
    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return the sample z = t(ε, λ).

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as `noise` declares.

        Returns
        -------
        array
            [..., D].
        """

    def logs(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Any, ...]:
        """Return the `Logs` of the sample that the noise makes, as a tuple of one, or an empty tuple.

        A family has logs if its samples may be rounded to an end of the support. Its `score`, `log_density`,
        `log_densities` and `log_density_gradient` then take the logs as a last argument: `family.score(backend,
        parameters, z, *family.logs(backend, parameters, noise))`. If they are omitted, as for a z that was not made
        from this noise, the methods compute them from z.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as `noise` declares.

        Returns
        -------
        tuple
            (Logs,), or ().
        """
        return ()

    @abstractmethod
    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log q(z).

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        z
            Samples [..., D].

        Returns
        -------
        array
            [...].
        """

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        """Return ∇²_z log q(z) times a vector; by automatic differentiation unless the family overrides it.

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

        Returns
        -------
        array
            [..., D].
        """
        return backend.hvp(lambda at: backend.xp.sum(self.log_density(backend, parameters, at)))(z, vector)

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return the values of the noise at which a sample is discontinuous, or its path or score has a corner.

        A user's family must define this method, even if only to return that there are no such values; otherwise the
        certificate by integration is not available for it.

        Parameters
        ----------
        parameters
            λ as float64 NumPy arrays.
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            Float64 NumPy arrays [D, J] or [1, J] by name of noise, that of the weak derivatives included.
        """
        return {}

    def entropy_pathwise(self: Any, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return the total derivative d/dλ of −log q_λ(t(ε, λ)) at fixed noise, by block.

        Without a closed form, the family must have the capabilities `score`, `pathwise` and `log_density_gradient`.
        The arrays broadcast with [..., *shape]; a block whose derivative is 0 may be left out.

        −log q is log |∂t/∂ε| minus the log-density of the noise. So where t is affine in ε, the derivative is the same
        for every sample, and the family overrides this method with the closed form.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as `noise` declares.
        z
            The samples that the noise makes [..., D].

        Returns
        -------
        dict
            {parameter block: array that broadcasts with [..., *shape]}; a block whose derivative is 0 may be left out.
        """
        logs = self.logs(backend, parameters, noise)
        slope = self.log_density_gradient(backend, parameters, z, *logs)
        path, score = self.pathwise(backend, parameters, noise, z, -slope), self.score(backend, parameters, z, *logs)
        return {name: path[name] - score[name] for name in path}


@dataclass(frozen=True)
class MeanField(Family):
    """A family of independent coordinates: every block is [D], and λ_i concerns z_i alone."""

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys(self.blocks, (dimension,))

    @abstractmethod
    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log q(z_i) of each coordinate.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [D]}, or with the batch axes of z.
        z
            Samples [..., D].

        Returns
        -------
        array
            [..., D].
        """

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
        """Return λ for z of D coordinates, unconstrained.

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {parameter block: float64 NumPy array [*shape]}.
        """

    def check(self, dimension: int) -> None:
        """Check that the options do not contradict each other, and suit D coordinates.

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Raises
        ------
        UsageError
            They do not; the message says which option to change.
        """
        counts = self.counts(dimension)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and len(value) != counts[field.metadata["per"]]:
                raise self._miscounted(field.name, counts[field.metadata["per"]])

    def counts(self, dimension: int) -> dict[str, int]:
        """Return the number of items by kind that options are declared `per`, for z of D coordinates.

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {item, such as `coordinate`: number}.
        """
        return {"coordinate": dimension}

    @property
    def unequal(self) -> bool:
        """Whether any option has several numbers."""
        return any(isinstance(getattr(self, field.name), tuple) for field in fields(self))

    def rows(self, *names: str) -> list[tuple[float, ...]]:
        """Return the values of these options side by side: one row if none has several numbers, else one per item.

        Parameters
        ----------
        *names
            Names of options.

        Returns
        -------
        list of tuple
            One value of each option in each tuple.

        Raises
        ------
        UsageError
            Two options have several numbers, but not equally many.
        """
        values = [getattr(self, name) for name in names]
        size = max(len(v) if isinstance(v, tuple) else 1 for v in values)
        for name, value in zip(names, values, strict=True):
            if isinstance(value, tuple) and len(value) != size:
                raise self._miscounted(name, size)
        return list(zip(*(v if isinstance(v, tuple) else (v,) * size for v in values), strict=True))

    def each(self, size: int, function: Callable[..., float], *names: str) -> Array:
        """Return a function of the values of these options, for each of several items.

        Parameters
        ----------
        size
            Number of items.
        function
            Takes one value of each option.
        *names
            Names of options.

        Returns
        -------
        array
            [size].

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


@dataclass(frozen=True)
class OptionPerBlock(FamilyConfig):
    """A point with an option for each block: `loc` for `loc`, `scale` for its logarithm `log_scale`."""

    def parameters(self, dimension: int) -> Blocks:
        found = {}
        for block in self.family.blocks:
            name = block.removeprefix("log_")
            found[block] = self.each(dimension, float if name == block else math.log, name)
        return found
