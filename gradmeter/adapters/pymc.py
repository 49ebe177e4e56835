"""PyMC: a variational inference such as `pymc.ADVI`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
from pymc.pytensorf import compile as compiled
from pymc.pytensorf import find_rng_nodes, reseed_rngs


def elbo(inference: Any, samples: int = 1) -> Callable[[int], dict[str, np.ndarray]]:
    """Return the gradient of the ELBO's estimate in the parameters of the approximation, at their present values.

    Parameters
    ----------
    inference
        An object such as `pymc.ADVI(model=model)` or `pymc.FullRankADVI(model=model)`. Values of its parameters,
        `inference.approx.params`, may be set before or afterwards.
    samples
        S, the argument `obj_n_mc` of `fit`.

    Returns
    -------
    gradient
        (seed) -> ∇ of the ELBO's estimate, {name: array}; for the mean field `mu` and `rho`, where σ = log(1 + e^rho).
    """
    parameters = inference.objective.obj_params
    gradients = pytensor.grad(inference.objective(samples), parameters)
    run, generators = compiled([], gradients), find_rng_nodes(gradients)

    def gradient(seed: int) -> dict[str, np.ndarray]:
        reseed_rngs(generators, seed)
        return {p.name: -np.asarray(g) for p, g in zip(parameters, run(), strict=True)}

    return gradient
