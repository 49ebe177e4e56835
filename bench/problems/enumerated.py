"""Exact values by summation over the states of a discrete family.

The gradient of the bound of K > 1 importance samples follows from the law of one weight (`bounds.py`). A state s has
probability q_s and weight w_s = p_s/q_s; both depend on λ, and w_s only through −log q_s:

    ∇ E log (1/K) Σ_k w_k = Σ_s q_s ∇ log q_s K E[log Σ_k w_k − log Σ_{k>1} w_k − w̃_1 | z_1 = s]
"""

from __future__ import annotations

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.bounds import MOST_ERROR, weights_at
from gradmeter.bench.problems.problem import Exact
from gradmeter.estimators import Expectation, NotApplicable
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.capabilities import has, require

#: The number of states evaluated at a time.
CHUNK = 2**12


def exact_enumerated(expectation: Expectation, parameters: Vectors, dimension: int) -> Exact | None:
    """Return the exact values as sums over all states of q.

    Parameters
    ----------
    expectation
        The expectation that is differentiated.
    parameters
        λ, {parameter block: float64 NumPy array [*shape]}.
    dimension
        D, the number of coordinates of z.

    Returns
    -------
    Exact or None
        None if there are too many states, if f has noise of its own, if f depends explicitly on parameters and its
        integrand gives no closed-form derivative in them, or if a bound's weights vary too much for quadrature.
    """
    backend, family = get("numpy"), expectation.family
    if expectation.noise_specs() or not has(family, "states", "score"):
        return None
    closed = Expectation(family, expectation.integrand, expectation.data, expectation.entropy)
    bound, own = closed.at(parameters)
    try:
        states = family.states(dimension)
        states.check("enumeration")
        z = states.listed(backend, "float64")
        bound.explicit_pullback(backend, z[None, :1], np.ones((1, 1)), {})
    except NotApplicable:
        return None
    if expectation.importance_samples > 1:
        return _exact_bound(expectation.importance_samples, bound, parameters, own, z)
    objective = 0.0
    gradient = {name: np.zeros_like(a) for name, a in parameters.items()}
    moments, squares = ({name: np.zeros_like(a) for name, a in own.items()} for _ in range(2))
    for some in np.array_split(z, -(-states.number // CHUNK)):
        q = np.exp(family.log_density(backend, own, some))
        f = bound.value(backend, own, some[:, None], {})[:, 0]
        objective += float(q @ f)
        for name, term in bound.explicit_pullback(backend, some[None], q[None], {}).items():
            gradient[name] += term[0]
        for name, s in family.score(backend, own, some).items():
            gradient[name] += np.tensordot(q * f, s, 1)
            moments[name] += np.tensordot(q * f, s * s, 1)
            squares[name] += np.tensordot(q, s * s, 1)
    if expectation.entropy == "analytic":
        entropy = require(family, "entropy_gradient").entropy_gradient(backend, own)
        gradient |= {name: gradient[name] + entropy[name] for name in own}
    optimal = {name: moments[name] / np.where(squares[name] > 0.0, squares[name], 1.0) for name in moments}
    return Exact(gradient, "enumeration", objective, optimal)


def _exact_bound(count: int, bound: Expectation, parameters: Vectors, own: Vectors, states: np.ndarray) -> Exact | None:
    """Return the exact values of the bound of `count` importance samples, K > 1."""
    backend, family = get("numpy"), bound.family
    chunks = np.array_split(states, -(-len(states) // CHUNK))
    q = np.concatenate([np.exp(family.log_density(backend, own, some)) for some in chunks])
    log_weight = np.concatenate([bound.value(backend, own, some[:, None], {})[:, 0] for some in chunks])
    law = weights_at(count, q, log_weight)
    if not law.error() <= MOST_ERROR:
        return None
    gradient, shares, start = {name: np.zeros_like(a) for name, a in parameters.items()}, law.shares(), 0
    by_score = q * (law.gains() - shares)
    for some in chunks:
        here = slice(start, start := start + len(some))
        for name, term in bound.explicit_pullback(backend, some[None], (q * shares)[None, here], {}).items():
            gradient[name] += term[0]
        for name, s in family.score(backend, own, some).items():
            gradient[name] += np.tensordot(by_score[here], s, 1)
    return Exact(gradient, "enumeration", law.bound())
