"""The input-dependent baseline: E f as a function of the minibatch's rows, learned on a warm-up, then frozen.

    b(rows) = b₀ + Σ_{n ∈ rows} b_n

A sum over a minibatch has exactly this mean if rows and z are independent: with f = a(z) + Σ_{n ∈ rows} h_n(z), b_n is
E h_n. The b_n are fitted by ridge regression to values of f at the samples of a warm-up. Each z is evaluated with
several minibatches of the warm-up, so that the effect of z alone cancels. A row that was never seen contributes the
mean, b_n = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradmeter.estimators import draws
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.expectation import Array, Blocks, Expectation

#: The number of minibatches that every z of the warm-up is evaluated with.
SHARED_BY = 32
#: The ridge penalty on b_n², in units of one squared error.
RIDGE = 1.0
#: Stopping rule of the conjugate gradients: the most steps, and the norm of the residual relative to the initial one.
STEPS, ENOUGH = 60, 1e-6


def rows_of(expectation: Expectation) -> tuple[str, int]:
    """Return the name of the noise that selects the rows f sees, and the number of rows to choose from.

    Raises
    ------
    NotApplicable
        f draws no rows.
    """
    for name, spec in expectation.noise_specs().items():
        if spec.kind == "rows":
            return name, spec.population
    raise NotApplicable("an input-dependent baseline needs an input that varies from estimate to estimate; none does")


def learn(backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]) -> Blocks:
    """Learn b₀ and b_n [N] from the noise of W estimates.

    Returns
    -------
    dict
        `baseline` is b₀, `baseline_rows` are the b_n.
    """
    xp, (name, population) = backend.xp, rows_of(expectation)
    noise = draws.from_uniforms(backend, expectation.family, noise)
    z = expectation.family.sample(backend, parameters, noise)
    shapes = expectation.family.shapes(z.shape[-1])
    inferred = {k for k, values in parameters.items() if values.ndim > len(shapes[k])}  # per-row parameters
    rows = backend.to_numpy(noise[name])
    shifts = range(min(SHARED_BY, len(rows)))
    values = []
    for shift in shifts:
        moved = xp.roll(noise[name], -shift, axis=0)
        own = {k: xp.roll(v, -shift, axis=0) if k in inferred else v for k, v in parameters.items()}
        there = expectation.family.sample(backend, own, noise) if inferred else z
        logs = expectation.family.logs(backend, own, noise)
        value = backend.to_numpy(expectation.value(backend, own, there, {**noise, name: moved}, *logs))
        values.append(value.reshape(len(rows), -1).mean(axis=1).astype(np.float64))
    seen = np.stack([np.roll(rows, -shift, axis=0) for shift in shifts])  # [K, W, B]
    level, weights = fitted(np.stack(values), seen, population)
    return {"baseline": np.asarray(level), "baseline_rows": weights}


def fitted(values: np.ndarray, rows: np.ndarray, population: int) -> tuple[float, np.ndarray]:
    """Fit b₀ and b_n [N] to values [K, W] at minibatches [K, W, B], where each column of K values shares one z."""
    flat = rows.reshape(-1)

    def total(weights: np.ndarray) -> np.ndarray:
        return weights[rows].sum(axis=-1)

    def centred(each: np.ndarray) -> np.ndarray:
        return each - each.mean(axis=0)

    def spread(each: np.ndarray) -> np.ndarray:
        repeated = np.repeat(each.reshape(-1), rows.shape[-1])
        return np.bincount(flat, repeated, minlength=population)

    weights = conjugate_gradients(lambda w: spread(centred(total(w))) + RIDGE * w, spread(centred(values)))
    return float((values - total(weights)).mean()), weights


def conjugate_gradients(matrix: Callable[[np.ndarray], np.ndarray], right: np.ndarray) -> np.ndarray:
    """Solve matrix x = right for a positive definite matrix given by its products (Hestenes & Stiefel 1952)."""
    x, residual = np.zeros_like(right), right.copy()
    direction, size = residual, float(residual @ residual)
    enough = ENOUGH**2 * size
    for _ in range(STEPS):
        if size <= enough:
            break
        product = matrix(direction)
        step = size / float(direction @ product)
        x, residual = x + step * direction, residual - step * product
        before, size = size, float(residual @ residual)
        direction = residual + size / before * direction
    return x


def of_rows(backend: Backend, expectation: Expectation, noise: dict[str, Array], state: Blocks) -> Array:
    """Return b at the rows of each estimate [R, 1]."""
    xp, rows = backend.xp, noise[rows_of(expectation)[0]]
    each = xp.reshape(xp.take(state["baseline_rows"], xp.reshape(rows, (-1,)), axis=0), rows.shape)
    return (state["baseline"] + xp.sum(each, axis=-1))[:, None]
