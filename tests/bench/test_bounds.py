"""The bound on the bias as a vector: what it covers, how tight it is, what it is compared with.

Calibrations run at fixed seeds; each fails for right code and fresh seeds with probability 1e-4 at most.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gradmeter.bench.measurement.bias import Difference
from gradmeter.bench.measurement.bounds import BOUND_LEVEL, integrated_bound, sampled_bound, scale_of
from gradmeter.bench.measurement.moments import GROUPS
from gradmeter.bench.measurement.spectrum import Spectrum

FALSE_ALARM = 1e-4


def differences(bias: np.ndarray, root: np.ndarray, runs: int, seed: int = 0, per_group: int = 256) -> list[Difference]:
    """Of Normal replicates with covariance root @ root.T [D, k], by their sufficient figures."""
    generator, found = np.random.default_rng(seed), []
    deviation, zero = np.linalg.norm(root, axis=1), np.zeros(len(bias))
    for _ in range(runs):
        groups = bias + generator.standard_normal((GROUPS, root.shape[1])) @ root.T / math.sqrt(per_group)
        mean = groups.mean(axis=0)
        made = Difference(mean, deviation, zero, groups, GROUPS * per_group, zero, unseen=zero, rare=zero > 0.0)
        found.append(made)
    return found


def covariance(kind: str, dimension: int) -> np.ndarray:
    """[D, k], trace D."""
    if kind == "independent":
        return np.eye(dimension)
    if kind == "one direction":
        return np.ones((dimension, 1))
    strong = np.concatenate([np.eye(dimension), 3.0 * np.ones((dimension, 1))], axis=1)
    return strong / math.sqrt(10.0)


@pytest.mark.parametrize("dimension", [1, 10, 100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["independent", "one direction", "both"])
def test_the_bound_covers_the_vector(kind: str, dimension: int) -> None:
    """At a level of 1 %: a bias of a few standard errors along the largest eigenvalue, or spread over all
    coordinates."""
    runs, level, root = 200, 0.01, covariance(kind, dimension)
    error = math.sqrt(np.linalg.norm(root @ root.T, 2) / (GROUPS * 256))
    for direction in (np.ones(dimension), np.where(np.arange(dimension) % 2, 1.0, -1.0)):
        bias = 3.0 * error * direction / math.sqrt(dimension)
        found = differences(bias, root, runs)
        missed = sum(sampled_bound(d, level).value < np.linalg.norm(bias) for d in found)
        assert missed <= stats.binom(runs, level).isf(FALSE_ALARM)


@pytest.mark.parametrize(
    ("dimension", "most"),
    [(1, (1.5, 1.3, 1.2)), (10, (1.7, 1.4, 1.25)), (100, (2.1, 1.6, 1.3)), (1000, (2.9, 2.0, 1.5))],
)
def test_the_bound_is_tight(dimension: int, most: tuple[float, ...]) -> None:
    """Bound over bias, spread evenly, 8 analyses: n is k = 10, 30 and 100 times what one coordinate needs."""
    for k, limit in zip((10.0, 30.0, 100.0), most, strict=True):
        bias = np.full(dimension, 3.29 * math.sqrt(k / (GROUPS * 256)))
        found = differences(bias, np.eye(dimension), 10)
        ratio = np.mean([sampled_bound(d, BOUND_LEVEL / 8).value for d in found]) / np.linalg.norm(bias)
        assert 1.0 < ratio < limit


def test_the_largest_coordinate_is_not_the_vector() -> None:
    """1 % of every coordinate of 1,000: the largest alone would certify a hundredth of that."""
    bias = np.full(1000, 1.0)
    bound = sampled_bound(differences(bias, np.eye(1000), 1)[0], BOUND_LEVEL)
    assert bound.value >= np.linalg.norm(bias)
    assert bound.worst < 0.1 * np.linalg.norm(bias)


@pytest.mark.parametrize("kind", ["independent", "one direction", "both"])
@pytest.mark.parametrize("size", [0.0, 2.0, 8.0])
def test_the_interval_of_the_bias(kind: str, size: float) -> None:
    """Either end misses in 2.5 % or a little more (3.3 % is the most that was seen); the estimate has no sampling
    noise in it: it is not larger than the bias in the mean."""
    runs, dimension, root = 400, 30, covariance(kind, 30)
    error = math.sqrt(np.linalg.norm(root @ root.T, 2) / (GROUPS * 256))
    bias = size * error * np.ones(dimension) / math.sqrt(dimension)
    bounds = [sampled_bound(d, BOUND_LEVEL) for d in differences(bias, root, runs, seed=1)]
    truth = float(np.linalg.norm(bias))
    limit = stats.binom(runs, 0.04).isf(FALSE_ALARM)
    assert sum(b.low > truth for b in bounds) <= limit
    assert sum(b.high < truth for b in bounds) <= limit
    assert all(b.low <= b.estimate + 1e-15 <= b.high + 1e-12 for b in bounds)
    squares = np.asarray([b.estimate**2 for b in bounds])
    if size == 8.0:
        assert abs(squares.mean() - truth**2) < 5.0 * squares.std() / math.sqrt(runs)


def test_the_bound_is_never_below_rounding() -> None:
    d = differences(np.zeros(3), np.zeros((3, 1)), 1)[0]
    constant = Difference(d.mean, d.deviation, d.skewness, d.groups, d.count, np.full(3, 1e-9), d.unseen, d.rare)
    assert sampled_bound(constant, BOUND_LEVEL).value == pytest.approx(2e-9 * math.sqrt(3.0))  # moved by it before
    assert integrated_bound(np.zeros(3), np.zeros(3), np.full(3, 1e-9)).value == pytest.approx(1e-9 * math.sqrt(3.0))


def test_an_integrated_bias_is_the_integral() -> None:
    bound = integrated_bound(np.asarray([0.0, -0.5]), np.full(2, 1e-12), np.zeros(2))
    assert bound.estimate == pytest.approx(0.5, rel=1e-15)
    assert bound.low == pytest.approx(0.5, rel=1e-11)
    assert bound.value == bound.high == pytest.approx(0.5, rel=1e-11)


def test_what_a_bias_is_compared_with() -> None:
    """‖g‖ down to rounding, whatever its size; then the deviation; and below that nothing."""
    tiny = np.full(2, 1e-13)
    assert scale_of(np.asarray([1e-2, 0.0]), 1e12, tiny).name == "gradient"
    assert scale_of(np.asarray([1e-12, 0.0]), 1e12, tiny).name == "gradient"
    assert scale_of(np.asarray([1e-14, 0.0]), 4.0, tiny) == scale_of(np.zeros(2), 4.0, tiny)
    assert (scale_of(np.zeros(2), 4.0, tiny).size, scale_of(np.zeros(2), 4.0, tiny).lost) == (2.0, False)
    assert scale_of(np.asarray([1e-14, 0.0]), 1e-28, tiny).lost
    assert scale_of(np.zeros(2), 0.0, np.zeros(2)).lost


def test_a_bias_no_larger_than_rounding_is_hidden() -> None:
    """Of an estimate that never varies: there is nothing to compare the bias with."""
    tau = np.full(4, 1e-14)
    lost = scale_of(np.full(4, 1e-15), 0.0, tau)
    assert lost.hides(np.array([1.9e-14, 0.0, 0.0, 0.0]))
    assert not lost.hides(np.array([2.1e-14, 0.0, 0.0, 0.0]))
    assert not scale_of(np.full(4, 1e-15), 1.0, tau).hides(np.zeros(4))
    # Of a gradient of 1e-70 no draw of ours meets what it rests on.
    assert scale_of(np.array([1e-70]), 0.0, np.zeros(1)).hides(np.array([1e-70]))
    assert not scale_of(np.array([1e-50]), 0.0, np.zeros(1)).lost


def test_the_spectrum_of_a_mean() -> None:
    """λ, τ² and v of what is known, to the accuracy of 64 groups."""
    root = np.concatenate([np.eye(50), 2.0 * np.ones((50, 1))], axis=1)
    d = differences(np.zeros(50), root, 1, seed=3)[0]
    eigenvalues = np.linalg.eigvalsh(root @ root.T) / d.count
    found = Spectrum.of(d.groups, d.mean_variances)
    assert found.trace == pytest.approx(eigenvalues.sum(), rel=1e-12)
    assert found.largest == pytest.approx(eigenvalues[-1], rel=0.5)
    assert found.squares == pytest.approx((eigenvalues**2).sum(), rel=1.0)
    assert Spectrum.of(np.zeros((GROUPS, 2)), np.zeros(2)).upper(0.0, 3.0) == 0.0


@pytest.mark.parametrize("kind", ["independent", "one direction", "both"])
def test_the_length_of_a_mean_alarms_at_its_rate(kind: str) -> None:
    """The scaled χ² of the dense test at a level of 1 %, of Normal means without bias; it holds, and is not empty."""
    runs = 500
    found = differences(np.zeros(20), covariance(kind, 20), runs, seed=4)
    alarms = sum(d.spectrum().chance_of(float(d.mean @ d.mean)) < 0.01 for d in found)
    assert alarms <= stats.binom(runs, 0.02).isf(FALSE_ALARM)
    assert alarms > 0
