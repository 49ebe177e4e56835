"""Elementary functions as compiled, against NumPy's in extended precision."""

from __future__ import annotations

import numpy as np
import pytest

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.gamma_weak import shrinkage

#: In units of the last place: what compiled functions are documented to keep, or nearly.
ULPS = 4.0
FUNCTIONS = ("exp", "log", "expm1", "log1p", "tanh", "sqrt")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_to_rounding(backend: Backend, dtype: str) -> None:
    """Long enough for vector instructions, which Inductor has formulas of its own for."""
    generator = np.random.default_rng(5)
    size = np.exp(generator.uniform(-30.0, 3.5, 4096)).astype(dtype)
    x = np.where(generator.uniform(size=4096) < 0.5, -size, size)
    positive = {"log", "log1p", "sqrt"}
    every = backend.compile(
        lambda x, size: {name: getattr(backend.xp, name)(size if name in positive else x) for name in FUNCTIONS}
    )
    found = every(backend.asarray(x, dtype), backend.asarray(size, dtype))
    for name in FUNCTIONS:
        exact = getattr(np, name)((size if name in positive else x).astype(np.longdouble))
        off = np.abs(backend.to_numpy(found[name]) / exact - 1.0)
        assert float(off.max()) <= ULPS * np.finfo(dtype).eps, name


def test_shrinkage_where_nothing_shrinks(backend: Backend) -> None:
    """2u/(1 − s) goes as 2α/u when u falls, until s is 1 and its weight is nobody's."""
    e = backend.asarray(np.array([1e-6, 1e-9, 1e-170, 0.0]), "float64")
    weight, log_s = (backend.to_numpy(a) for a in shrinkage(backend, backend.asarray(2.5, "float64"), {"shrink": e}))
    np.testing.assert_allclose(weight[:2], [5e6, 5e9], rtol=1e-5)
    np.testing.assert_array_equal(weight[2:], 0.0)
    np.testing.assert_array_equal(np.exp(log_s[1:]), 1.0)
