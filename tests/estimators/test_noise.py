"""Noise: the laws it is drawn from, and streams that depend on their path alone."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.noise import Noise, _draw, draw, mirror, stream_root
from tests.support import called_once

#: Every statistical assertion here has this chance of failing for a sampler that is right; the seeds are fixed, so
#: it either always fails or never does. About 120 of them: 1 in 8,000 that a new framework version's draws fail one.
FALSE_ALARM = 1e-6

LAWS: dict[str, Any] = {
    "normal": stats.norm(),
    "uniform": stats.uniform(),
    "exponential": stats.expon(),
    "rayleigh": stats.rayleigh(),
    "maxwell": None,  # double-sided: below
}
#: E xⁿ of the double-sided Maxwell law.
MAXWELL = {1: 0.0, 2: 3.0, 3: 0.0, 4: 15.0, 6: 105.0, 8: 945.0}


def numbers(
    backend: Backend, spec: Noise, block: Any = 0, replicates: int = 4096, dtype: str = "float64"
) -> np.ndarray:
    roots = {"x": backend.root(stream_root("tests", "noise", spec.kind))}
    return drawn(backend, spec, roots, block, replicates, dtype)


def drawn(
    backend: Backend, spec: Noise, roots: dict[str, Any], block: Any, replicates: int, dtype: str = "float64"
) -> np.ndarray:
    """Draw one block of the noise `x`."""
    made = called_once(backend, lambda r, b: draw(backend, {"x": spec}, r, b, replicates, dtype)["x"], roots, block)
    return backend.to_numpy(made)


def moment(kind: str, order: int) -> float:
    return MAXWELL[order] if kind == "maxwell" else float(LAWS[kind].moment(order))


@pytest.mark.parametrize("kind", LAWS)
def test_moments(backend: Backend, kind: str) -> None:
    x = numbers(backend, Noise(kind, (25,)), replicates=8192).ravel()  # type: ignore[arg-type]
    for order in (1, 2, 3, 4):
        variance = moment(kind, 2 * order) - moment(kind, order) ** 2
        z = (np.mean(x**order) - moment(kind, order)) / math.sqrt(variance / len(x))
        assert abs(z) < stats.norm.isf(FALSE_ALARM / 2), order


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.matrix
def test_distribution(backend: Backend, kind: str, dtype: str) -> None:
    """Kolmogorov and Smirnov's test on 50,000 numbers."""
    x = numbers(backend, Noise(kind, (10,)), replicates=5000, dtype=dtype)  # type: ignore[arg-type]
    assert x.dtype == dtype
    sample = x.ravel().astype(float)
    if kind == "maxwell":
        assert stats.binomtest(int(np.sum(sample > 0)), len(sample)).pvalue > FALSE_ALARM
        sample = np.abs(sample)
    law = stats.maxwell() if kind == "maxwell" else LAWS[kind]
    assert stats.kstest(sample, law.cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.matrix
def test_neighbours_are_uncorrelated(backend: Backend, kind: str) -> None:
    """Along samples, replicates, blocks and names."""
    spec = Noise(kind, (2,))  # type: ignore[arg-type]
    first, second = (numbers(backend, spec, block, 50_000) for block in (0, 1))
    roots = {"y": backend.root(stream_root("tests", "noise", "another name"))}
    other = backend.to_numpy(draw(backend, {"y": spec}, roots, 0, 50_000, "float64")["y"])
    pairs = [(first[:, 0], first[:, 1]), (first[:-1, 0], first[1:, 0]), (first[:, 0], second[:, 0])]
    for a, b in [*pairs, (first[:, 0], other[:, 0])]:
        r = np.corrcoef(a, b)[0, 1]
        assert abs(r) * math.sqrt(len(a)) < stats.norm.isf(FALSE_ALARM / 2)


@pytest.mark.parametrize("kind", ["normal", "uniform", "exponential"])
def test_mirror(backend: Backend, kind: Any) -> None:
    """As probable from the other side, and back again."""
    x = numbers(backend, Noise(kind, (3,)), replicates=50)
    other = backend.to_numpy(mirror(backend.xp, kind, backend.asarray(x, "float64")))
    np.testing.assert_allclose(LAWS[kind].cdf(other), 1.0 - LAWS[kind].cdf(x), rtol=0.0, atol=1e-14)
    again = backend.to_numpy(mirror(backend.xp, kind, backend.asarray(other, "float64")))
    np.testing.assert_allclose(again, x, rtol=1e-11, atol=1e-14)


def test_far_exponentials_are_mirrored_to_full_precision(backend: Backend) -> None:
    """Beyond e = 37, 1 − exp(−e) is 1 in float64; the mirror image is exp(−e) + ½exp(−2e) + ..."""
    found = backend.to_numpy(mirror(backend.xp, "exponential", backend.asarray([20.0, 40.0, 300.0], "float64")))
    np.testing.assert_allclose(found, -np.log1p(-np.exp([-20.0, -40.0, -300.0])), rtol=1e-14)


def test_exponential_is_inside_its_support(backend: Backend) -> None:
    """Where the uniform is 0 or next to 1, in either precision, noise and mirror image are finite and positive."""
    for dtype, last in (("float64", 1.0 - 2.0**-53), ("float32", 1.0 - 2.0**-24)):
        ends = SimpleNamespace(xp=backend.xp, uniform=lambda *_, d=dtype, e=last: backend.asarray([0.0, e], d))
        drawn = _draw(ends, Noise("exponential", ()), None, (2,), dtype)
        for values in (drawn, mirror(backend.xp, "exponential", drawn)):
            found = backend.to_numpy(values)
            assert np.all(np.isfinite(found))
            assert np.all(found > 0.0)


@pytest.mark.parametrize("kind", ["normal", "uniform", "exponential", "rayleigh", "maxwell", "rows"])
@pytest.mark.matrix
def test_same_path_same_draws(backend: Backend, kind: str) -> None:
    spec = Noise(kind, (3,), population=11)  # type: ignore[arg-type]
    first = numbers(backend, spec, 5)
    np.testing.assert_array_equal(first, numbers(backend, spec, 5))
    assert np.any(first != numbers(backend, spec, 6))


def test_names_do_not_disturb_each_other(backend: Backend) -> None:
    """A name's draws are the same whatever is drawn beside it."""
    specs = {name: Noise("normal", (3,)) for name in ("a", "b")}
    roots = {name: backend.root(stream_root("tests", name)) for name in specs}
    both = draw(backend, specs, roots, 2, 50, "float64")
    alone = draw(backend, {"b": specs["b"]}, {"b": roots["b"]}, 2, 50, "float64")
    np.testing.assert_array_equal(backend.to_numpy(both["b"]), backend.to_numpy(alone["b"]))
    assert np.all(backend.to_numpy(both["a"]) != backend.to_numpy(both["b"]))


def test_blocks_do_not_depend_on_how_they_are_gathered() -> None:
    """JAX draws several blocks in one compiled loop: the same numbers for any number of them."""
    pytest.importorskip("jax", reason="backend 'jax' is not installed")
    backend = get("jax")
    spec = {"x": Noise("maxwell", (2,)), "rows": Noise("rows", (3,), population=11)}
    roots = {name: backend.root(stream_root("tests", name)) for name in spec}

    def one(block: Any) -> Any:
        return draw(backend, spec, roots, block, 64, "float64")

    many = backend.compile(lambda blocks: backend.map(one, blocks))
    together = many(backend.asarray(np.arange(5), "int32"))
    for block in range(5):
        alone = many(backend.asarray([block], "int32"))
        for name, values in alone.items():
            np.testing.assert_array_equal(backend.to_numpy(together[name])[block], backend.to_numpy(values)[0])


@pytest.mark.parametrize(("batch", "population"), [(1, 7), (3, 7), (7, 7), (32, 569)])
def test_rows_are_a_subset(backend: Backend, batch: int, population: int) -> None:
    """Distinct, in range, every row equally often, in every place of a pair equally often."""
    rows = numbers(backend, Noise("rows", (batch,), population=population), replicates=20_000)
    assert rows.dtype.kind == "i"
    assert rows.min() >= 0
    assert rows.max() < population
    assert np.all(np.diff(np.sort(rows, axis=1), axis=1) > 0)
    if batch == population:
        return
    counts = np.bincount(rows.ravel(), minlength=population)
    # Without replacement: Σ (count − mean)² over its variance, n p (1 − p) N/(N − 1) each, is chi-square on N − 1.
    mean = len(rows) * batch / population
    statistic = np.sum((counts - mean) ** 2) / (mean * (1 - batch / population)) * (population - 1) / population
    low, high = stats.chi2(population - 1).ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2])
    assert low < statistic < high


def test_pairs_of_rows_are_equally_likely(backend: Backend) -> None:
    """All 10 unordered pairs out of 5."""
    rows = np.sort(numbers(backend, Noise("rows", (2,), population=5), replicates=30_000), axis=1)
    counts = np.bincount(rows[:, 0] * 5 + rows[:, 1], minlength=25)
    assert stats.chisquare(counts[counts > 0]).pvalue > FALSE_ALARM
    assert np.count_nonzero(counts) == 10


def test_roots_do_not_collide() -> None:
    """Paths are told apart whole: ('a', 'bc') is not ('ab', 'c')."""
    paths = [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), (1, 11), (11, 1), ("1", "1", "1")]
    roots = sorted(stream_root(*path) for path in paths)
    assert all(a < b for a, b in pairwise(roots))
    assert all(0 <= root < 2**128 for root in roots)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gauss", ()), "unknown kind of noise 'gauss'; choose from: normal, "),
        (("normal", 3), "a shape is a tuple of whole numbers"),
        (("normal", (-1,)), "a shape is a tuple of whole numbers"),
        (("rows", (3,)), "rows draws 3 of a population of 0"),
    ],
)
def test_noise_that_nobody_can_draw_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        Noise(*arguments)
