"""The compiled kernel: what it sums, how often it compiles."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.measurement import kernel
from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel, block_size, in_bulk
from gradmeter.bench.problems.test_functions import CosineIntegrand
from gradmeter.estimators import backends
from gradmeter.estimators.backends.backend import Backend
from tests.support import estimates, make_cell, measured, needs, setting_of

GRID = [f"cosine[k={k},loc={loc},scale={scale}]" for k, loc, scale in [(0.5, 0, 1), (1.7, 0.3, 2), (4.1, -2, 0.1)]]


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_COMPILED", {})


def once(setting: Setting) -> Any:
    """One call of the kernel, from block 2."""
    statistics = StatisticsKernel(setting)
    centre = setting.to_device({name: np.full(setting.dimension, 0.25) for name in setting.blocks})
    return statistics(setting.roots("main"), 2, centre)


@pytest.mark.parametrize("samples", [1, 4])
def test_block_sums(backend: Backend, eager: None, samples: int) -> None:
    """Σd, Σd² and ‖d‖² of the block's own estimates, Σd³ of the first of them."""
    setting = setting_of("square[k=1.37,loc=-0.6,scale=0.83,dim=3]", "score-function", backend.name, samples)
    sums, cubed = once(setting), StatisticsKernel(setting).cubed
    found = estimates(setting, setting.noise(setting.roots("main"), 2, setting.replicates))
    for name, estimate in found.items():
        d = estimate - 0.25
        expected = [d.sum(axis=0), (d**2).sum(axis=0), (d[:cubed] ** 3).sum(axis=0)]
        np.testing.assert_allclose([power[0] for power in sums[name][:3]], expected, rtol=1e-10, atol=1e-9)
        np.testing.assert_allclose(sums[name][3][0], (d * d).sum(axis=1), rtol=1e-10)


@pytest.mark.parametrize(("width", "samples", "expected"), [(1, 1, 16384), (569, 1, 224), (31, 8, 512), (10**9, 1, 1)])
def test_block_size(width: int, samples: int, expected: int) -> None:
    assert block_size(width, samples) == expected


@pytest.mark.parametrize(("problem", "samples"), [("square", 1), ("square[dim=3]", 4), ("logistic-regression", 1)])
def test_in_bulk_is_never_smaller_and_fits_one_call(backend: Backend, problem: str, samples: int) -> None:
    setting = setting_of(problem, "pathwise", backend.name, samples)
    width = setting.expectation.integrand.width(setting.expectation.data, setting.dimension)
    bulk = in_bulk(setting).replicates
    assert bulk >= setting.replicates
    assert bulk == setting.replicates or bulk * samples * width <= backend.chunk


def test_a_grid_compiles_once_with_jax(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over k, loc, scale and seeds: the integrand is traced while the first is compiled, never again."""
    needs("jax")
    traced, term = [], CosineIntegrand.term
    monkeypatch.setattr(CosineIntegrand, "term", lambda self, xp, data, z: traced.append(1) or term(self, xp, data, z))
    results, counts = [], []
    for seed, problem in enumerate([*GRID, GRID[0]]):
        results.append(once(setting_of(problem, "score-function", "jax", seed=seed))["loc"][0])
        counts.append(len(traced))
    assert counts[0] >= 1
    assert counts == [counts[0]] * 4
    assert len({float(r[0, 0]) for r in results}) == 4


def test_a_grid_compiles_once_with_torch(nothing_compiled: None) -> None:
    needs("torch")
    from torch._dynamo.utils import counters

    if not backends.get("torch").compiles:
        pytest.skip("PyTorch finds no C++ compiler here, so it compiles nothing")
    graphs = []
    for seed, problem in enumerate(GRID):
        once(setting_of(problem, "score-function", "torch", seed=seed))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] >= 1
    assert graphs == [graphs[0]] * 3


def test_first_calls_with_torch_compile_nothing(nothing_compiled: None) -> None:
    """And are what compiled ones are, to rounding."""
    needs("torch")
    from torch._dynamo.utils import counters

    setting = setting_of(GRID[0], "score-function", "torch")
    made = StatisticsKernel(setting, uncompiled=2)
    before = counters["stats"]["unique_graphs"]
    found = [made(setting.roots("main"), 0, setting.zeros()) for _ in range(2)]
    assert counters["stats"]["unique_graphs"] == before
    found.append(made(setting.roots("main"), 0, setting.zeros()))
    for name, sums in found[0].items():
        np.testing.assert_allclose(np.stack(found[2][name][:2]), np.stack(sums[:2]), rtol=1e-10)


def test_nothing_compiles_that_is_not_of_one_structure(nothing_compiled: None) -> None:
    """Another estimator, S, integrand, dtype or dimension is another function."""
    settings = [
        setting_of(problem, estimator, "numpy", samples, dtype=dtype)
        for problem, estimator, samples, dtype in [
            (GRID[0], "pathwise", 1, "float64"),
            (GRID[0], "score-function", 1, "float64"),
            (GRID[0], "pathwise", 2, "float64"),
            (GRID[0], "pathwise", 1, "float32"),
            (f"{GRID[0][:-1]},dim=2]", "pathwise", 1, "float64"),
            ("square", "pathwise", 1, "float64"),
        ]
    ]
    assert len({s.structure for s in settings}) == len(settings)
    assert len({setting_of(p, "pathwise", "numpy").structure for p in GRID}) == 1


def test_every_estimate_of_a_float32_cell_is_float32(backend: Backend, eager: None) -> None:
    setting = setting_of(
        "linear-regression[batch=7]", "score-function[baseline=mean]", backend.name, 2, dtype="float32"
    )
    sums = once(setting)
    assert all(a.dtype == np.float32 for arrays in sums.values() for a in arrays)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_compiled_rows_are_the_eager_ones(name: str) -> None:
    """A whole cell, compiled, on NumPy's noise: the same variance as NumPy's."""
    needs(name)
    found, expected = (
        measured(
            make_cell("cosine[k=1.9,loc=0.45,scale=1.2]", "measure-valued", 1, b, noise="shared", max_replicates=2**12)
        )
        for b in (name, "numpy")
    )
    assert found["all"]["variance"] == pytest.approx(expected["all"]["variance"], rel=1e-10)
    assert found["all"]["mean_norm"] == pytest.approx(expected["all"]["mean_norm"], rel=1e-10)
    assert name in sys.modules
