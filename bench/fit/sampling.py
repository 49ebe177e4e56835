"""Estimates over samples of z at any λ, on noise common to every λ, computed in blocks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import block_size
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Expectation, draw
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import DrawnNoise, stream_root
from gradmeter.estimators.options import effective


def stream_of(problem: Problem, seed: int, purpose: str) -> tuple[Any, ...]:
    """Return the key of a problem's noise for one purpose.

    Parameters
    ----------
    problem
        The problem.
    seed
        Seed of the fit.
    purpose
        Such as `held-out`.
    """
    return problem.name, json.dumps(effective(problem), sort_keys=True), seed, purpose


def sampled(
    expectation: Expectation,
    dimension: int,
    samples: int,
    path: tuple[Any, ...],
    evaluate: Callable[[Any, DrawnNoise], np.ndarray],
) -> np.ndarray:
    """Return the values of `evaluate` on `samples` samples [samples, ...].

    Parameters
    ----------
    expectation
        The expectation.
    dimension : int
        D of z.
    samples
        Number of samples.
    path
        Key of the random stream, as `stream_of` returns it.
    evaluate : callable
        (backend, noise of `sample_specs`) -> values [R, ...]; called with NumPy in float64.
    """
    backend, specs = get("numpy"), expectation.sample_specs(dimension)
    roots = {name: backend.root(stream_root(*path, name)) for name in specs}
    size = min(samples, block_size(expectation.width(dimension), 1))
    blocks = range(math.ceil(samples / size))
    values = [evaluate(backend, draw(backend, specs, roots, block, size, "float64")) for block in blocks]
    return np.concatenate(values)[:samples]
