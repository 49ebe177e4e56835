"""Controls made of the rows of minibatches: their means, exactly, whatever the tables; what they leave."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.polynomial import hermite_e, legendre

from gradmeter.bench.cells import Cell, make_estimator, make_problem
from gradmeter.bench.measurement.controls.features import Layout
from gradmeter.bench.measurement.controls.fit import fit
from gradmeter.bench.measurement.controls.rows import KNOTS, Rows, moments
from gradmeter.bench.measurement.controls.slopes import objective, slopes
from gradmeter.bench.measurement.defensive import DefensiveDraws
from gradmeter.bench.measurement.evaluate import estimates_of
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.estimators.noise import DrawnNoise
from tests.bench.test_control_features import layout, model

POPULATION, BATCH = 5, 2


def piecewise_rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for functions of a Normal number that are smooth between knots."""
    ends = np.concatenate([[-12.0, -8.0], KNOTS, [8.0, 12.0]])
    x, w = legendre.leggauss(24)
    middle, half = 0.5 * (ends[1:] + ends[:-1]), 0.5 * np.diff(ends)
    nodes = (middle[:, None] + half[:, None] * x).ravel()
    return nodes, (half[:, None] * w).ravel() * np.exp(-0.5 * nodes**2) / np.sqrt(2.0 * np.pi)


def tables(numbers: int, size: float) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    v = generator.normal(size=(POPULATION, numbers))
    return {
        "row directions": v / np.linalg.norm(v, axis=1, keepdims=True),
        "row slopes": size * generator.normal(size=(POPULATION, len(KNOTS))),
        "row values": size * generator.normal(size=(POPULATION, len(KNOTS))),
    }


def test_moments_of_tables() -> None:
    """Of every hat function, and of those at either end, which go on: by Gauss's rule on every piece."""
    u, w = piecewise_rule()
    piece = np.clip(np.floor((u - KNOTS[0]) / (KNOTS[1] - KNOTS[0])).astype(int), 0, len(KNOTS) - 2)
    part = (u - KNOTS[piece]) / (KNOTS[1] - KNOTS[0])
    hats = np.zeros((len(KNOTS), len(u)))
    hats[piece, np.arange(len(u))] = 1.0 - part
    hats[piece + 1, np.arange(len(u))] += part
    for weights, factor in zip(moments(), (1.0, u, (u * u - 1.0) / np.sqrt(2.0)), strict=True):
        np.testing.assert_allclose(weights, hats @ (w * factor), atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_means_of_features_of_rows(size: float) -> None:
    """Over two numbers and every minibatch: u along the row's direction piece by piece, and across it by Gauss's rule.

    A feature is a mean over the rows drawn, less one of all rows, so that minibatches of one row tell of all.
    """
    m, rows = 2, Rows("rows", POPULATION)
    made = layout("normal", m, 1)
    made = Layout(made.own, (), 1, rows=rows)
    arrays = {**model(made, 1.0), **tables(m, size)}
    u, w = piecewise_rule()
    t, wt = hermite_e.hermegauss(8)
    wt = wt / wt.sum()
    weights = (w[:, None] * wt).ravel()
    mean = [np.zeros(m) for _ in range(made.features)]
    for row in range(POPULATION):
        v = arrays["row directions"][row]
        across = np.asarray([-v[1], v[0]])
        x = (u[:, None, None] * v + t[:, None] * across).reshape(-1, m)
        averages, _ = made(np, {"base": x, "rows": np.full((len(x), 1), row)}, arrays)
        for k, each in enumerate(averages):
            mean[k] += weights @ each / POPULATION
    for found, known in zip(mean, made.means(arrays), strict=True):
        np.testing.assert_allclose(found, known, atol=1e-11 * size)


@pytest.mark.parametrize("crossed", [False, True])
def test_means_over_samples_and_minibatches(crossed: bool) -> None:
    """Two samples share a minibatch; beside other noise. All minibatches, 10,000 draws of each: 5 standard errors."""
    m, samples, n = 2, 2, 10_000
    own = layout("normal", m, samples, others=("other",), crossed=crossed)
    made = Layout(own.own, own.others, samples, crossed=crossed, rows=Rows("rows", POPULATION))
    arrays = {**model(made, 1.0), **tables(m, 1.0)}
    generator = np.random.default_rng(5)
    pairs = list(itertools.combinations(range(POPULATION), BATCH))
    total = [np.zeros((2, m)) for _ in range(made.features)]
    for pair in pairs:
        noise = {"base": generator.normal(size=(n, samples, m)), "other": generator.normal(size=(n, samples, m))}
        averages, _ = made(np, {**noise, "rows": np.broadcast_to(np.asarray(pair), (n, BATCH))}, arrays)
        for k, each in enumerate(averages):
            total[k] += [each.mean(axis=0) / len(pairs), each.var(axis=0) / n / len(pairs) ** 2]
    for (found, variance), known in zip(total, made.means(arrays), strict=True):
        assert np.all(np.abs(found - known) < 5.0 * np.sqrt(variance) + 1e-12)


@pytest.mark.parametrize(("batch", "estimator", "gain"), [(8, "pathwise", 300.0), (64, "score-function", 1e4)])
def test_what_rows_leave(batch: int, estimator: str, gain: float) -> None:
    problem = make_problem(f"logistic-regression[batch={batch}]")
    prepared = prepare(Cell(problem, make_estimator(estimator), "numpy"))
    setting = prepared.setting
    controls = fit(setting, {n: np.zeros(size) for n, size in setting.sizes.items()}, DefensiveDraws(setting).widened)
    assert controls is not None
    noise = setting.host_noise("test", 0, 4096)
    plain = estimates_of(setting, noise, 1024)
    left = controls.relieved(noise, plain)
    assert prepared.exact is not None
    before = after = 0.0
    for name, each in left.items():
        before, after = before + plain[name].var(axis=0).sum(), after + each.var(axis=0).sum()
        z = (each.mean(axis=0) - prepared.exact.gradient[name]) / (each.std(axis=0) / 64.0)
        assert np.abs(z).max() < 4.5
    assert before > gain * after


@pytest.mark.parametrize("family", ["normal", "multivariate-normal", "logistic"])
def test_slopes_are_derivatives_in_the_noise(family: str) -> None:
    """Central differences of f, in every number: of an affine z, and of one that is not."""
    prepared = prepare(Cell(make_problem(f"square[dim=3,family={family}]"), make_estimator("pathwise"), "numpy"))
    setting, step = prepared.setting, 1e-5
    (name,) = setting.specs
    x = 0.2 + 0.6 * np.random.default_rng(0).random((6, 1, 3))
    found = slopes(setting, name, DrawnNoise({name: x}, len(x)))
    assert found is not None
    for j in range(3):
        moved = step * np.eye(3)[j]
        sides = [objective(setting, DrawnNoise({name: x + sign * moved}, len(x))) for sign in (1.0, -1.0)]
        np.testing.assert_allclose(found[:, j], (sides[0] - sides[1]) / (2.0 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("problem", ["linear-vae[size=30,batch=10]", "vae[size=30,batch=10,hidden=3,latent=2]"])
def test_rows_with_a_latent_each_have_no_model(problem: str) -> None:
    """Whose controls, if any, are those of the noise alone."""
    setting = prepare(Cell(make_problem(problem), make_estimator("pathwise"))).setting
    controls = fit(setting, {n: np.zeros(size) for n, size in setting.sizes.items()}, DefensiveDraws(setting).widened)
    assert controls is None or controls.layout.rows is None
