"""The interface of a problem: a family at a point λ, an integrand with its data, and the exact gradient.

A problem states every fact once, without loading data: q, the integrand, an encoder, the entropy, how ∇f is computed,
K and the dimension. What follows from them, `DERIVED`, no subclass can state again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.estimators import Estimator, Expectation, Family, FamilyConfig, Integrand, Normal, UsageError
from gradmeter.estimators.amortised import AmortisedExpectation, Encoder
from gradmeter.estimators.families.capabilities import has

LOG_2PI = math.log(2.0 * math.pi)
#: Attributes of a problem that follow from the others, and from which.
DERIVED = {
    "family": "q",
    "expectation": "q, integrand, data, encoder, entropy, differentiate and importance_samples",
    "unsupported": "integrand.unsupported",
    "distances": "integrand.reads_logs and differentiate",
    "blocks": "q, integrand.model_shapes and encoder",
    "draws_inputs": "integrand.noise_specs and data",
}


@dataclass(frozen=True)
class Exact:
    """Exact reference values of a problem at one λ, in float64.

    Attributes
    ----------
    gradient : {parameter block: [*shape]}
        ∇_λ L.
    source : str
        How the values were computed: `closed-form`, `quadrature`, `enumeration` or `rqmc`.
    objective : float, optional
        E f, where known. This is L(λ), or L(λ) without the entropy if the entropy enters analytically.
    optimal_baseline : {parameter block: [*shape]}, optional
        E[f s²]/E[s²] for the score s of each parameter, where known: the constant that minimises the variance at S = 1.
    error : float, optional
        Norm of the gradient's error relative to the gradient's norm, estimated from two quadrature rules and rounding.
        None where unknown.
    errors : {parameter block: [*shape]}, optional
        Bound on the error of every coordinate of the gradient, jointly at 99.9 %, where it differs between them.
    condition : float
        Factor by which the cancellation of terms enlarges a relative error that comes from rounding or from the
        tolerance of a quadrature.
    """

    gradient: Vectors
    source: str
    objective: float | None = None
    optimal_baseline: Vectors | None = None
    error: float | None = None
    errors: Vectors | None = None
    condition: float = 1.0

    def stationary(self) -> Exact:
        """Return a copy for a maximum of L, where only rounding and search error remain: relative error 1.

        Returns
        -------
        Exact
        """
        return replace(self, error=1.0)

    def flat(self) -> Exact:
        """Return a copy with each block of the gradient flattened to a vector [P], the layout of estimates.

        Returns
        -------
        Exact
        """
        errors = None if self.errors is None else {name: np.ravel(e) for name, e in self.errors.items()}
        return replace(self, gradient={name: np.ravel(g) for name, g in self.gradient.items()}, errors=errors)


def exact_normal(scale: np.ndarray, hermite: dict[int, np.ndarray | float], source: str) -> Exact:
    """Return the exact values for a mean-field Normal from the Hermite moments m_n = E[f He_n(ε_j)] for each j.

    The scores are ε/σ and ε² − 1 = He_2(ε); their squares are (He_2 + 1)/σ² and He_4 + 4 He_2 + 2. Hence
    ∂loc = m_1/σ, ∂log σ = m_2, and the optimal baselines are m_0 + m_2 and m_0 + 2 m_2 + m_4/2.

    Parameters
    ----------
    scale : [D]
        σ.
    hermite : {order n: m_n}
        m_0 (a number) and m_1, m_2, m_4 ([D]).
    source : str
        Recorded as `Exact.source`.

    Returns
    -------
    Exact
        Gradients in `loc` and `log_scale` (log σ).
    """
    m0, m1, m2, m4 = (np.asarray(hermite[n], dtype=np.float64) for n in (0, 1, 2, 4))
    return Exact(
        gradient={"loc": m1 / scale, "log_scale": m2},
        source=source,
        objective=float(m0),
        optimal_baseline={"loc": m0 + m2, "log_scale": m0 + 2.0 * m2 + 0.5 * m4},
    )


def exact_elbo(entropy: str, scale: np.ndarray, hermite: dict[int, np.ndarray | float], source: str) -> Exact:
    """Return the exact values of an ELBO under a mean-field Normal from the Hermite moments of f = log p − log q.

    With an `analytic` entropy, f is log p alone and every estimate adds the entropy's gradient; the objective and the
    baselines are then those of log p.

    Parameters
    ----------
    entropy
        `sampled` or `analytic`.
    scale
        σ [D].
    hermite
        {order n: m_n}, as in `exact_normal`.
    source
        Recorded as `Exact.source`.

    Returns
    -------
    Exact
        Gradients in `loc` and `log_scale` (log σ).
    """
    if entropy == "sampled":
        return exact_normal(scale, hermite, source)
    exact_entropy = float(np.log(scale).sum() + 0.5 * len(scale) * (1.0 + LOG_2PI))
    exact = exact_normal(scale, {**hermite, 0: hermite[0] - exact_entropy, 2: hermite[2] - 1.0}, source)
    return replace(exact, gradient={**exact.gradient, "log_scale": exact.gradient["log_scale"] + 1.0})


def exact_polynomial(family: Family, parameters: Vectors, coefficients: dict[int, float]) -> Exact | None:
    """Return the exact values for f = Σ_i Σ_n c_n z_iⁿ from the family's moments, or None if these are unknown.

    Parameters
    ----------
    family
        Family q_λ.
    parameters
        λ, {parameter block: float64 NumPy array [*shape]}.
    coefficients
        {order n: c_n}.

    Returns
    -------
    Exact or None
    """
    found = {n: family.power_moment(parameters, n) for n in coefficients} if has(family, "power_moment") else None
    if found is None:
        return None
    terms = {block: [c * found[n][1][block] for n, c in coefficients.items()] for block in parameters}
    gradient = {block: sum(each, np.zeros_like(parameters[block])) for block, each in terms.items()}
    size = math.sqrt(sum(float((a * a).sum()) for a in gradient.values()))
    largest = math.sqrt(sum(float((a * a).sum()) for each in terms.values() for a in each))
    return Exact(
        gradient,
        family.moment_source,
        sum(c * float(found[n][0].sum()) for n, c in coefficients.items()),
        condition=max(1.0, largest / size) if size > 0.0 else 1.0,
    )


def check_moment(what: str, q: FamilyConfig, order: int, dimension: int) -> None:
    """Check that E z_i^order is finite under q.

    Parameters
    ----------
    what
        Name of the problem, for the message.
    q
        Family with the point λ.
    order
        Order of the moment.
    dimension
        D, the number of coordinates of z.

    Raises
    ------
    NotApplicable
        The moment is known not to exist.
    UsageError
        The moment overflows.
    """
    if has(q.family, "power_moment"):
        with np.errstate(over="ignore", invalid="ignore"):
            moment, _ = q.family.power_moment(q.parameters(dimension if q.unequal else 1), order)
        if not np.all(np.isfinite(moment)):
            raise UsageError(f"{what} overflows; give less extreme options")


class Problem(ABC):
    """Base class of named problems; concrete problems are frozen dataclasses whose fields are their options.

    Attributes
    ----------
    name
        Name in result rows and on the command line.
    summary
        One line for `gradmeter list`.
    q
        The family with the point λ; a field made by `family_option` where users may choose the family.
    entropy
        How an ELBO's entropy is treated, as in `Expectation`: `sampled` or `analytic`; `none` for other integrands.
    differentiate
        How ∇f is computed, as in `Expectation`: `closed-form` or `autodiff`.
    framework
        The only framework that can evaluate f; None if f runs on every backend.
    importance_samples
        The number of importance samples K of a bound; 1 for an expectation or an ELBO.
    learning_rate
        Adam's default step size in a fit; None for the optimiser's own default.
    steps
        The default number of steps of a fit.

    Raises
    ------
    UsageError
        A subclass defines an attribute that follows from others (`DERIVED`).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    q: FamilyConfig = Normal.Config()
    entropy: str = "none"
    differentiate: str = "closed-form"
    framework: str | None = None
    importance_samples: int = 1
    learning_rate: ClassVar[float | None] = None
    steps: ClassVar[int] = 1000

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, facts in DERIVED.items():
            if getattr(cls, name) is not getattr(Problem, name):
                raise UsageError(f"{cls.__qualname__} defines {name}, which follows from {facts}; leave it out")

    @classmethod
    def fitted_options(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options of a fit, given those that the user set.

        A problem may be larger when it is fitted than when gradients are measured at one λ.

        Parameters
        ----------
        given
            Options that the user set, {name: text}.

        Returns
        -------
        dict
            {name: text}.
        """
        return given

    @property
    @abstractmethod
    def dimension(self) -> int:
        """The number of coordinates D of z."""

    @property
    @abstractmethod
    def integrand(self) -> Integrand:
        """f, or log p(x, z) of an ELBO."""

    @property
    def encoder(self) -> Encoder | None:
        """The encoder that computes the parameters of q for every datum; None if λ is free."""
        return None

    def data(self) -> Vectors:
        """Return the arrays that integrand and encoder read, in float64.

        Returns
        -------
        dict
            {name: float64 NumPy array}.
        """
        return {}

    @final
    @property
    def family(self) -> Family:
        """The family of `q`."""
        return self.q.family

    @final
    @property
    def unsupported(self) -> Mapping[str, str]:
        """The capabilities that the integrand lacks, with reasons (see `Integrand.unsupported`)."""
        return self.integrand.unsupported

    @final
    @property
    def distances(self) -> str:
        """How f computes the distance of z from an end of the support of q, where ∇f grows as its inverse.

        `logs`: from the logarithms that the family provides (`Integrand.reads_logs`); `z`: from z itself, as automatic
        differentiation does; `none`: ∇f is bounded at the ends of the support.
        """
        if not self.integrand.reads_logs:
            return "none"
        return "z" if self.differentiate == "autodiff" else "logs"

    @final
    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of all parameter blocks: those of λ, or of the encoder, then those of the model."""
        outer = self.family.blocks if self.encoder is None else self.encoder.shapes()
        return (*outer, *self.integrand.model_shapes())

    @final
    @property
    def draws_inputs(self) -> bool:
        """Whether f draws a minibatch of rows; loads the data."""
        return any(spec.kind == "rows" for spec in self.expectation().noise_specs().values())

    @final
    def expectation(self) -> Expectation:
        """Return the expectation to differentiate, with its data as float64 NumPy arrays.

        Returns
        -------
        Expectation
        """
        static: Any = (self.data(), self.entropy, self.differentiate, self.importance_samples)
        if self.encoder is None:
            return Expectation(self.family, self.integrand, *static)
        return AmortisedExpectation(self.family, self.integrand, self.encoder, *static)

    def check(self) -> None:
        """Check that the options are compatible with each other.

        Raises
        ------
        UsageError
            They are not; the message says which options to change.
        """
        self.q.check(self.dimension)

    def content(self) -> str | None:
        """Return an identifier of data that is read from elsewhere, or None if the attributes hold all data.

        Returns
        -------
        str or None
        """
        return None

    def parameters(self) -> Vectors:
        """Return the point λ at which gradients are measured, by parameter block.

        Returns
        -------
        dict
            {parameter block: float64 NumPy array [*shape]}, unconstrained.
        """
        return self.q.parameters(self.dimension)

    def exact(self) -> Exact | None:
        """Return the exact values at `parameters()`, or None where there are none.

        Returns
        -------
        Exact or None
        """
        return self.exact_at(self.parameters())

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values at any λ of the family, or None where there are none.

        Parameters
        ----------
        parameters
            λ, with the blocks and shapes of `self.parameters()`.

        Returns
        -------
        Exact or None
        """
        return None

    def unmet_share(self, estimator: Estimator, rarest: float) -> float | None:
        """Return a bound on ‖part of the gradient‖/‖gradient‖ that rests on rare samples; None where it is unknown.

        A bias of at most this share is not called one, since draws may never meet these samples.

        Parameters
        ----------
        estimator
            The estimator; the distribution that it draws z from decides what is rare.
        rarest
            Probability of a sample of z at or below which it is rare.

        Returns
        -------
        float or None
        """
        return None

    def whole(self) -> Problem:
        """Return this ELBO problem with −log q inside f (`entropy=sampled`).

        Returns
        -------
        Problem
        """
        options: Any = self  # concrete problems are dataclasses
        return replace(options, entropy="sampled")

    def held_out(self) -> Expectation | None:
        """Return the ELBO of held-out data, with sampled entropy, or None if the problem has none.

        Returns
        -------
        Expectation or None
        """
        return None

    def optimum(self) -> Vectors | None:
        """Return the λ that maximises L, or None where it is unknown.

        Returns
        -------
        dict or None
            {parameter block: float64 NumPy array [*shape]}.
        """
        return None
