"""Exact gradients of user-defined models, by quadrature over the z of each datum, of one or two coordinates.

The gradient of an importance-weighted bound is E Σ_k w̃_k ∇ log w_k. Each node is weighted by the expected normalised
importance weight there, with the weights held fixed (`bounds.Weights.shares`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.identity.content import Same
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.bounds import MOST_ERROR, weights_at
from gradmeter.bench.problems.latent_rule import Key, converged, key_of, normal_rule, parameters_of
from gradmeter.bench.problems.problem import Exact
from gradmeter.bench.problems.vae.quadrature import MOST_OF_A_BOUND, NODES_OF_A_BOUND
from gradmeter.estimators import Expectation, Pathwise
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import DrawnNoise

#: Nodes per coordinate of the trapezoidal rules; tolerance on two successive rules, relative to the largest number of a
#: block; largest dimension of z.
NODES, AGREEMENT, MOST_LATENT = (48, 72, 108, 162), 1e-10, 2
#: Largest number of data × nodes of a rule, in total and per call.
MOST_POINTS, AT_ONCE = 2**19, 2**14


def exact_of_functions(model: Any, parameters: Vectors) -> Exact | None:
    """Return the exact values, or None for too many coordinates or data, or without convergence (f with corners)."""
    if model.latent > MOST_LATENT or (model.importance_samples > 1 and model.entropy != "sampled"):
        return None
    return _converged(Same(model), key_of(parameters))


def bound_to(model: Any, parameters: Vectors) -> tuple[Any, Expectation, dict[str, Any]]:
    """Return the backend, and the expectation and the parameters with their arrays on it in float64."""
    backend, expectation = get(str(model.framework)), model.expectation()
    data = {name: backend.asarray(a, "float64") for name, a in expectation.data.items()}
    return backend, expectation.bind(data), {n: backend.asarray(a, "float64") for n, a in parameters.items()}


@functools.lru_cache(maxsize=32)
def _converged(same: Same, key: Key) -> Exact | None:
    model, parameters = same.value, parameters_of(key)
    data, count = 1 if model.encode is None else len(model.inputs), model.importance_samples
    most, rules = (MOST_POINTS, NODES) if count == 1 else (MOST_OF_A_BOUND, NODES_OF_A_BOUND[model.latent])
    integrated = (_integral if count == 1 else _integral_of_a_bound)(model, parameters, max(1, AT_ONCE // data))
    return converged(integrated, rules, lambda nodes: data * nodes**model.latent, most, AGREEMENT)


def _calls(
    backend: Any, nodes: int, coordinates: int, shape: tuple[int, ...], at_once: int
) -> tuple[np.ndarray, Iterator[Any]]:
    """Return the weights of a rule, padded with 0 so that all calls have one shape, and the base noise of each call."""
    grid, weights = normal_rule(nodes, coordinates)
    padding = -len(grid) % at_once
    grid = np.pad(grid, ((0, padding), (0, 0))).reshape(-1, *[1] * (len(shape) - 1), coordinates)
    parts = (grid[first : first + at_once] for first in range(0, len(grid), at_once))
    bases = (backend.asarray(np.broadcast_to(part, (at_once, *shape)), "float64") for part in parts)
    return np.pad(weights, (0, padding)), bases


def _integral(model: Any, parameters: Vectors, at_once: int) -> Callable[[int], Exact]:
    """Return a function nodes per coordinate -> values, with `at_once` nodes per call.

    It integrates the pathwise estimate over the noise, which is the same for all data.
    """
    backend, expectation, at = bound_to(whole(model), parameters)
    estimator: Any = expectation.estimated_by(Pathwise())
    shape = estimator.noise_specs(expectation, 1, model.latent)["base"].shape

    def estimate(data: Any, parameters: Any, base: Any) -> Any:
        noise = DrawnNoise({"base": base}, base.shape[0])
        return estimator.estimate(backend, expectation.bind(data), parameters, noise, {})

    call = backend.compile_for_few_calls(estimate)

    def integrated(nodes: int) -> Exact:
        weights, bases = _calls(backend, nodes, model.latent, shape, at_once)
        total = {name: np.zeros_like(a) for name, a in parameters.items()}
        for weight, base in zip(np.split(weights, len(weights) // at_once), bases, strict=True):
            for name, values in call(expectation.data, at, base).items():
                total[name] = total[name] + np.tensordot(weight, backend.to_numpy(values), 1)
        return Exact(total, "quadrature")

    return integrated


def _integral_of_a_bound(model: Any, parameters: Vectors, at_once: int) -> Callable[[int], Exact | None]:
    """Return such a function for a bound, with one backward pass per chunk of nodes.

    The function returns None where the weights vary too much for the quadrature.
    """
    backend, one, at = bound_to(replace(whole(model), importance_samples=1), parameters)
    shape, xp = one.sample_specs(model.latent)["base"].shape, backend.xp

    def log_weights(data: Any, parameters: Any, base: Any) -> Any:
        """Return log w [nodes, data]."""
        made, noise = one.bind(data), DrawnNoise({"base": base}, base.shape[0])
        if isinstance(made, AmortisedExpectation):
            return made.sampled_terms(backend, parameters, noise)
        return made.sampled_objective(backend, parameters, noise)[:, None]

    def weighted(parameters: Any, base: Any, share: Any) -> Any:
        return xp.sum(share * log_weights(one.data, parameters, base))

    values = backend.compile_for_few_calls(log_weights)
    slope = backend.compile_for_few_calls(backend.pullback(weighted))

    def integrated(nodes: int) -> Exact | None:
        weights, bases = _calls(backend, nodes, model.latent, shape, at_once)
        probability, chunks = weights[: nodes**model.latent], list(bases)
        log_weight = np.concatenate([backend.to_numpy(values(one.data, at, base)) for base in chunks])
        log_weight = log_weight[: len(probability)]
        if not np.all(np.isfinite(log_weight)):
            return None
        laws = [weights_at(model.importance_samples, probability, row) for row in log_weight.T]
        if not all(law.error() <= MOST_ERROR for law in laws):
            return None
        share = np.stack([probability * law.shares() for law in laws], axis=1)
        share = np.pad(share, ((0, len(weights) - len(share)), (0, 0)))
        total = {name: np.zeros_like(a) for name, a in parameters.items()}
        for i, base in enumerate(chunks):
            some = backend.asarray(share[i * at_once : (i + 1) * at_once], "float64")
            for name, found in slope(at, base[None, ...], some[None, ...]).items():
                total[name] = total[name] + backend.to_numpy(found)[0]
        return Exact(total, "quadrature")

    return integrated


def whole(model: Any) -> Any:
    """Return the model on all data, without minibatches."""
    return model if model.batch is None else replace(model, batch=None)
