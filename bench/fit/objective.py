"""The objective at any λ: exact where the problem knows it, else estimated on noise common to every λ."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from gradmeter.bench.fit.sampling import sampled, stream_of
from gradmeter.bench.optimisation.method import Objective, Vectors
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Expectation

#: Samples of an estimated objective: largest number, smallest number, and largest number times data.
SAMPLES, LEAST, TERMS = 4096, 32, 2**16


def objective(problem: Problem, parameters: Vectors, seed: int = 0) -> Objective:
    """Return L(λ), including an ELBO's entropy; where it is not known, an estimate on NumPy.

    Parameters
    ----------
    problem
        The problem.
    parameters
        λ, {parameter block: float64 NumPy array [*shape]}.
    seed
        Seed of the estimate.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        exact = whole(problem).exact_at(parameters)
        if exact is None:
            return _sampled(problem, parameters, seed)
        norm = math.sqrt(sum(float(np.sum(g * g)) for g in exact.gradient.values()))
        if exact.objective is None:
            return dataclasses.replace(_sampled(problem, parameters, seed), gradient_norm=norm)
        return Objective(exact.objective, exact.source, gradient_norm=norm)


def whole(problem: Problem) -> Problem:
    """Return the problem with all of an ELBO inside f, which an analytic entropy is not, and without minibatches."""
    made: Any = problem
    if getattr(made, "batch", None) is not None:
        made = dataclasses.replace(made, batch=None)
    return made.whole() if made.entropy == "analytic" else made


def _sampled(problem: Problem, parameters: Vectors, seed: int) -> Objective:
    expectation = whole(problem).expectation()
    samples = min(SAMPLES, max(LEAST, TERMS // expectation.population))
    found = sampled(
        expectation,
        problem.dimension,
        samples,
        stream_of(problem, seed, "objective"),
        lambda backend, noise: expectation.sampled_objective(backend, parameters, noise),
    )
    return Objective(float(found.mean()), "sampling", float(found.std(ddof=1) / math.sqrt(len(found))))


def share_of_data(expectation: Expectation) -> float:
    """Return the share of the data that one evaluation of f uses: B/N for a minibatch, else 1."""
    rows = [spec for spec in expectation.noise_specs().values() if spec.kind == "rows"]
    return math.prod(spec.shape[0] / spec.population for spec in rows)
