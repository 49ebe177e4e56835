"""One estimate from the same noise on every backend: what parity compares, and how large its terms are."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.problems import Problem
from gradmeter.estimators import draws as drawing
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.support import Blocks, draws, estimate, make_cell, state_of

REPLICATES = 6


class Case:
    """One cell's NumPy estimate in float64, with the noise and state it was made from."""

    def __init__(self, problem: str | Problem, estimator: str, samples: int, dtype: str = "float64") -> None:
        self.cell = make_cell(problem, estimator, samples)
        self.expectation, self.parameters = self.cell.problem.expectation(), self.cell.problem.parameters()
        specs = self.cell.estimator.noise_specs(self.expectation, samples, self.cell.problem.dimension)
        # Rounded to `dtype` first, so that every backend sees the same numbers.
        self.noise = {
            name: a if a.dtype.kind == "i" else a.astype(dtype).astype("float64")
            for name, a in draws(specs, REPLICATES).items()
        }
        self.state = state_of(problem, estimator, samples)

    def on(self, backend: Backend, **more: Any) -> Blocks:
        arguments = (self.cell.estimator, self.expectation, self.parameters, self.noise, self.state)
        return estimate(backend, *arguments, **more)

    def check(self, found: Blocks, relative: float) -> None:
        """The estimates are NumPy's, of the shapes they should have, to `relative` of the terms that are added up."""
        backend = get("numpy")
        reference = self.on(backend)
        scale = self.scale(backend, reference)
        assert found.keys() == reference.keys()
        for name, expected in reference.items():
            assert found[name].shape == expected.shape == (REPLICATES, *self.parameters[name].shape)
            assert np.all(np.isfinite(expected)), name
            assert np.abs(found[name] - expected).max() <= relative * scale[name], name

    def scale(self, backend: Backend, found: Blocks) -> dict[str, float]:
        """The size of the terms that are added up, by parameter block, since ĝ may be a small difference of them.

        Terms are the estimate itself and, one sample at a time, |f| |score| for an estimator built from values of f
        (|f| times the weight too for `measure-valued`, where that may be random), |∇f| |∂z/∂λ| + |score| for one built
        from its gradient; both for a planted bug, and for one that relaxes a discrete z.
        """
        estimator, family = self.cell.estimator, self.expectation.family
        expectation, parameters = self.expectation.at(self.parameters)
        drawn = drawing.from_uniforms(backend, family, self.noise)
        # What an estimator draws no noise for, it replaces or sums over: any will do.
        noise = {**draws(family.noise((1,), self.cell.problem.dimension), REPLICATES), **drawn}
        z = family.sample(backend, parameters, noise)
        score = family.score(backend, parameters, z)
        built = estimator.requirements(self.cell.problem.entropy).integrand
        sizes = {name: np.abs(found[name]).max() for name in score}
        relaxed = bool(built) and family.discrete  # a discrete z, of which f is differentiated all the same
        if not built or estimator.injected or relaxed:
            value = np.abs(expectation.value(backend, parameters, z, self.noise)).max()
            sizes = {name: size + value * np.abs(score[name]).max() for name, size in sizes.items()}
            if estimator.name == "measure-valued":
                weak = family.weak_derivatives(backend, parameters, self.noise, estimator.coupling)
                sizes = {name: size + value * np.abs(weak[name][0]).max() for name, size in sizes.items()}
        if relaxed:
            slope = np.abs(expectation.integrand_gradient(backend, z, self.noise)).max()
            sizes = {name: size + slope * np.abs(score[name]).max() for name, size in sizes.items()}
        elif built:
            slope = np.abs(expectation.gradient(backend, parameters, z, self.noise)).max()
            path = family.pathwise(backend, parameters, noise, z, np.full_like(z, slope))
            sizes = {name: size + np.abs(path[name]).max() + np.abs(score[name]).max() for name, size in sizes.items()}
        model = [name for name in found if name not in score]
        if model:  # derivatives of f in its own parameters, summed over the data as f is
            value = np.abs(expectation.value(backend, parameters, z, self.noise)).max()
            sizes |= {name: np.abs(found[name]).max() + value for name in model}
        return {name: float(size) for name, size in sizes.items()}
