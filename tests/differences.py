"""Exact gradients against central differences of the exact objective."""

from __future__ import annotations

import numpy as np
import pytest

from gradmeter.bench.problems import Problem


def check_gradient(problem: Problem, relative: float, absolute: float, source: str = "closed-form") -> None:
    """Every block along a random direction, Richardson-extrapolated; of an ELBO the whole of it is what is shifted."""
    at, exact, whole = problem.parameters(), problem.exact(), problem.whole()
    assert exact is not None
    assert exact.source == source
    assert tuple(exact.gradient) == problem.blocks
    generator = np.random.default_rng(2)
    for name, gradient in exact.gradient.items():
        step = generator.standard_normal(gradient.shape) / np.sqrt(gradient.size)

        def along(h: float, name: str = name, step: np.ndarray = step) -> float:
            ends = [whole.exact_at({**at, name: at[name] + sign * h * step}) for sign in (1.0, -1.0)]
            above, below = (end.objective for end in ends if end is not None)
            assert above is not None
            assert below is not None
            return (above - below) / (2.0 * h)

        slope = float(np.sum(gradient * step))
        assert (4.0 * along(1e-3) - along(2e-3)) / 3.0 == pytest.approx(slope, rel=relative, abs=absolute), name
