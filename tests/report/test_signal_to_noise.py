"""Signal-to-noise ratio against K: the figure of invented rows whose slopes are known, and slopes that are measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.figure import Figure
from gradmeter.bench.drawing.style import styles
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.reading import slopes
from gradmeter.bench.report import sweeps
from gradmeter.bench.report.figures import signal_to_noise
from gradmeter.bench.report.ranking import rank
from gradmeter.bench.sweep import suites
from tests.report import stores
from tests.support import make_cell, measured


def drawn(path: Path, option: str, counts: tuple[int, ...], power: dict[str, float]) -> Figure | None:
    cells = []
    for k in counts:
        for name, exponent in power.items():
            given = {
                "problem": "linear-gaussian",
                "problem_options": {"importance-samples": 1, "dim": 20, option: k},
                "estimator": name,
                "snr": 0.3 * k**exponent,
                "variance": 2.0 / k,
                "verdict": "biased" if name == "iwae-stl" else "unbiased",
            }
            cells.append((stores.rows(f"{name}{k}", **given), stores.series(own=len(cells))))
    results = stores.results(stores.fill(path, cells))
    (sweep,) = sweeps.find(rank(results))
    assert sweep.option == option
    with plotting.styled():
        return signal_to_noise.figure(sweep, styles(r.estimator for r in results))


def test_slopes_are_those_of_large_counts(tmp_path: Path) -> None:
    powers = {"iwae": -0.5, "dreg": 0.5, "iwae-stl": 0.25}
    figure = drawn(tmp_path / "s.sqlite", "importance-samples", (1, 4, 16, 64, 256, 1024), powers)
    assert figure is not None
    assert figure.title == "Signal-to-noise ratio against K: linear-gaussian"
    assert "slope for K ≥ 64" in figure.caption
    (panel,) = figure.panels
    for text in ("∂loc", "iwae", "dreg", "slope −0.50 [", "slope 0.50 [", "K, importance samples", "1,024"):
        assert text in panel.svg, text
    assert "iwae-stl" not in panel.svg
    assert "importance-samples=1024" in figure.commands


def test_three_counts_are_enough(tmp_path: Path) -> None:
    figure = drawn(tmp_path / "s.sqlite", "importance-samples", (2, 3, 50), {"iwae": -0.5})
    assert figure is not None
    assert "slope for K ≥ 2," in figure.caption
    assert "slope −0.50" in figure.panels[0].svg


def test_of_other_options_there_is_none(tmp_path: Path) -> None:
    assert drawn(tmp_path / "s.sqlite", "dim", (1, 4, 16), {"iwae": -0.5}) is None


@pytest.mark.parametrize(
    ("estimator", "expected"), [("iwae", {"loc": -0.5, "prior_mean": 0.5}), ("dreg", {"loc": 0.5, "prior_mean": 0.5})]
)
@pytest.mark.slow
def test_measured_slopes(estimator: str, expected: dict[str, float]) -> None:
    """On the published model, D = 20, where exact slopes are within 0.02 of these: beyond three half-widths of the
    95 % interval besides falls what is right with probability 4e-9, at fixed seeds."""
    counts = (64, 128, 512)
    rows = [
        measured(make_cell(f"linear-gaussian[importance-samples={k}]", estimator, max_replicates=1024)) for k in counts
    ]
    for block, slope in expected.items():
        values = [row[block]["snr"] for row in rows]
        low, high = (
            [row[block]["snr"] * math.sqrt(row[block]["variance"] / row[block][end]) for row in rows]
            for end in ("variance_high", "variance_low")
        )
        line = slopes.fit(counts, values, low, high)
        assert line is not None
        half = 0.5 * (line.high - line.low)
        assert half < 0.05
        assert abs(line.value - slope) < 3.0 * half + 0.02


def test_the_suite_has_the_published_figure() -> None:
    """At least three K for every curve in every panel, and what two samples of one number certify."""
    cells = suites.load("iwae").cells
    swept = {c.problem.importance_samples for c in cells if c.problem.dimension == 20}
    assert swept == {1, 4, 16, 64, 256, 1024}
    for estimator in ("iwae", "dreg", "vimco", "iwae-stl"):
        found = [c for c in cells if c.estimator.name == estimator and c.problem.dimension == 20]
        assert {c.problem.importance_samples for c in found} == swept
    assert all(infeasible(cell) is None for cell in cells)
