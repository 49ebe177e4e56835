"""The objective at any λ: exact where the problem knows it, else an estimate on noise that is the same at every λ."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from gradmeter.bench.fit.sampling import sampled, stream_of
from gradmeter.bench.optimisation.method import Objective, Vectors
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Expectation

#: Samples of an estimated objective: at most, and at least where each is one of many data's own z.
SAMPLES, LEAST, TERMS = 4096, 32, 2**16


def objective(problem: Problem, parameters: Vectors, seed: int = 0) -> Objective:
    """L(λ), an ELBO with its entropy; estimated on NumPy where it is not known."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        exact = whole(problem).exact_at(parameters)
        if exact is None:
            return _sampled(problem, parameters, seed)
        norm = math.sqrt(sum(float(np.sum(g * g)) for g in exact.gradient.values()))
        if exact.objective is None:
            return dataclasses.replace(_sampled(problem, parameters, seed), gradient_norm=norm)
        return Objective(exact.objective, exact.source, gradient_norm=norm)


def whole(problem: Problem) -> Problem:
    """The problem with all of an ELBO inside f, of all data: an analytic entropy is left out of f, rows of no
    minibatch too."""
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
    """How much of the data one evaluation of f sees: B/N of a minibatch, else all."""
    rows = [spec for spec in expectation.noise_specs().values() if spec.kind == "rows"]
    return math.prod(spec.shape[0] / spec.population for spec in rows)
