"""What a problem is: a family, a point λ, an integrand with its data, and the exact gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from estimators import Expectation

Vectors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Exact:
    """The exact answer, in float64.

    Attributes
    ----------
    gradient : ∇_λ L, {parameter block: [D]}.
    source : how it was had: `closed-form`, `quadrature` or `enumeration`.
    objective : E f where known: L(λ), less the entropy where that enters analytically.
    optimal_baseline : E[f s²]/E[s²] for each coordinate where known (the variance-minimising constant at S = 1).
    """

    gradient: Vectors
    source: str
    objective: float | None = None
    optimal_baseline: Vectors | None = None


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


class Problem(ABC):
    """A named problem; concrete ones are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]
    summary: ClassVar[str]
    family: ClassVar[str] = "normal"
    #: An ELBO's entropy option, `none` for other integrands.
    entropy: str = "none"
    differentiate: str

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D, known without loading data."""

    def check(self) -> None:  # noqa: B027  (most problems have nothing to check)
        """Raise UsageError where options do not go together."""

    @abstractmethod
    def expectation(self) -> Expectation:
        """What is differentiated, with data as float64 NumPy arrays."""

    @abstractmethod
    def parameters(self) -> Vectors:
        """The point λ."""

    def exact(self) -> Exact | None:
        """The exact gradient at λ, or None where there is none."""
        return None
