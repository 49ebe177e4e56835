"""Distributions whose pathwise gradient a library approximates, over their parameters; expectations in closed form.

All gradients are with respect to the logarithms of the parameters, so that no part of a gradient is small beside
another only because of its parameter's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from gradmeter.bench.libraries.case import Case, Regime

#: Parameters of the distribution, float64: numbers, or a vector for the Dirichlet.
Point = tuple[Any, ...]
WIDE = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3, 1e5)


@dataclass(frozen=True)
class Integrand:
    """A function of z, and the exact gradient of its mean.

    Attributes
    ----------
    name : f(z), as it is written.
    f : (namespace, z, parameters) -> f(z). The parameters are constants there.
    exact : parameters -> ∂ E f(z) / ∂ log of each.
    """

    name: str
    f: Callable[[Any, Any, Point], Any]
    exact: Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Distribution:
    """A distribution and where it is audited.

    Attributes
    ----------
    name, parameters : its name, and those of its parameters.
    points : values of the parameters, with a label each.
    integrands : the functions of z.
    """

    name: str
    parameters: tuple[str, ...]
    points: Mapping[str, Point]
    integrands: tuple[Integrand, ...]


def _label(*values: float) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _trigamma(x: Any) -> Any:
    return polygamma(1, x)


def _beta_mean(a: float, b: float) -> tuple[float, float]:
    found = a * b / (a + b) ** 2
    return found, -found


def _beta_log_mean(a: float, b: float) -> tuple[float, float]:
    return a * (_trigamma(a) - _trigamma(a + b)), -b * _trigamma(a + b)


#: Weights of the coordinates in the Dirichlet's f.
WEIGHTS = (1.0, 2.0, 4.0)


def _weighted(z: Any) -> Any:
    return sum(w * z[..., i] for i, w in enumerate(WEIGHTS))


def _dirichlet_mean(a: np.ndarray) -> tuple[np.ndarray]:
    total = a.sum()
    return (a * (np.asarray(WEIGHTS) - np.asarray(WEIGHTS) @ a / total) / total,)


def _student_t_share(df: float) -> tuple[float]:
    """Return the derivative of E z² / (c + z²) in log df at df = c: z² / (c + z²) ~ Beta(½, c/2) there."""
    return (-2.0 * df / ((1.0 + df) ** 2 * (3.0 + df)),)


def _kumaraswamy_mean(a: float, b: float) -> tuple[float, float]:
    mean = np.exp(np.log(b) + gammaln(1.0 + 1.0 / a) + gammaln(b) - gammaln(1.0 + 1.0 / a + b))
    last = digamma(1.0 + 1.0 / a + b)
    return -mean / a * (digamma(1.0 + 1.0 / a) - last), mean * (1.0 + b * (digamma(b) - last))


def _kumaraswamy_log_mean(a: float, b: float) -> tuple[float, float]:
    return (digamma(b + 1.0) + np.euler_gamma) / a, -b * _trigamma(b + 1.0) / a


GAMMA = Distribution(
    "Gamma",
    ("concentration",),
    {_label(a): (a,) for a in WIDE},
    (
        Integrand("z", lambda xp, z, at: z, lambda a: (a,)),
        Integrand("log z", lambda xp, z, at: xp.log(z), lambda a: (a * _trigamma(a),)),
    ),
)
BETA = Distribution(
    "Beta",
    ("concentration1", "concentration0"),
    {
        _label(a, b): (a, b)
        for a, b in (*((c, c) for c in WIDE), (0.1, 10.0), (1.0, 1e5), (3.0, 1e4), (3.0, 1e5), (5.0, 1e5))
    },
    (
        Integrand("z", lambda xp, z, at: z, _beta_mean),
        Integrand("log z", lambda xp, z, at: xp.log(z), _beta_log_mean),
    ),
)
DIRICHLET = Distribution(
    "Dirichlet",
    ("concentration",),
    {
        **{_label(c, c, c): (np.full(3, c),) for c in WIDE},
        "1, 3, 100000": (np.array([1.0, 3.0, 1e5]),),
    },
    (Integrand("z₁ + 2 z₂ + 4 z₃", lambda xp, z, at: _weighted(z), _dirichlet_mean),),
)
STUDENT_T = Distribution(
    "StudentT",
    ("df",),
    {_label(df): (df,) for df in (0.1, 0.5, 1.0, 5.0, 50.0, 1e3)},
    (Integrand("z² / (df + z²)", lambda xp, z, at: z**2 / (at[0] + z**2), _student_t_share),),
)
KUMARASWAMY = Distribution(
    "Kumaraswamy",
    ("concentration1", "concentration0"),
    {_label(a, b): (a, b) for a, b in ((0.01, 1.0), (0.1, 0.1), (1.0, 1.0), (5.0, 5.0), (100.0, 1.0), (1.0, 1e5))},
    (
        Integrand("z", lambda xp, z, at: z, _kumaraswamy_mean),
        Integrand("log z", lambda xp, z, at: xp.log(z), _kumaraswamy_log_mean),
    ),
)


def cases(
    distribution: Distribution,
    name: str,
    gradient: Callable[[Callable[[Any, Any], Any], Point], tuple[Callable[..., Any], Any]],
    samples: int,
    replicates: int,
    defects: Mapping[Regime, str],
    options: Mapping[str, Any] | None = None,
) -> Iterator[Case]:
    """Yield one case for each point and integrand.

    Parameters
    ----------
    name : the library's object.
    gradient : (f, parameters) -> what `audit` takes, for a mean over S samples. Parts are named after the parameters.
    samples, replicates : S, and the most gradients of a case.
    defects : where the gradient is known to be wrong -> script.
    """
    for label, at in distribution.points.items():
        for integrand in distribution.integrands:

            def make(at: Point = at, integrand: Integrand = integrand) -> Any:
                return gradient(lambda xp, z: integrand.f(xp, z, at), at)

            exact = dict(zip(distribution.parameters, integrand.exact(*at), strict=True))
            regime = Regime(distribution.name, label, integrand.name)
            yield Case(
                name,
                f"E {integrand.name} at {label}",
                make,
                exact,
                samples,
                replicates,
                defects.get(regime),
                regime,
                options or {},
            )
