"""Exact ELBO of a Gaussian q with any covariance structure, from expectations of log p and its derivatives.

The identities of Bonnet and Price turn E ∇log p and E ∇²log p into the gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.problem import Exact, exact_elbo
from gradmeter.estimators import Family, Normal
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.capabilities import require


class Expected(NamedTuple):
    """Expectations under q: E log p(x, z), E ∇log p [D], E ∇²log p [D, D] and E ∂⁴log p/∂z_i⁴ [D]."""

    objective: float
    slope: np.ndarray
    hessian: np.ndarray
    fourth: np.ndarray


def exact_gaussian_elbo(family: Family, parameters: Vectors, entropy: str, found: Expected, source: str) -> Exact:
    """Return the exact ELBO and gradient; for the mean-field Normal, also the optimal baselines.

    Parameters
    ----------
    family : Family
        A family with `bonnet_price`.
    parameters : {block: array}
        λ.
    entropy : {"sampled", "analytic"}
        The problem's option; an `analytic` entropy is excluded from f and from the objective.
    found : Expected
        Expectations of log p under q.
    source : str
        Recorded as `Exact.source`.
    """
    backend, loc, family = get("numpy"), parameters["loc"], require(family, "bonnet_price", "entropy_gradient")
    moved = family.bonnet_price(backend, parameters, found.slope, found.hessian)
    gradient = family.entropy_gradient(backend, parameters)
    own = 0.5 * len(loc) - float(family.log_density(backend, parameters, loc))
    if isinstance(family, Normal):
        scale = np.exp(parameters["log_scale"])
        hermite: dict[int, np.ndarray | float] = {
            0: found.objective + own,
            1: scale * found.slope,
            2: moved["log_scale"] + 1.0,  # the 1 is the contribution of the entropy term −log q
            4: scale**4 * found.fourth,
        }
        return exact_elbo(entropy, scale, hermite, source)
    return Exact(
        gradient={name: moved[name] + gradient[name] for name in family.blocks},
        source=source,
        objective=found.objective + (own if entropy == "sampled" else 0.0),
    )


def square_root(family: Family, parameters: Vectors) -> np.ndarray:
    """Return A [K, D] with covariance AᵀA for a family whose samples are loc + Aᵀε, from samples at unit noise."""
    specs: dict[str, Any] = family.noise((), len(parameters["loc"]))
    ends = np.cumsum([np.prod(spec.shape) for spec in specs.values()])
    parts = np.split(np.eye(int(ends[-1])), ends[:-1].astype(int), axis=1)
    unit = {name: part.reshape(-1, *spec.shape) for (name, spec), part in zip(specs.items(), parts, strict=True)}
    return family.sample(get("numpy"), parameters, unit) - parameters["loc"]
