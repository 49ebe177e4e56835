"""The objective at any λ: exact where the problem knows it, else an estimate on noise that is the same at every λ."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np

from bench.fit.method import Objective, Vectors
from bench.measurement.kernel import block_size
from bench.problems import Problem
from estimators import Expectation, draw
from estimators.backends import get
from estimators.noise import stream_root
from estimators.options import effective

#: Samples of an estimated objective.
SAMPLES = 4096


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
    """The problem with all of an ELBO inside f: where the entropy enters analytically, f leaves it out."""
    return problem.whole() if problem.entropy == "analytic" else problem


def _sampled(problem: Problem, parameters: Vectors, seed: int) -> Objective:
    backend = get("numpy")
    expectation = whole(problem).expectation()
    specs = expectation.sample_specs(problem.dimension)
    path = (problem.name, json.dumps(effective(problem), sort_keys=True), seed, "objective")
    roots = {name: backend.root(stream_root(*path, name)) for name in specs}
    size = min(SAMPLES, block_size(expectation.width(problem.dimension), 1))
    values = []
    for block in range(math.ceil(SAMPLES / size)):
        noise = draw(backend, specs, roots, block, size, "float64")
        values.append(expectation.sampled_objective(backend, parameters, noise))
    found = np.concatenate(values)
    return Objective(float(found.mean()), "sampling", float(found.std(ddof=1) / math.sqrt(len(found))))


def share_of_data(expectation: Expectation) -> float:
    """How much of the data one evaluation of f sees: B/N of a minibatch, else all."""
    rows = [spec for spec in expectation.noise_specs().values() if spec.kind == "rows"]
    return math.prod(spec.shape[0] / spec.population for spec in rows)
