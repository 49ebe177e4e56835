"""Exact gradients of an autoencoder, by quadrature over the z of each datum, of one or two coordinates.

For importance-weighted bounds, each node is weighted by the expected normalised importance weight there:
`bounds.Weights.shares`.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.identity.content import Same
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.bounds import MOST_ERROR, weights_at
from gradmeter.bench.problems.latent_rule import Key, converged, key_of, normal_rule, parameters_of
from gradmeter.bench.problems.problem import Exact
from gradmeter.bench.problems.vae.autoencoder import Autoencoder
from gradmeter.bench.problems.vae.coding import divergence

#: Largest dimension of z, since a grid over more is not affordable.
MOST_LATENT = 2
#: Nodes per coordinate of the trapezoidal rules, which converge geometrically, but slowly if a bound's weights vary
#: fast. Two successive rules must agree to `AGREEMENT`, relative to the largest number of every block, with a limited
#: total number of points over all data. The rules for bounds depend on the dimension of z, since every node needs e^{−t
#: w} at hundreds or thousands of t.
NODES, AGREEMENT, MOST_POINTS = (64, 96, 144, 216, 324, 486), 1e-11, 2**19
NODES_OF_A_BOUND, MOST_OF_A_BOUND = {1: (64, 144, 324, 729, 1458), 2: (64, 144)}, 2**17
#: Number of elements of the largest array of a quadrature.
CHUNK = 2**21


def exact_by_quadrature(problem: Autoencoder, parameters: Vectors) -> Exact | None:
    """Return the exact values on all data, or None for too many coordinates or data, or without convergence."""
    if problem.latent > MOST_LATENT:
        return None
    return _converged(Same(problem), problem.content(), key_of(parameters))


@functools.lru_cache(maxsize=32)
def _converged(same: Same, content: str | None, key: Key) -> Exact | None:
    """Run rules until two agree; `content` is a data file's fingerprint, by which the cache tells its versions."""
    problem, parameters = same.value, parameters_of(key)
    bound = problem.importance_samples > 1
    most, rules = (MOST_OF_A_BOUND, NODES_OF_A_BOUND[problem.latent]) if bound else (MOST_POINTS, NODES)
    return converged(
        lambda nodes: quadrature(problem, parameters, nodes),
        rules,
        lambda nodes: problem.rows * nodes**problem.latent,
        most,
        AGREEMENT,
    )


def quadrature(problem: Any, parameters: Vectors, nodes: int) -> Exact | None:
    """Return the values of one rule, or None where a bound's weights vary too much for their quadrature."""
    grid, weights = normal_rule(nodes, problem.latent)
    encoder, decoder = problem.encoder, replace(problem.integrand, prior=False)
    data = {"inputs": problem.inputs(), **parameters}
    local = {name: values[0] for name, values in encoder.apply(np, data, None).items()}
    loc, log_scale, scale = local["loc"], local["log_scale"], np.exp(local["log_scale"])
    bound = problem.importance_samples > 1
    prior = {"loc": 0.0, "log_scale": 1.0} if bound else encoder.exact_gradient(np, local)
    slopes: dict[str, list[np.ndarray]] = {"loc": [], "log_scale": []}
    theta: Vectors = {name: np.zeros(shape) for name, shape in decoder.model_shapes().items()}
    objective = 0.0
    each = max(1, CHUNK // (len(grid) * decoder.network.width))
    for first in range(0, problem.rows, each):
        some = slice(first, first + each)
        z = loc[some, None, :] + scale[some, None, :] * grid  # [data, nodes, L]
        rows = {"rows": np.arange(problem.rows)[some, None]}
        slope, value = decoder.gradient(np, data, z, rows), decoder.value(np, data, z, rows)
        share = np.broadcast_to(weights, value.shape)
        if bound:
            slope = slope - z
            log_weight = value + np.sum(0.5 * (grid * grid - z * z) + log_scale[some, None, :], axis=-1)
            laws = [weights_at(problem.importance_samples, weights, row) for row in log_weight]
            if not all(law.error() <= MOST_ERROR for law in laws):
                return None
            share = weights * np.stack([law.shares() for law in laws])
            objective += sum(law.bound() for law in laws)
        else:
            objective += float((value @ weights).sum())
        slopes["loc"].append(np.einsum("nk,nkl->nl", share, slope))
        slopes["log_scale"].append(np.einsum("nk,nkl,kl->nl", share, slope, grid) * scale[some])
        one = {"rows": np.repeat(rows["rows"], len(grid)).reshape(1, -1)}
        moved = decoder.model_pullback(np, data, z.reshape(1, -1, problem.latent), share.reshape(1, -1), one)
        theta = {name: total + moved[name][0] for name, total in theta.items()}
    if problem.kl == "sampled" and not bound:
        objective -= float(divergence(np, local).sum())
    cotangent = {name: (np.concatenate(found) + prior[name])[None] for name, found in slopes.items()}
    phi = encoder.pullback(np, data, None, cotangent)
    return Exact({**{name: g[0] for name, g in phi.items()}, **theta}, "quadrature", objective)
