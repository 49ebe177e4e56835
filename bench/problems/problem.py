"""What a problem is: a family, a point λ, an integrand with its data, and the exact gradient."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators import FAMILIES, Expectation, Family, Normal, Point, UsageError
from gradmeter.estimators.options import alternative

Vectors = dict[str, np.ndarray]
LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Exact:
    """The exact answer, in float64.

    Attributes
    ----------
    gradient : ∇_λ L, {parameter block: [*shape]}.
    source : how it was had: `closed-form`, `quadrature` or `enumeration`.
    objective : E f where known: L(λ), less the entropy where that enters analytically.
    error : ‖how far off the gradient may be‖/‖gradient‖, as two rules and rounding tell; None where it is not known.
    optimal_baseline : E[f s²]/E[s²] for each parameter where known (the variance-minimising constant at S = 1), of
        the gradient's shapes.
    """

    gradient: Vectors
    source: str
    objective: float | None = None
    optimal_baseline: Vectors | None = None
    error: float | None = None

    def stationary(self) -> Exact:
        """The same at a maximum in λ, whose gradient is what rounding and the search for it left: unknown."""
        return replace(self, error=1.0)

    def flat(self) -> Exact:
        """The same with every block of the gradient as one vector [P], as estimates are compared."""
        return replace(self, gradient={name: np.ravel(g) for name, g in self.gradient.items()})


def exact_normal(scale: np.ndarray, hermite: dict[int, np.ndarray | float], source: str) -> Exact:
    """Everything exact about a mean-field Normal, from the Hermite moments m_n = E[f He_n(ε_j)] for each j.

    The scores are ε/σ and ε² − 1 = He_2(ε); their squares are (He_2 + 1)/σ² and He_4 + 4 He_2 + 2. Hence
    ∂loc = m_1/σ, ∂log σ = m_2, and the optimal baselines m_0 + m_2 and m_0 + 2 m_2 + m_4/2.

    Parameters
    ----------
    scale : σ [D].
    hermite : m_0 (a number) and m_1, m_2, m_4 ([D]).
    """
    m0, m1, m2, m4 = (np.asarray(hermite[n], dtype=np.float64) for n in (0, 1, 2, 4))
    return Exact(
        gradient={"loc": m1 / scale, "log_scale": m2},
        source=source,
        objective=float(m0),
        optimal_baseline={"loc": m0 + m2, "log_scale": m0 + 2.0 * m2 + 0.5 * m4},
    )


def exact_elbo(entropy: str, scale: np.ndarray, hermite: dict[int, np.ndarray | float], source: str) -> Exact:
    """The same for an ELBO, from the moments of f = log p − log q: with an `analytic` entropy f is log p alone, and
    the entropy's gradient is added to every estimate."""
    if entropy == "sampled":
        return exact_normal(scale, hermite, source)
    exact_entropy = float(np.log(scale).sum() + 0.5 * len(scale) * (1.0 + LOG_2PI))
    exact = exact_normal(scale, {**hermite, 0: hermite[0] - exact_entropy, 2: hermite[2] - 1.0}, source)
    return replace(exact, gradient={**exact.gradient, "log_scale": exact.gradient["log_scale"] + 1.0})


def exact_polynomial(family: Family, parameters: Vectors, coefficients: dict[int, float]) -> Exact | None:
    """The exact answer for f = Σ_i Σ_n c_n z_iⁿ, from the family's own moments; None if they are not known."""
    if "power_moment" in family.lacks:
        return None
    found = {n: family.power_moment(parameters, n) for n in coefficients}
    gradient = {
        block: sum((c * found[n][1][block] for n, c in coefficients.items()), np.zeros_like(values))
        for block, values in parameters.items()
    }
    return Exact(gradient, family.moment_source, sum(c * float(found[n][0].sum()) for n, c in coefficients.items()))


def check_moment(what: str, q: Point, order: int, dimension: int) -> None:
    """Raise where E z_i^order is known not to exist (NotApplicable), or overflows (UsageError); `what` asks for it."""
    if "power_moment" in q.family.lacks:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        moment, _ = q.family.power_moment(q.parameters(dimension if q.unequal else 1), order)
    if not np.all(np.isfinite(moment)):
        raise UsageError(f"{what} overflows; give less extreme options")


def family_option(*names: str) -> Any:
    """Declare the option `family` of a problem, with the options of the family itself beside it.

    Parameters
    ----------
    names : the families the problem takes, the default first; all, if none is given.
    """
    classes = {name: FAMILIES[name].At for name in names or FAMILIES}
    default = classes[names[0]] if names else Normal.At
    return alternative(default, "q; its own options: gradmeter list families", name="family", classes=classes)


class Problem(ABC):
    """A named problem; concrete ones are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: A family at the point λ; a field made by `family_option` where users may choose.
    q: Point = Normal.At()
    #: An ELBO's entropy option, `none` for other integrands.
    entropy: str = "none"
    #: How ∇f is made, as the expectation has it: `closed-form` or `autodiff`.
    differentiate: str = "closed-form"
    #: The one framework its f is written in; None for arithmetic that all have.
    framework: str | None = None
    #: K, the importance samples of a bound; 1 for an expectation or an ELBO.
    importance_samples: int = 1
    #: Adam's first step size in a fit where nothing is said; None for the optimiser's own.
    learning_rate: ClassVar[float | None] = None
    #: Steps of a fit where nothing is said.
    steps: ClassVar[int] = 1000

    @classmethod
    def fitted_options(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        """The options that a fit takes where these are given: a problem to be learned may be larger than one to be
        measured at a point."""
        return given

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D, known without loading data."""

    @property
    def q_dimension(self) -> int:
        """How many coordinates the options of q are about."""
        return self.dimension

    @property
    def family(self) -> Family:
        return self.q.family

    @property
    def lacks(self) -> Mapping[str, str]:
        """What the integrand lacks, as `Integrand.lacks` says."""
        return {}

    @property
    def distances(self) -> str:
        """From what f makes distances from an end of the support of q, of which ∇f goes as the inverse: `logs`
        (`Integrand.reads_logs`), or `z`; `none` where ∇f is bounded there."""
        return "none"

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of all parameter blocks: λ's, then those of a model."""
        return self.family.blocks

    @property
    def draws_inputs(self) -> bool:
        """Whether f draws which inputs it sees: the rows of a minibatch."""
        return any(spec.kind == "rows" for spec in self.expectation().noise_specs().values())

    def check(self) -> None:
        """Raise UsageError where options do not go together."""
        self.q.check(self.q_dimension)

    def content(self) -> str | None:
        """What identifies data that is read from elsewhere; None where attributes hold it all."""
        return None

    @abstractmethod
    def expectation(self) -> Expectation:
        """What is differentiated, with data as float64 NumPy arrays."""

    def parameters(self) -> Vectors:
        """The point λ."""
        return self.q.parameters(self.dimension)

    def exact(self) -> Exact | None:
        """The exact gradient at λ, or None where there is none."""
        return self.exact_at(self.parameters())

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """The same at any λ of the family, of the shapes that `parameters` has."""
        return None

    def whole(self) -> Problem:
        """The same with all of an ELBO inside f, of one whose entropy enters analytically."""
        options: Any = self  # concrete problems are dataclasses
        return replace(options, entropy="sampled")

    def held_out(self) -> Expectation | None:
        """The ELBO of data that nothing is fitted to, the entropy sampled; None where there are none."""
        return None

    def optimum(self) -> Vectors | None:
        """The λ at which L is largest, where it is known."""
        return None
