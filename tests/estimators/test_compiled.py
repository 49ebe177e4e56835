"""Compiled functions follow what they are called with, whatever they were compiled for."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from gradmeter.estimators.backends import NAMES, get
from gradmeter.estimators.backends.backend import Backend
from tests.support import called_once, needs

FACTOR = 2.0
TABLE = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_other_shapes_and_dtypes(name: str) -> None:
    needs(name)
    backend = get(name)

    def function(given: dict[str, Any]) -> dict[str, Any]:
        return {"mean": backend.xp.mean(given["x"], axis=0), "doubled": given["x"] * float(len(given))}

    compiled = backend.compile(function)
    x = np.linspace(0.0, 1.0, 6)
    for given in ({"x": x}, {"x": x[:4].astype(np.float32), "y": x}, {"x": x}):
        found = compiled({key: backend.asarray(values, None) for key, values in given.items()})
        doubled = backend.to_numpy(found["doubled"])
        assert doubled.dtype == given["x"].dtype
        np.testing.assert_allclose(doubled, given["x"] * len(given), rtol=1e-6)
        np.testing.assert_allclose(backend.to_numpy(found["mean"]), given["x"].mean(), rtol=1e-6)


@pytest.mark.parametrize(("name", "keepdims"), [("max", False), ("min", True)])
def test_derivatives_of_a_maximum(differentiating: Backend, name: str, keepdims: bool) -> None:
    """XLA may round what is compared with the maximum otherwise, 1.3 − t log z in one operation or in two: no element
    equalled it, and the derivative was infinite."""
    z = np.random.default_rng(3).uniform(0.01, 1.0, (64, 3))
    chosen = np.argmin if name == "max" else np.argmax
    expected = np.where(chosen(z, axis=-1)[:, None] == np.arange(3), -0.7 / z, 0.0)
    xp, at = differentiating.xp, differentiating.asarray(z, "float64")
    total = lambda z: xp.sum(getattr(xp, name)(1.3 - 0.7 * xp.log(z), axis=-1, keepdims=keepdims))  # noqa: E731
    found = called_once(differentiating, differentiating.gradient(total), at)
    np.testing.assert_allclose(differentiating.to_numpy(found), expected, rtol=1e-14)
    bent = called_once(differentiating, differentiating.hvp(total), at, at)
    np.testing.assert_allclose(differentiating.to_numpy(bent), -expected, rtol=1e-14)


def test_pytorch_sees_what_a_user_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that a user's module holds; those of this package's modules and PyTorch's are not looked at."""
    needs("torch")
    backend = get("torch")
    compiled = backend.compile(lambda x: x * FACTOR)
    x = backend.asarray(np.ones(3), "float64")
    assert backend.to_numpy(compiled(x)).tolist() == [2.0] * 3
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert backend.to_numpy(compiled(x)).tolist() == [3.0] * 3


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_numpy_that_a_function_holds(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """PyTorch fails on them where it is told what to look at; then it is not told, and nobody hears of it."""
    needs(name)
    backend = get(name)
    compiled = backend.compile(lambda x: x * backend.asarray(TABLE, None))
    for size in (1.0, 2.0):
        x = backend.asarray(np.full(3, size), "float64")
        assert backend.to_numpy(compiled(x)).tolist() == (size * TABLE).tolist()
    assert capfd.readouterr() == ("", "")
