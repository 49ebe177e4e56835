"""The exact answer as sums over the states of a discrete family."""

from __future__ import annotations

import numpy as np

from bench.problems.problem import Exact, Vectors
from estimators import Expectation, NotApplicable
from estimators.backends import get

#: States that are evaluated at once.
CHUNK = 2**12


def exact_enumerated(expectation: Expectation, parameters: Vectors, dimension: int) -> Exact | None:
    """Everything exact as sums over the states; None where there are too many, or f has noise of its own."""
    backend, family = get("numpy"), expectation.family
    try:
        states = family.states(dimension)
        states.check("enumeration")
    except NotApplicable:
        return None
    if expectation.noise_specs():
        return None
    objective = 0.0
    gradient, moments, squares = ({name: np.zeros_like(a) for name, a in parameters.items()} for _ in range(3))
    for z in np.array_split(states.listed(backend, "float64"), -(-states.number // CHUNK)):
        q = np.exp(family.log_density(backend, parameters, z))
        f = expectation.value(backend, parameters, z, {})
        objective += float(q @ f)
        for name, s in family.score(backend, parameters, z).items():
            gradient[name] += np.tensordot(q * f, s, 1)
            moments[name] += np.tensordot(q * f, s * s, 1)
            squares[name] += np.tensordot(q, s * s, 1)
    if expectation.entropy == "analytic":
        entropy = family.entropy_gradient(backend, parameters)
        gradient = {name: gradient[name] + entropy[name] for name in gradient}
    optimal = {name: moments[name] / np.where(squares[name] > 0.0, squares[name], 1.0) for name in moments}
    return Exact(gradient, "enumeration", objective, optimal)
