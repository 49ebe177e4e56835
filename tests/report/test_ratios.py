"""Ratios whose answer is known, and slopes."""

from pathlib import Path

import numpy as np
import pytest

from gradmeter.bench.reading import slopes
from gradmeter.bench.reading.ratios import timed_together, variance_ratio, work_ratio
from tests.report import stores


def two(path: Path, shared: tuple[int, int] = (0, 0), **second: object) -> list:
    a = stores.rows("a", variance=6.0, seconds=2e-6)
    b = stores.rows("b", estimator="measure-valued", variance=2.0, seconds=1e-6, **second)
    cells = [(a, stores.series(6.0, 2e-6, shared[0], 1)), (b, stores.series(2.0, 1e-6, shared[1], 2))]
    return stores.results(stores.fill(path, cells))


def test_a_known_ratio_lies_in_its_interval_and_pairing_sharpens_it(tmp_path: Path) -> None:
    a, b = two(tmp_path / "paired.sqlite")
    together = work_ratio(a, b)
    assert timed_together(a, b)
    assert together is not None
    assert together.sure
    assert together.low < 6.0 < together.high
    assert together.high / together.low < 1.05
    c, d = two(tmp_path / "apart.sqlite", shared=(0, 7))
    apart = work_ratio(c, d)
    assert apart is not None
    assert not apart.sure  # timed apart
    assert apart.low < 6.0 < apart.high
    assert np.log(apart.high / apart.low) > 3.0 * np.log(together.high / together.low)


def test_the_interval_covers_as_often_as_it_says(tmp_path: Path) -> None:
    (a, b), generator = two(tmp_path / "s.sqlite"), np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        common = generator.gamma(4.0, size=64)
        x, y = 3.0 * common + generator.gamma(2.0, 3.0, 64), 2.0 * common + generator.gamma(2.0, 2.0, 64)
        a.series["squared_norm:all"], b.series["squared_norm:all"] = x, y
        a.row["variance"], b.row["variance"] = x.mean(), y.mean()
        ratio = variance_ratio(a, b)
        assert ratio is not None
        hits += ratio.low <= 18.0 / 12.0 <= ratio.high
    assert 0.91 <= hits / 300 <= 0.985


def test_twice_the_replicates_still_pair(tmp_path: Path) -> None:
    """Group i of the smaller cell goes with half of a group of the larger one."""
    a, b = two(tmp_path / "s.sqlite", replicates=131072)
    q = np.exp(0.3 * np.random.default_rng(3).standard_normal(128))
    a.series["squared_norm:all"], b.series["squared_norm:all"] = 6.0 * q[:64], 2.0 * q.reshape(64, 2).mean(axis=1)
    ratio = variance_ratio(a, b)
    assert ratio is not None
    assert ratio.high / ratio.low < 1.0 + 1e-9  # perfectly correlated
    assert ratio.value == pytest.approx(3.0)


def test_no_ratio_without_a_variance(tmp_path: Path) -> None:
    a, b = two(tmp_path / "s.sqlite", variance_flag="unreliable")
    ratio = variance_ratio(a, b)
    assert ratio is not None
    assert not ratio.sure
    b.row["variance"] = 0.0
    assert variance_ratio(a, b) is None
    assert work_ratio(a, b) is None


def test_without_series_the_rows_intervals_serve(tmp_path: Path) -> None:
    cells = [(stores.rows("a", variance=6.0), {}), (stores.rows("b", backend="jax", variance=2.0), {})]
    a, b = stores.results(stores.fill(tmp_path / "s.sqlite", cells))
    ratio = work_ratio(a, b)
    assert ratio is not None
    assert not ratio.sure
    assert ratio.value == pytest.approx(3.0)
    assert ratio.low < 3.0 < ratio.high


def test_slope_of_averaging_is_minus_one() -> None:
    generator = np.random.default_rng(1)
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 64.0])
    inside = 0
    for _ in range(200):
        y = 5.0 / x * np.exp(0.01 * generator.standard_normal(6))
        line = slopes.fit(x, y, y * np.exp(-0.0196), y * np.exp(0.0196))
        assert line is not None
        assert line.value == pytest.approx(-1.0, abs=0.02)
        inside += line.low <= -1.0 <= line.high
    assert inside >= 180


def test_no_slope_through_two_points() -> None:
    assert slopes.fit([1.0, 2.0, 2.0], [1.0, 0.5, 0.5], [0.9, 0.4, 0.4], [1.1, 0.6, 0.6]) is None
    assert slopes.fit([1.0, 2.0, 4.0], [1.0, 0.0, 0.5], [0.9, 0.0, 0.4], [1.1, 0.0, 0.6]) is None
