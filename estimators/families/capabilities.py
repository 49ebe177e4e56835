"""The capabilities of families: what a family may offer beyond `Family`.

A family has a capability if it defines the methods of the capability's protocol, and does not name the capability in
`unsupported`. An identity has no methods: it holds for every family that does not name it in `unsupported`.

Shapes are those of `family.py`. "By block, per sample" means {block: [..., *shape]}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family
from gradmeter.estimators.families.relaxation import Relaxation
from gradmeter.estimators.families.states import States
from gradmeter.estimators.families.support_and_tails import Marginals, SupportAndTails
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class Capability:
    """A capability that an estimator or a problem may require.

    Attributes
    ----------
    what
        How messages call it.
    why_not
        The reason why a family does not have it, if the family gives none in `unsupported`.
    methods
        The protocol with its methods; `object` for an identity.
    """

    what: str
    why_not: str = "none is written for it"
    methods: Any = object


#: Capabilities by the names that `Requires` and `unsupported` use.
CAPABILITIES: dict[str, Capability] = {}


def capability(name: str, what: str, why_not: str = Capability.why_not) -> Callable[[Any], Any]:
    """Return a decorator that registers a protocol as the methods of a capability.

    Parameters
    ----------
    name
        Name in `Requires` and in `unsupported`.
    what
        How messages call it.
    why_not
        The reason why a family does not have it, if the family gives none.

    Returns
    -------
    callable
        A decorator of the protocol with the methods.
    """

    def register(protocol: Any) -> Any:
        CAPABILITIES[name] = Capability(what, why_not, runtime_checkable(protocol))
        return protocol

    return register


@capability("score", "∇_λ log q_λ(z)", "it does not define score")
class HasScore(Protocol):
    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return the score ∇_λ log q_λ(z) at fixed z.

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
        dict
            {parameter block: [..., *shape]}.
        """


CAPABILITIES["score_identity"] = Capability("E[∇_λ log q_λ(z)] = 0")


@capability("pathwise", "a differentiable sample path", "it does not define pathwise")
class HasPathwise(Protocol):
    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return cotangent · ∂z/∂λ at fixed noise, where z is the sample that the noise makes.

        Where the sample jumps as λ moves, as under rejection, the derivative is implicit (Figurnov et al. 2018).

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as the family's `noise` declares.
        z
            The samples that the noise makes [..., D].
        cotangent
            Vector that multiplies the derivative, ∇f for a gradient [..., D].

        Returns
        -------
        dict
            {parameter block: [..., *shape]}.
        """


@capability("weak_derivatives", "weak derivatives", "none are written for it")
class HasWeakDerivatives(Protocol):
    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        """Return the noise of the weak derivatives, under names that `noise` does not use.

        Parameters
        ----------
        sample_shape
            Leading axes of the samples for one estimate, such as (S,).
        dimension
            D, the number of coordinates of z.
        coupling
            Whether both draws come from common randomness.

        Returns
        -------
        dict
            {parameter block: {name: Noise}}.
        """

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return the weak derivatives ∂q/∂λ_i = c (q⁺ − q⁻) by block, where λ_i concerns coordinate i alone.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as `weak_noise` declares for all blocks.
        coupling
            Whether both draws come from common randomness; c may then be random too, [..., D].

        Returns
        -------
        dict
            By block: c [D], and draws of coordinate i from q⁺ and from q⁻ [..., D].
        """


CAPABILITIES["independent_parts"] = Capability("weak derivatives of independent parts")
CAPABILITIES["mirrored"] = Capability("noise with a mirror image")


@capability("log_density_gradient", "∇_z log q(z)")
class HasLogDensityGradient(Protocol):
    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return ∇_z log q(z).

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
            [..., D].
        """


@capability("log_density_replaced", "log q(z) with one coordinate replaced")
class HasLogDensityReplaced(Protocol):
    def log_density_replaced(self, backend: Backend, parameters: Blocks, z: Array, replacement: Array) -> Array:
        """Return log q of z with coordinate i replaced by replacement_i, for every i.

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

        Returns
        -------
        array
            [..., D].
        """


@capability(
    "log_densities", "independent coordinates, each with parameters of its own", "its coordinates depend on each other"
)
class HasLogDensities(Protocol):
    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return log q(z_i) of each independent coordinate.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}, or with the batch axes of z.
        z
            Samples [..., D].

        Returns
        -------
        array
            [..., D].
        """


@capability("dispersed", "an overdispersed form of itself")
class HasDispersed(Protocol):
    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        """Return λ of the member with density ∝ h(z) exp(η·T(z)/dispersion).

        For a Normal, that is dispersion times the variance.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        dispersion
            Factor of at least 1; 1 gives λ itself.

        Returns
        -------
        dict
            {parameter block: [*shape]}.
        """


@capability("entropy_gradient", "the entropy's gradient")
class HasEntropyGradient(Protocol):
    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇_λ of the entropy −E log q.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.

        Returns
        -------
        dict
            {parameter block: [*shape]}.
        """


@capability("power_moment", "exact moments", "none are written for it")
class HasPowerMoment(Protocol):
    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments E z_i^order, and ∇_λ of their sum over i.

        Parameters
        ----------
        parameters
            λ as float64 NumPy arrays; the results are float64 NumPy arrays too.
        order
            A whole number, at least 0.

        Returns
        -------
        moments
            [D].
        gradient
            {parameter block: [*shape]}.

        Raises
        ------
        NotApplicable
            The moment does not exist.
        """


@capability("support_and_tails", "the support and tails of one coordinate")
class HasSupportAndTails(Protocol):
    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        """Return the support and tails of each coordinate's distribution.

        Parameters
        ----------
        parameters
            λ as float64 NumPy arrays.

        Returns
        -------
        SupportAndTails
            Of float64 NumPy arrays.
        """


@capability("marginals", "laws of single coordinates that are families themselves", "none are written for it")
class HasMarginals(Protocol):
    def marginals(self, parameters: Blocks) -> Marginals:
        """Return the marginal distributions of single coordinates.

        Parameters
        ----------
        parameters
            λ as float64 NumPy arrays.

        Returns
        -------
        Marginals
            Of float64 NumPy arrays.
        """


@capability("bonnet_price", "Bonnet's and Price's identities", "they hold for Normals alone")
class HasBonnetPrice(Protocol):
    def bonnet_price(self, backend: Backend, parameters: Blocks, slope: Array, hessian: Array) -> Blocks:
        """Return ∇_λ E f by the identities of Bonnet and Price; one of the blocks is `loc`.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        slope
            E ∇f [..., D].
        hessian
            E ∇²f [..., D, D].

        Returns
        -------
        dict
            {parameter block: [..., *shape]}.
        """


@capability("covariance", "a covariance with off-diagonal elements of its own", "none is written for it")
class HasCovariance(Protocol):
    def covariance(self, backend: Backend, parameters: Blocks) -> Array:
        """Return the covariance of z.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.

        Returns
        -------
        array
            [D, D].
        """


@capability("accepted", "the law of accepted proposals", "its coordinates are not each one gamma number, by rejection")
class HasAccepted(Protocol):
    def accepted(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array
    ) -> tuple[Blocks, Blocks]:
        """Return the two derivatives of the accepted proposals ε of a rejection sampler.

        λ_i must concern coordinate i alone.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as the family's `noise` declares.
        z
            The samples that the noise makes [..., D].

        Returns
        -------
        path
            ∂z/∂λ at fixed ε.
        score
            ∇_λ of the log-density of the accepted ε.
        """


@capability("standardised", "a standardised form of its gamma numbers", "its coordinates are not each one gamma number")
class HasStandardised(Protocol):
    def standardised(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Blocks, Blocks]:
        """Return the two derivatives of the standardised gamma numbers ε, as `accepted` does for accepted proposals.

        ε = (log g − ψ(α))/√ψ′(α), of mean 0 and variance 1 for every λ. `Logs` may follow as a last argument.

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
        path
            ∂z/∂λ at fixed ε, {parameter block: [..., *shape]}.
        score
            ∇_λ of the log-density of ε, {parameter block: [..., *shape]}.
        """


@capability("gamma_numbers", "gamma variables by rejection", "it is not made from gamma variables")
class HasGammaNumbers(Protocol):
    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        """Return the shapes α of the standard gamma variables that a sample is made from (`gamma_path.py`).

        The measurement uses functions of these variables as control variates.

        Parameters
        ----------
        parameters
            λ as float64 NumPy arrays.

        Returns
        -------
        dict
            NumPy arrays of the shape that one sample's gamma variables have, by the prefix of their noise.
        """


@capability("stratified", "components", "it is not a mixture")
class HasStratified(Protocol):
    def stratified(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array, list[Array]]:
        """Return a Normal mixture's weights, and a sample of each component, all from the same ε.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as the family's `noise` declares.

        Returns
        -------
        weights
            [K].
        samples
            A list of K arrays [..., D].
        """


@capability("states", "finitely many states", "its states cannot be listed")
class HasStates(Protocol):
    def states(self, dimension: int) -> States:
        """Return every z of positive probability.

        Parameters
        ----------
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        States
        """


@capability("logits", "binary coordinates, each with a logit", "its coordinates are not 0 or 1")
class HasLogits(Protocol):
    def logits(self, backend: Backend, parameters: Blocks) -> Array:
        """Return the logits log q(z_i = 1)/q(z_i = 0).

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.

        Returns
        -------
        array
            [D], or [1] if all coordinates share one.
        """

    def from_logits(self, backend: Backend, gradient: Array) -> Blocks:
        """Return ∇_λ from the gradient in each coordinate's logit.

        Parameters
        ----------
        backend
            Array framework.
        gradient
            Gradient in each coordinate's logit [..., D].

        Returns
        -------
        dict
            {parameter block: [..., *shape]}.
        """


@capability("one_hot", "choices among categories, one-hot", "its coordinates are no one-hot choices")
class HasOneHot(Protocol):
    """λ is the block `logits` [D/K, K]."""

    def by_choice(self, xp: Any, z: Array) -> Array:
        """Reshape samples so that the categories of a choice have an axis of their own.

        Parameters
        ----------
        xp
            Array namespace.
        z
            Samples [..., D].

        Returns
        -------
        array
            [..., D/K, K].
        """

    def side_by_side(self, xp: Any, z: Array) -> Array:
        """Return the inverse of `by_choice`.

        Parameters
        ----------
        xp
            Array namespace.
        z
            Samples [..., D/K, K].

        Returns
        -------
        array
            [..., D].
        """


@capability("expected", "a mean with derivatives, at which f is relaxed", "it is not made of choices")
class HasExpected(Protocol):
    def expected(self, backend: Backend, parameters: Blocks) -> Array:
        """Return E z.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.

        Returns
        -------
        array
            [D], or [1] if it is the same for all coordinates.
        """

    def expected_pathwise(self, backend: Backend, parameters: Blocks, cotangent: Array) -> Blocks:
        """Return cotangent · ∂(E z)/∂λ.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        cotangent
            Vector that multiplies the derivative, ∇f for a gradient [..., D].

        Returns
        -------
        dict
            {parameter block: [..., *shape]}.
        """


@capability("relaxation", "a relaxation", "it is not made of choices")
class HasRelaxation(Protocol):
    def relaxation(self) -> Relaxation:
        """Return the relaxation of the family: a sample is made by rounding variables that depend smoothly on λ.

        Returns
        -------
        Relaxation
        """


class Capable(
    Family, HasScore, HasPathwise, HasWeakDerivatives, HasLogDensityGradient, HasLogDensityReplaced, HasLogDensities,
    HasDispersed, HasEntropyGradient, HasPowerMoment, HasSupportAndTails, HasMarginals, HasBonnetPrice, HasCovariance,
    HasAccepted, HasStandardised, HasGammaNumbers, HasStratified, HasStates, HasLogits, HasOneHot, HasExpected,
    HasRelaxation,
):  # fmt: skip
    """The type of a family whose capabilities were checked, by `has`, `require` or `Estimator.check`.

    It is for type checkers alone: they then know the methods of every capability. No family is of this class.
    """


def has(family: Family, *names: str) -> TypeGuard[Capable]:
    """Return whether a family has all of these capabilities.

    Parameters
    ----------
    family
        Any family.
    *names
        Names in `CAPABILITIES`.

    Returns
    -------
    bool
    """
    return not missing(family, names)


def require(family: Family, *names: str) -> Capable:
    """Return the family, after checking that it has all of these capabilities.

    Parameters
    ----------
    family
        Any family.
    *names
        Names in `CAPABILITIES`.

    Returns
    -------
    Family
        The same object; type checkers then know the methods.

    Raises
    ------
    NotApplicable
        It does not have one; the message has the reason.
    """
    for name, why in missing(family, names).items():
        raise NotApplicable(f"family {family.name} has not got {CAPABILITIES[name].what}: {why}")
    return cast(Capable, family)


def missing(family: Any, names: Iterable[str] = CAPABILITIES) -> dict[str, str]:
    """Return those of the named capabilities that a family does not have, each with the reason.

    Parameters
    ----------
    family
        Any family.
    names
        Names in `CAPABILITIES`; all if left out.

    Returns
    -------
    dict
        {name: reason}.
    """
    return {
        name: family.unsupported.get(name, CAPABILITIES[name].why_not)
        for name in names
        if name in family.unsupported or not isinstance(family, CAPABILITIES[name].methods)
    }
