"""How good a fit of a model is to data that it has not seen: its ELBO, and its log-likelihood by importance sampling.

With z_k ~ q(z | x) independent and w_k = p(x, z_k)/q(z_k | x), log p(x) = log E w is estimated by log (1/K) Σ_k w_k.
Its mean is a lower bound that rises with K (Burda, Grosse & Salakhutdinov 2016), so what is written is on the low side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.fit.sampling import sampled, stream_of
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.problems import Problem
from gradmeter.estimators.amortised import AmortisedExpectation

#: Samples a datum: of the ELBO, and K of the log-likelihood.
SAMPLES, IMPORTANCE_SAMPLES = 32, 1000


def columns(problem: Problem, parameters: Vectors, seed: int, last: bool) -> dict[str, Any]:
    """What a row says of them, in nats a datum, on noise that is the same at every λ; nothing where there are none.

    Errors are standard errors of the sampling of z: the data are what they are.
    """
    expectation = problem.held_out()
    if not isinstance(expectation, AmortisedExpectation):
        return {}
    path = stream_of(problem, seed, "held out")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        terms = log_weights(expectation, parameters, IMPORTANCE_SAMPLES if last else SAMPLES, path)
        elbo = _mean(terms.mean(axis=0), terms.var(axis=0, ddof=1) / len(terms))
        found = {"test_size": terms.shape[1], "test_elbo": elbo[0], "test_elbo_error": elbo[1]}
        if last:
            found["test_log_likelihood"], found["test_log_likelihood_error"] = log_likelihood(terms)
            found["importance_samples"] = IMPORTANCE_SAMPLES
    return found


def log_weights(
    expectation: AmortisedExpectation, parameters: Vectors, samples: int, path: tuple[Any, ...]
) -> np.ndarray:
    """log w [K, N] of K samples of every datum's z."""
    dimension = next(iter(expectation.at(parameters)[0].infer(np, None).values())).shape[-1]
    return sampled(
        expectation,
        dimension,
        samples,
        path,
        lambda backend, noise: expectation.sampled_terms(backend, parameters, noise),
    )


def log_likelihood(terms: np.ndarray) -> tuple[float, float]:
    """Mean over data of log (1/K) Σ_k w_k, from log w [K, N], and its standard error by the delta method."""
    top = terms.max(axis=0)
    weights = np.exp(terms - top)
    mean = weights.mean(axis=0)
    return _mean(np.log(mean) + top, weights.var(axis=0, ddof=1) / (len(terms) * mean**2))


def _mean(values: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Of estimates [N] with these variances, their mean and its standard error."""
    return float(values.mean()), float(np.sqrt(variances.sum()) / len(values))
