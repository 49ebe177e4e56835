"""Streaming moments against direct ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.measurement.moments import GROUPS, Moments
from tests.support import make_cell, measured

CENTRE = np.asarray([0.3, -1.0, 40.0])


def sample(blocks: int, replicates: int, seed: int = 0) -> np.ndarray:
    """Skewed, correlated estimates [blocks, replicates, 3] of very different sizes."""
    x = np.random.default_rng(seed).standard_normal((blocks, replicates, 3))
    return np.stack(
        [x[..., 0] ** 2, 1e-3 * x[..., 1] - 1.0, 50.0 * np.exp(0.3 * x[..., 2]) + 20.0 * x[..., 0]], axis=-1
    )


def add(moments: Moments, power: Any, q: np.ndarray) -> None:
    """Blocks [blocks, ...], as a stream adds them."""
    moments.keep_largest(q)
    moments.add(*power, np.stack([q.sum(axis=1), (q * q).sum(axis=1)], axis=1))


def feed(moments: Moments, estimates: np.ndarray, centre: np.ndarray = CENTRE) -> Moments:
    """Block sums in the estimates' own precision, as the kernel makes them; room is doubled when it runs out."""
    for block in estimates:
        if moments.blocks == GROUPS * moments.blocks_per_group:
            moments.double()
        d = block - centre.astype(block.dtype)
        power = tuple((d**order).sum(axis=0)[None] for order in (1, 2, 3))
        add(moments, power, (d * d).sum(axis=1)[None])
    return moments


@pytest.mark.parametrize("blocks", [GROUPS, 2 * GROUPS, 8 * GROUPS])
def test_streaming_equals_direct(blocks: int) -> None:
    x = sample(blocks, 32)
    found, flat = feed(Moments(3, 32), x), x.reshape(-1, 3)
    deviation = flat - flat.mean(axis=0)
    assert found.count == len(flat)
    np.testing.assert_allclose(found.shift() + CENTRE, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.variances(), flat.var(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(found.mean_squares(CENTRE), (flat**2).mean(axis=0), rtol=1e-12)
    skewness = (deviation**3).mean(axis=0) / flat.std(axis=0) ** 3
    np.testing.assert_allclose(found.skewness(), skewness, rtol=1e-11, atol=1e-11)
    q = ((flat - CENTRE) ** 2).sum(axis=1)
    assert found.kurtosis() == pytest.approx((q**2).mean() / q.mean() ** 2, rel=1e-12)
    groups = x.reshape(GROUPS, -1, 3)
    np.testing.assert_allclose(found.group_means(), groups.mean(axis=1) - CENTRE, rtol=1e-11, atol=1e-12)
    about_mean = (deviation.reshape(groups.shape) ** 2).sum(axis=-1).mean(axis=1)
    np.testing.assert_allclose(found.group_squared_norms(), about_mean, rtol=1e-11)


def test_third_order_from_some_of_the_replicates() -> None:
    """Σd³ over the first quarter of every block: those replicates' third moment, the lower ones of all."""
    x = sample(GROUPS, 32)
    found, d = Moments(3, 32, cubed=8), x - CENTRE
    power = ((d).sum(axis=1), (d**2).sum(axis=1), (d[:, :8] ** 3).sum(axis=1))
    add(found, power, (d * d).sum(axis=2))
    m1, m2, m3 = d.mean(axis=(0, 1)), (d**2).mean(axis=(0, 1)), (d[:, :8] ** 3).mean(axis=(0, 1))
    expected = (m3 - 3 * m1 * m2 + 2 * m1**3) / (m2 - m1**2) ** 1.5
    np.testing.assert_allclose(found.skewness(), expected, rtol=1e-10, atol=1e-10)


def test_a_then_b_equals_one_pass() -> None:
    """Doubling half-way, or having the room from the start, one block at a time or many: the same to 1e-12."""
    x = sample(2 * GROUPS, 16)
    grown = feed(Moments(3, 16), x)
    once = Moments(3, 16)
    once.double()
    d = x - CENTRE
    power = tuple((d**order).sum(axis=1) for order in (1, 2, 3))
    add(once, power, (d * d).sum(axis=2))
    for name in ("shift", "variances", "skewness", "kurtosis", "group_means", "group_squared_norms"):
        np.testing.assert_allclose(getattr(grown, name)(), getattr(once, name)(), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(np.sort(grown.largest)[-60:], np.sort(once.largest)[-60:])


@pytest.mark.parametrize(("blocks", "replicates"), [(GROUPS, 64), (4 * GROUPS, 64), (GROUPS, 4), (8 * GROUPS, 1)])
@pytest.mark.parametrize("seed", range(5))
def test_the_largest_are_kept(blocks: int, replicates: int, seed: int) -> None:
    """At least the ⌈3√n⌉ + 1 largest Q of all n, whatever the order they came in."""
    x = sample(blocks, replicates, seed)
    found = feed(Moments(3, replicates), x)
    q = np.sort(((x - CENTRE) ** 2).sum(axis=-1).ravel())
    keep = math.ceil(3.0 * math.sqrt(len(q))) + 1
    np.testing.assert_allclose(np.sort(found.largest)[-keep:], q[-keep:], rtol=1e-12)
    assert len(found.largest) <= 4 * keep + replicates


def test_equal_values_are_all_kept() -> None:
    """Ties at the edge of what is kept are not lost."""
    d = np.where(np.arange(GROUPS * 64) % 3 == 0, 2.0, 1.0).reshape(GROUPS, 64, 1)
    found = feed(Moments(1, 64), d, np.zeros(1))
    assert len(found.largest) > math.ceil(3.0 * math.sqrt(d.size))
    np.testing.assert_array_equal(found.largest, 4.0)


def test_nothing_cancels_in_float32() -> None:
    """mean/sd = 10³: what a sum of squares in float32 would lose, centring keeps."""
    x = (1e3 + np.random.default_rng(4).standard_normal((GROUPS, 512, 1))).astype(np.float32)
    centre = x[:2].mean(axis=(0, 1)).astype(np.float32).astype(np.float64)
    found, direct = feed(Moments(1, 512), x, centre), x.astype(np.float64).var(ddof=1)
    assert found.variances()[0] == pytest.approx(direct, rel=1e-5)
    naive = float(np.mean(x * x, dtype=np.float32) - np.mean(x, dtype=np.float32) ** 2)
    assert abs(naive - direct) > 0.01


def test_nothing_cancels_in_a_float32_cell(backend_name: str) -> None:
    """∂loc of (z + 1000)² by the pathwise estimator: mean 2000, variance 4."""
    rows = measured(
        make_cell("square[k=-1000]", "pathwise", backend=backend_name, dtype="float32", max_replicates=2**18)
    )
    assert rows["loc"]["variance"] == pytest.approx(4.0, rel=0.02)
    assert rows["loc"]["mean_norm"] == pytest.approx(2000.0, rel=1e-5)
    assert rows["loc"]["verdict"] == "unbiased"


def test_a_constant_has_no_skewness() -> None:
    found = feed(Moments(3, 4), np.broadcast_to(CENTRE, (GROUPS, 4, 3)))
    np.testing.assert_array_equal(found.skewness(), np.zeros(3))
    assert found.kurtosis() == 1.0
