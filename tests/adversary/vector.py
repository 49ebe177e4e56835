"""Planted biases for the bound on the vector, ‖E ĝ − g‖₂ / ‖g‖₂: never below, and not much above."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.adversary import settings
from tests.adversary.cases import Blocks, Case, Tools
from tests.adversary.judging import Result, allowed_misses, row_of

REPLICATES = 2**12
SHARES = (0.005, 0.01, 0.02, 0.05)
DIMENSIONS = (1, 10, 100, 1000)
TIGHTNESS = {1: (1.39, 1.22, 1.12), 10: (1.62, 1.33, 1.17), 100: (1.97, 1.50, 1.25), 1000: (2.75, 1.89, 1.44)}
"""Bound over bias at k = 10, 30, 100, from VERDICT.md."""


def injected(share: float, dim: int, correlated: bool, k: float = 30.0) -> tuple[Case, float]:
    """Return g + bias + noise, and the noise's deviation: k = n (bias / (3.29 deviation))² for each coordinate."""
    setting = settings.exponential(dim=dim)
    bias = 2.0 * share
    deviation = bias * math.sqrt(REPLICATES / k) / 3.29
    mean = {"log_rate": setting.gradient["log_rate"] + bias}

    def estimate(t: Tools, n: Blocks) -> Blocks:
        e = math.sqrt(0.1) * n["e"] + math.sqrt(0.9) * n["c"][:, None] if correlated else n["e"]
        return {"log_rate": (bias - 2.0) + deviation * e}

    noise: dict[str, Any] = {"e": ("normal", (dim,))}
    if correlated:
        noise["c"] = ("normal", ())
    name = f"bias-{share:g}-over-{dim}" + ("-correlated" if correlated else "")
    return Case("vector", name, setting, estimate, noise, mean), deviation


def judge(share: float, dim: int, correlated: bool, runs: int, k: float = 30.0) -> Result:
    """Count bounds below the planted bias, and compare the median bound with the table."""
    case, deviation = injected(share, dim, correlated, k)
    below, ratios, needed = 0, [], []
    for seed in range(runs):
        row = row_of(
            case.setting.problem,
            case.estimator(),
            samples=1,
            seed=seed,
            max_replicates=REPLICATES,
            precision=1e-4,
            bias_bound=1e-6,
        )
        bound = row.get("bias_bound")
        if row["status"] != "ok" or bound is None:
            return Result("vector", case.name, "numpy", str(row["status"]), None, share, False, str(row.get("reason")))
        below += bound < share
        ratios.append(bound / share)
        needed.append(row["replicates"] * (2.0 * share / (3.29 * deviation)) ** 2)
    allowed = allowed_misses(runs, 1e-3, 0.0046)
    median, reached = float(np.median(ratios)), float(np.median(needed))
    table = float(np.interp(math.log(reached), np.log([10.0, 30.0, 100.0]), TIGHTNESS[dim]))
    loose = not correlated and reached >= 10.0 and median > 1.1 * table
    note = f"{below} of {runs} bounds below (at most {allowed}); bound/bias {median:.2f}"
    if not correlated:
        note += f", table {table:.2f} at k = {reached:.0f}"
    return Result("vector", case.name, "numpy", "", median * share, share, below <= allowed and not loose, note)


def run(runs: int, limit: int | None = None) -> Iterator[Result]:
    grid = [(dim, share, correlated) for dim in DIMENSIONS for share in SHARES for correlated in (False, True)]
    for dim, share, correlated in grid[:limit]:
        yield judge(share, dim, correlated, runs)
