"""A mixture's implicit path and its stratified estimator, by integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families import MixtureOfNormals
from tests.estimators import laws
from tests.support import draws, integrated_problem, make_cell

LAMBDA = {
    "loc": np.asarray([[-1.1, 0.4], [0.8, -0.7], [0.3, 1.6]]),
    "log_scale": np.log([[0.7, 1.1], [0.9, 0.6], [1.3, 0.8]]),
    "logits": np.asarray([0.2, -0.4, 0.7]),
}
FAMILY = MixtureOfNormals(3)


def test_implicit_path_in_one_dimension(backend: Backend) -> None:
    """−(∂F/∂λ)/q(z), into both tails."""
    p = {name: a if name == "logits" else a[:, :1] for name, a in LAMBDA.items()}
    z = np.linspace(-6.0, 7.0, 27)[:, None]
    on = {name: backend.asarray(a, "float64") for name, a in p.items()}
    at = backend.asarray(z, "float64")
    found = FAMILY.pathwise(backend, on, {}, at, backend.xp.ones_like(at))
    weights, scale = np.exp(p["logits"]) / np.exp(p["logits"]).sum(), np.exp(p["log_scale"][:, 0])
    law = stats.norm(p["loc"][:, 0], scale)
    q, pdf = np.exp(laws.mixture(p, z))[:, None], law.pdf(z)
    tail = np.where(z < 0.0, 1.0, -1.0) * np.where(z < 0.0, law.cdf(z), law.sf(z))  # F, or F − 1
    expected = {
        "loc": weights * pdf / q,
        "log_scale": weights * pdf * (z - p["loc"][:, 0]) / q,
        "logits": -weights * (tail - tail @ weights[:, None]) / q,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(backend.to_numpy(found[name]).reshape(27, 3), values, rtol=1e-10, atol=1e-13)


def test_implicit_path_in_two_dimensions(numpy_backend: Backend) -> None:
    """E[∇f · ∂z/∂λ] is ∇ E f, also where f joins the coordinates; ∇ E f by the score, on the same grid."""
    z, weights = laws.grid("mixture-of-normals", LAMBDA)
    kept = weights > 1e-22
    z, weights = z[kept], weights[kept]
    x, y = z[:, 0], z[:, 1]
    score = FAMILY.score(numpy_backend, LAMBDA, z)
    for value, slope in (
        (x**2 * y, np.stack([2.0 * x * y, x**2], axis=-1)),
        (np.cos(x - 2.0 * y), np.stack([-np.sin(x - 2.0 * y), 2.0 * np.sin(x - 2.0 * y)], axis=-1)),
        (x**3 + y**3, 3.0 * z**2),
    ):
        path = FAMILY.pathwise(numpy_backend, LAMBDA, {}, z, slope)
        for name in path:
            expected = np.tensordot(weights * value, score[name], 1)
            np.testing.assert_allclose(np.tensordot(weights, path[name], 1), expected, rtol=0.0, atol=1e-10)


def test_components_as_often_as_probable(backend: Backend) -> None:
    noise = draws(FAMILY.noise((), 2), 20_000)
    on, drawn = ({k: backend.asarray(a, "float64") for k, a in d.items()} for d in (LAMBDA, noise))
    z = backend.to_numpy(FAMILY.sample(backend, on, drawn))
    weights = np.exp(LAMBDA["logits"]) / np.exp(LAMBDA["logits"]).sum()
    expected = LAMBDA["loc"][None] + np.exp(LAMBDA["log_scale"]) * noise["base"][:, None, :]
    which = np.argmin(np.abs(expected - z[:, None, :]).sum(axis=-1), axis=1)
    np.testing.assert_allclose(expected[np.arange(len(z)), which], z, rtol=1e-12)
    np.testing.assert_array_equal(which, np.searchsorted(np.cumsum(weights), noise["component"][:, 0], side="right"))


@pytest.mark.parametrize("dimension", [1, 2])
def test_stratified(backend: Backend, dimension: int) -> None:
    q = "family=mixture-of-normals,components=3,weights=1:5:2,loc=0.4,scale=0.8"
    problem = f"polynomial[{q},degree=3,dim={dimension}]"
    exact = make_cell(problem, "stratified-pathwise").problem.exact()
    for block, (mean, _, size) in integrated_problem(backend, problem, "stratified-pathwise", nodes=12).items():
        np.testing.assert_allclose(mean, exact.gradient[block], rtol=0.0, atol=1e-12 * max(1.0, size.max()))
