"""Stores made of invented rows: fast, and with answers that are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.reading.results import Result, cleaned, load
from gradmeter.bench.rows import Row, row
from gradmeter.bench.sweep.store import Store

ROUNDS = 20


def rows(key: str, **given: Any) -> list[Row]:
    """The two rows of a cell, `loc` and `all`, measured and timed unless said otherwise."""
    values: dict[str, Any] = {
        "problem": "square",
        "problem_options": {"k": 2.0, "loc": 0.0, "scale": 1.0, "dim": 1, "differentiate": "closed-form"},
        "dimension": 1,
        "family": "normal",
        "estimator": "pathwise",
        "estimator_options": {},
        "backend": "numpy",
        "device": "cpu",
        "dtype": "float64",
        "num_samples": 1,
        "seed": 0,
        "noise": "native",
        "replicates": 65536,
        "status": "ok",
        "bias": 0.001,
        "bias_low": 0.0,
        "bias_high": 0.003,
        "bias_bound": 0.004,
        "bias_max": 0.003,
        "control_gain": 12.0,
        "assumption": "defensive",
        "bias_norm": 0.001,
        "exact_norm": 1.0,
        "bias_scale": "gradient",
        "certificate": "sampling",
        "verdict": "unbiased",
        "variance": 2.0,
        "variance_flag": "ok",
        "seconds": 1e-6,
        "evaluations": 1,
        "versions": {"numpy": "2.0.0"},
        "threads": 1,
        "machine": "a machine, 2 cores",
        "code_version": "abcdef123456",
        "started": "2026-11-20T10:00:00.000+00:00",
        "finished": "2026-11-20T10:00:01.000+00:00",
        "cell_key": key,
        **given,
    }
    for column, width in (("variance", 0.02), ("seconds", 0.01)):
        if values[column] is not None:
            values.setdefault(f"{column}_low", values[column] * (1.0 - width))
            values.setdefault(f"{column}_high", values[column] * (1.0 + width))
    return [row(**values, block=block) for block in ("loc", "all")]


def failed(key: str, **given: Any) -> list[Row]:
    """A cell without numbers."""
    empty = dict.fromkeys(
        ("variance", "variance_flag", "seconds", "verdict", "bias_bound", "replicates", "evaluations")
    )
    return rows(key, **{"status": "n/a", "reason": "cannot be", **empty, **given})


def series(variance: float = 2.0, seconds: float = 1e-6, shared: int = 0, own: int = 1) -> dict[str, np.ndarray]:
    """Group means and rounds; cells of the same `shared` number vary together, but for a part of their `own`."""
    common, alone = np.random.default_rng(shared), np.random.default_rng(1000 + own)
    q = np.exp(0.1 * common.standard_normal(64) + 0.01 * alone.standard_normal(64))
    drift = np.exp(0.2 * common.standard_normal(ROUNDS) + 0.01 * alone.standard_normal(ROUNDS))
    return {
        "squared_norm:all": variance * q / q.mean(),
        "squared_norm:loc": variance * q / q.mean(),
        "seconds": seconds * drift,
        "reference": np.exp(common.standard_normal(ROUNDS)),
    }


def fill(path: Path, cells: Iterable[tuple[list[Row], dict[str, np.ndarray]]]) -> Path:
    """A store that holds these cells."""
    with Store.create(path) as store:
        store.finish_many((found[0]["cell_key"], found, arrays, {}) for found, arrays in cells)
    return path


def results(path: Path) -> list[Result]:
    """What the report makes of a store; its series are read, so that the store can be closed."""
    with Store.read(path) as store:
        found, _ = load(store, [cleaned(r) for r in store.rows()])
        for result in found:
            assert isinstance(result.series, dict)
    return found
