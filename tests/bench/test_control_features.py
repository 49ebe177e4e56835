"""Controls of known mean: their means, exactly, whatever the model that they are made of."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.polynomial import hermite_e, laguerre, legendre

from gradmeter.bench.measurement.controls.basis import MOMENTS, Basis, polynomials, stepped
from gradmeter.bench.measurement.controls.features import BELOW, HIGH, Layout, powers
from gradmeter.bench.measurement.controls.fit import _slopes
from gradmeter.bench.measurement.controls.source import Source
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import Noise, draw
from tests.support import called_once, needs

KINDS = tuple(MOMENTS)
NODES = 40


def rayleigh(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss's rule of the density w exp(−w²/2), by Lanczos' process on a fine rule."""
    x, w = legendre.leggauss(400)
    x = 8.0 * (x + 1.0)
    w = w * x * np.exp(-0.5 * x * x)
    vectors = [np.sqrt(w / w.sum())]
    for _ in range(nodes - 1):
        new = x * vectors[-1]
        for _ in range(2):
            for old in vectors:
                new = new - (new @ old) * old
        vectors.append(new / np.linalg.norm(new))
    basis = np.stack(vectors)
    found, states = np.linalg.eigh((basis * x) @ basis.T)
    return found, states[0] ** 2


def rule(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss's rule for a number of noise: exact for polynomials of degree 2 · 40 − 1."""
    if kind == "normal":
        x, w = hermite_e.hermegauss(NODES)
    elif kind == "maxwell":  # m² times the Normal density
        x, w = hermite_e.hermegauss(NODES)
        w = w * x * x
    elif kind == "rayleigh":
        x, w = rayleigh(NODES)
    elif kind == "exponential":
        x, w = laguerre.laggauss(NODES)
    elif kind == "rademacher":
        x, w = np.asarray([-1.0, 1.0]), np.ones(2)
    else:
        x, w = legendre.leggauss(NODES)
        x = 0.5 * (x + 1.0)
    return x, w / w.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_functions_are_orthonormal(kind: str) -> None:
    """⟨φ_j, φ_k⟩ = 1 for j = k, else 0, and every mean is 0, by Gauss's rule."""
    x, w = rule(kind)
    phi = np.stack([np.ones_like(x), *Basis.smooth(kind, 8)(np, x, {})])
    products = (phi * w) @ phi.T
    np.testing.assert_allclose(products, np.eye(len(phi)), atol=1e-9)
    assert len(phi) == (2 if kind == "rademacher" else 9)
    np.testing.assert_allclose((phi * w)[1:3] @ np.ones_like(x), 0.0, atol=1e-13)


def test_the_first_functions_are_the_known_ones() -> None:
    x = np.linspace(0.1, 0.9, 5)
    found = Basis.smooth("normal", 2)(np, x, {})
    np.testing.assert_allclose(found[0], x, rtol=1e-15)
    spread = math.sqrt(2.0 - 0.5 * math.pi)
    known = (x - math.sqrt(0.5 * math.pi)) / spread
    np.testing.assert_allclose(Basis.smooth("rayleigh", 1)(np, x, {})[0], known, atol=1e-14)
    np.testing.assert_allclose(found[1], (x * x - 1.0) / math.sqrt(2.0), rtol=1e-14)
    np.testing.assert_allclose(Basis.smooth("uniform", 1)(np, x, {})[0], math.sqrt(12.0) * (x - 0.5), atol=1e-14)
    np.testing.assert_allclose(Basis.smooth("exponential", 1)(np, x, {})[0], x - 1.0, atol=1e-15)
    np.testing.assert_allclose(Basis.smooth("maxwell", 1)(np, x, {})[0], x / math.sqrt(3.0), rtol=1e-15)
    assert polynomials("rademacher", 4) == ((0.0, 1.0),)


@pytest.mark.parametrize(
    "discontinuities", [[[0.3]], [[0.001], [0.7]], [[0.2, 0.5, 0.9], [0.1, 0.4, 1.0]], [[0.0, 0.25]]]
)
def test_steps_are_orthonormal(discontinuities: list[list[float]]) -> None:
    """Between jumps, summed over the pieces by their probabilities."""
    at = np.asarray(discontinuities)
    count, steps = stepped(at, 4, "float64")
    basis = Basis("uniform", count, steps["at"].shape[0])
    for number, ends in enumerate(at):
        inside = sorted({e for e in ends if 0.0 < e < 1.0})
        edges = np.asarray([0.0, *inside, 1.0])
        middle, p = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
        u = np.full((len(middle), len(at)), 0.5)
        u[:, number] = middle
        phi = np.stack([f[:, number] for f in basis(np, u, steps)])
        np.testing.assert_allclose(phi @ p, 0.0, atol=1e-13)
        there = np.any(phi != 0.0, axis=1)
        assert there.sum() == min(len(inside), count)
        np.testing.assert_allclose((phi * p) @ phi.T, np.diag(there.astype(float)), atol=1e-12)


def layout(kind: str, m: int, samples: int, **more: Any) -> Layout:
    directions = more.pop("directions", 0)
    shape = {"axis": 0 if samples > 1 else None, "numbers": m}
    own = Source("base", Basis.smooth(kind, 4), **shape)  # type: ignore[arg-type]
    others = tuple(Source(name, Basis.smooth(kind, 2), **shape) for name in more.pop("others", ()))  # type: ignore[arg-type]
    high, below = (powers(directions, degrees) if directions else () for degrees in (HIGH, BELOW))
    couples = tuple(itertools.combinations(range(len(others)), 2))
    return Layout((own,), others, samples, directions=directions, high=high, below=below, couples=couples, **more)


def model(made: Layout, size: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Coefficients at random, however large."""
    generator = np.random.default_rng(seed)
    m = made.numbers
    M = generator.normal(size=(m, m)) * size
    found = {"h": generator.normal(size=(4, m)) * size, "M": np.triu(M, 1) + np.triu(M, 1).T}
    if made.directions:
        found["V"] = np.linalg.qr(generator.normal(size=(m, made.directions)))[0]
        found["c"] = generator.normal(size=len(made.high)) * size
        found["slope"] = _slopes(made, found["c"])
    return found


def grid(kind: str, numbers: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """A tensor product of Gauss's rules [points, numbers], exact for polynomials of that degree in each number."""
    x, w = rule(kind)
    if kind != "rademacher":
        few = degree // 2 + 1
        every = {
            "normal": lambda: hermite_e.hermegauss(few),
            "maxwell": lambda: hermite_e.hermegauss(few + 1),
            "exponential": lambda: laguerre.laggauss(few),
            "rayleigh": lambda: rayleigh(few),
        }
        x, w = every.get(kind, lambda: legendre.leggauss(few))()
        w = w * x * x if kind == "maxwell" else w
        x = 0.5 * (x + 1.0) if kind in ("uniform", "stratum") else x
        w = w / w.sum()
    points = np.asarray(list(itertools.product(x, repeat=numbers)))
    weights = np.prod(np.asarray(list(itertools.product(w, repeat=numbers))), axis=1)
    return points, weights


@pytest.mark.parametrize("size", [1.0, 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_means_of_features(kind: str, size: float) -> None:
    """By quadrature over three numbers, to rounding of the sizes that are added."""
    made = layout(kind, 3, 1)
    arrays = model(made, size)
    points, weights = grid(kind, 3, 8)
    averages, whole = made(np, {"base": points}, arrays)
    means = made.means(arrays)
    for feature, mean in zip([*averages, whole[:, None] + np.zeros(3)], [*means, np.zeros(3)], strict=True):
        np.testing.assert_allclose(weights @ feature, mean, atol=1e-12 * max(1.0, (weights @ np.abs(feature)).max()))


def test_means_with_products_in_directions() -> None:
    """Degrees 3 and 4 in two directions of three Normal numbers: all features have degree 6 at most in a number."""
    made = layout("normal", 3, 1, directions=2)
    arrays = model(made, 3.0)
    points, weights = grid("normal", 3, 12)
    averages, whole = made(np, {"base": points}, arrays)
    for feature, mean in zip([*averages, whole[:, None]], [*made.means(arrays), np.zeros(1)], strict=True):
        np.testing.assert_allclose(weights @ feature, mean, atol=1e-11)


@pytest.mark.parametrize("kind", ["normal", "uniform", "exponential", "rademacher"])
def test_means_over_two_samples(kind: str) -> None:
    """Averages, and the products of averages that leave-one-out estimators are made of: two numbers, two samples."""
    made = layout(kind, 2, 2, crossed=True)
    arrays = model(made, 2.0)
    points, weights = grid(kind, 4, 8)
    averages, _ = made(np, {"base": points.reshape(-1, 2, 2)}, arrays)
    for feature, mean in zip(averages, made.means(arrays), strict=True):
        np.testing.assert_allclose(weights @ feature, mean, atol=1e-11)


@pytest.mark.parametrize("names", [("other",), ("one", "two")])
def test_means_beside_other_noise(names: tuple[str, ...]) -> None:
    """Noise of something else: two numbers of each name."""
    made = layout("uniform", 2, 1, others=names)
    arrays = model(made, 2.0)
    points, weights = grid("uniform", 2 * (1 + len(names)), 6)
    noise = {name: points[:, 2 * i : 2 * i + 2] for i, name in enumerate(("base", *names))}
    averages, _ = made(np, noise, arrays)
    for feature, mean in zip(averages, made.means(arrays), strict=True):
        np.testing.assert_allclose(weights @ feature, mean, atol=1e-11)


def test_slopes_are_derivatives() -> None:
    made = layout("normal", 5, 1, directions=3)
    arrays = model(made, 1.0)
    x, step = np.random.default_rng(1).normal(size=(4, 5)), 1e-5

    def high(at: np.ndarray) -> Any:
        return made.products(np, at, arrays, made.high) @ arrays["c"]

    slope = (made.products(np, x, arrays, made.below) @ arrays["slope"]) @ arrays["V"].T
    for j in range(5):
        moved = step * np.eye(5)[j]
        np.testing.assert_allclose(
            slope[:, j], (high(x + moved) - high(x - moved)) / (2.0 * step), rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_same_on_every_backend(backend: str, dtype: str) -> None:
    needs(backend)
    b, made = get(backend), layout("normal", 4, 2, crossed=True, directions=2)
    arrays = model(made, 1.0)
    roots = {"base": get("numpy").root(7)}
    noise = draw(get("numpy"), {"base": Noise("normal", (2, 4))}, roots, 0, 6, "float64")
    expected, whole = made(np, noise, arrays)
    on_device = {name: b.asarray(a, dtype) for name, a in arrays.items()}
    drawn = {"base": b.asarray(noise["base"], dtype)}
    found, q = called_once(b, lambda noise, arrays: made(b.xp, noise, arrays), drawn, on_device)
    tolerance = 1e-11 if dtype == "float64" else 1e-3
    for one, other in zip([*found, q], [*expected, whole], strict=True):
        np.testing.assert_allclose(b.to_numpy(one), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["normal", "uniform", "rademacher"])
def test_means_of_a_low_rank(kind: str) -> None:
    """M = F S Fᵀ without its diagonal: as means, and against M written out."""
    made = layout(kind, 3, 1)
    generator = np.random.default_rng(2)
    factors, signs = generator.normal(size=(3, 2)), np.asarray([1.0, -1.0])
    full = (factors * signs) @ factors.T
    whole = {**model(made, 1.0), "M": full - np.diag(np.diag(full))}
    low = {name: a for name, a in whole.items() if name != "M"} | {"F": factors, "signs": signs}
    points, weights = grid(kind, 3, 8)
    averages, q = made(np, {"base": points}, low)
    for feature, mean in zip([*averages, q[:, None] + np.zeros(3)], [*made.means(low), np.zeros(3)], strict=True):
        np.testing.assert_allclose(weights @ feature, mean, atol=1e-12 * max(1.0, (weights @ np.abs(feature)).max()))
    for one, other in zip(averages, made(np, {"base": points}, whole)[0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)
