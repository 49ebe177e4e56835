"""Compiled functions follow what they are called with, whatever they were compiled for."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from gradmeter.estimators.backends import NAMES, get
from tests.support import needs

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
