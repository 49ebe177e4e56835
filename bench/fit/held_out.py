"""Quality of a fit on held-out data: the ELBO, and the log-likelihood by importance sampling.

For independent z_k ~ q(z | x) and w_k = p(x, z_k)/q(z_k | x), log p(x) = log E w is estimated by log (1/K) Σ_k w_k. Its
mean is a lower bound that increases with K (Burda, Grosse & Salakhutdinov 2016), so the estimate is biased downwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.fit.sampling import sampled, stream_of
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.problems import Problem
from gradmeter.estimators.amortised import AmortisedExpectation

#: Samples per datum for the ELBO, and K for the log-likelihood.
SAMPLES, IMPORTANCE_SAMPLES = 32, 1000


def columns(problem: Problem, parameters: Vectors, seed: int, last: bool) -> dict[str, Any]:
    """Return row columns about held-out data in nats per datum, on noise common to every λ; none without such data.

    Standard errors are those of sampling z; the data count as fixed.

    Parameters
    ----------
    problem
        The problem that is fitted.
    parameters
        λ, and θ of a model that has parameters.
    seed
        Seed of the noise.
    last
        Whether this is the last row of the fit, for which more samples are drawn.
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
    """Return log w [K, N] for K samples of every datum's z."""
    dimension = next(iter(expectation.at(parameters)[0].infer(np, None).values())).shape[-1]
    return sampled(
        expectation,
        dimension,
        samples,
        path,
        lambda backend, noise: expectation.sampled_terms(backend, parameters, noise),
    )


def log_likelihood(terms: np.ndarray) -> tuple[float, float]:
    """Return the mean over data of log (1/K) Σ_k w_k for log w [K, N], and its standard error by the delta method."""
    top = terms.max(axis=0)
    weights = np.exp(terms - top)
    mean = weights.mean(axis=0)
    return _mean(np.log(mean) + top, weights.var(axis=0, ddof=1) / (len(terms) * mean**2))


def _mean(values: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Return the mean of independent estimates [N] with the given variances, and its standard error."""
    return float(values.mean()), float(np.sqrt(variances.sum()) / len(values))
