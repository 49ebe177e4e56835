"""Control variates made from a quadratic of z, and the identities of Bonnet and Price: exact facts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.measurement.cell import prepare
from bench.measurement.kernel import estimates
from estimators import Expectation, Normal
from estimators.errors import NotApplicable
from estimators.families import MultivariateNormal
from tests.estimators.test_properties import Polynomial, point, polynomial
from tests.estimators.test_quadrature import assert_unbiased, assert_variance
from tests.support import (
    FAMILY_PROBLEMS,
    TEST_FUNCTIONS,
    draws,
    estimate,
    integrated,
    integrated_problem,
    make_cell,
    make_estimator,
)

TAYLOR = tuple(f"taylor[hessian={h}]" for h in ("full", "diagonal", "product", "none"))
QUADRATIC = (*TAYLOR, "price")
BEND = np.asarray([[0.5, 0.2, 0.0], [0.2, -1.0, 0.3], [0.0, 0.3, 2.0]])


@pytest.mark.parametrize("problem", TEST_FUNCTIONS)
@pytest.mark.parametrize("estimator", QUADRATIC)
def test_unbiased(backend: Any, problem: str, estimator: str) -> None:
    found = integrated_problem(backend, problem, estimator, nodes=96)
    assert_unbiased(found, make_cell(problem, estimator).problem.exact().gradient)


@pytest.mark.parametrize("estimator", QUADRATIC)
@pytest.mark.parametrize("problem", [FAMILY_PROBLEMS[0].replace("dim=3", "dim=2"), "cosine[k=1.9,loc=0.45,dim=2]"])
def test_unbiased_in_two_dimensions(backend: Any, problem: str, estimator: str) -> None:
    found = integrated_problem(backend, problem, estimator, nodes=48)
    assert_unbiased(found, make_cell(problem, estimator).problem.exact().gradient)


@pytest.mark.parametrize("estimator", QUADRATIC)
def test_unbiased_where_coordinates_are_coupled(backend: Any, estimator: str) -> None:
    """Against pathwise itself, integrated: cubes, waves and a full Hessian, for both Normals."""
    coefficients = polynomial(2, cube=0.3, wave=0.8, slope=np.asarray([1.0, -2.0]), bend=BEND[:2, :2], turn=TURN)
    both = {Normal(): {"loc": LOC, "log_scale": np.log(SCALE)}, MultivariateNormal(): {"loc": LOC, "cholesky": PACKED}}
    for family, parameters in both.items():
        expectation = Expectation(family, Polynomial(), coefficients)
        plain = integrated(backend, make_estimator("pathwise"), expectation, parameters, 1, dimension=2, nodes=40)
        found = integrated(backend, make_estimator(estimator), expectation, parameters, 1, dimension=2, nodes=40)
        assert_unbiased(found, {name: mean for name, (mean, _, _) in plain.items()})


TURN = np.asarray([[0.8, -0.6], [0.6, 0.8]])
LOC, SCALE = np.asarray([0.31, -0.7]), np.asarray([0.83, 0.6])
PACKED = np.asarray([-0.2, 0.35, -0.5])


@pytest.mark.parametrize("samples", [1, 3])
def test_a_quadratic_is_exact(backend: Any, samples: int) -> None:
    """full: no variance in any block; product: none in loc; price: none in log_scale, and pathwise's in loc."""
    shape = {"bend": BEND, "slope": np.asarray([0.8, -0.3, 1.1])}
    at = point(backend, "taylor[hessian=full]", samples)
    loc = 2.0 * BEND @ at.loc + shape["slope"]
    scale = 2.0 * at.scale**2 * np.diag(BEND)
    full = at(**shape)
    np.testing.assert_allclose(full["loc"], np.tile(loc, (7, 1)), atol=1e-12)
    np.testing.assert_allclose(full["log_scale"], np.tile(scale, (7, 1)), atol=1e-12)
    product = point(backend, "taylor[hessian=product]", samples)(**shape)
    np.testing.assert_allclose(product["loc"], np.tile(loc, (7, 1)), atol=1e-12)
    assert np.ptp(product["log_scale"], axis=0).min() > 0.01
    price, plain = (point(backend, name, samples)(**shape) for name in ("price", "pathwise"))
    np.testing.assert_allclose(price["log_scale"], np.tile(scale, (7, 1)), atol=1e-12)
    np.testing.assert_allclose(price["loc"], plain["loc"], atol=1e-12)


def test_diagonal_is_full_where_the_hessian_is_diagonal(backend: Any) -> None:
    apart, coupled = {"cube": 0.3, "wave": 0.7}, {"cube": 0.3, "bend": BEND}
    one, other = (point(backend, f"taylor[hessian={h}]") for h in ("full", "diagonal"))
    for name, found in one(**apart).items():
        np.testing.assert_allclose(found, other(**apart)[name], atol=1e-11)
        assert np.abs(one(**coupled)[name] - other(**coupled)[name]).max() > 0.01


def test_a_linear_f_leaves_pathwise(backend: Any) -> None:
    """A zero Hessian: ∂loc is the slope, and the gradient at loc alone removes all of ∂log σ's variance."""
    for estimator in QUADRATIC:
        found = point(backend, estimator)(slope=np.asarray([0.8, -3.0, 1.1]))
        np.testing.assert_allclose(found["loc"], np.tile([0.8, -3.0, 1.1], (7, 1)), atol=1e-13)
        np.testing.assert_allclose(found["log_scale"], 0.0, atol=1e-13)


@pytest.mark.parametrize(("loc", "scale"), [(-0.6, 0.83), (2.9, 0.31)])
def test_the_gradient_at_loc_alone(backend: Any, loc: float, scale: float) -> None:
    """f = (z − k)²: pathwise has 4σ² and σ²(4δ² + 8σ²); without a Hessian the first stays and δ leaves the second."""
    found = integrated_problem(backend, f"square[k=1.37,loc={loc},scale={scale}]", "taylor[hessian=none]")
    assert_variance(found, {"loc": 4.0 * scale**2, "log_scale": 8.0 * scale**4})


def variances(problem: str, estimator: str, samples: int = 1, replicates: int = 512) -> dict[str, float]:
    setting = prepare(make_cell(problem, estimator, samples)).setting
    found = estimates(setting, setting.noise(setting.roots("main"), 0, replicates))
    return {name: float(values.var(axis=0, ddof=1).sum()) for name, values in found.items()}


def test_miller_on_real_data() -> None:
    """Miller et al. 2017: at the fitted q of the breast-cancer regression, products with the Hessian cut the variance
    of loc and do little for the scales.

    Measured 5.2 and 0.93 times less, and 5.2 and 3.7 with the Hessian written out, on common random numbers. Far from
    the optimum, at N(0, I), f is no quadratic and the same control variate makes loc worse.
    """
    problem = "logistic-regression[at=fitted]"
    plain, full, product = (variances(problem, e) for e in ("pathwise", TAYLOR[0], TAYLOR[2]))
    assert plain["loc"] / product["loc"] > 3.0
    assert 0.7 < plain["log_scale"] / product["log_scale"] < 1.4
    assert plain["log_scale"] / full["log_scale"] > 2.0
    assert product["loc"] == pytest.approx(full["loc"], rel=1e-9)
    problem = "logistic-regression"
    assert variances(problem, "pathwise")["loc"] < 0.3 * variances(problem, TAYLOR[0])["loc"]


def test_what_is_refused() -> None:
    for problem, estimator, reason in (
        ("polynomial[family=exponential]", "taylor", "taylor needs Bonnet's and Price's identities"),
        ("square[dim=500]", "taylor", "at most 128 coordinates, not 500"),
        ("square[dim=500]", "price", "at most 128 coordinates, not 500"),
    ):
        cell = make_cell(problem, estimator)
        with pytest.raises(NotApplicable, match=reason):
            cell.estimator.check(cell.problem.family, "none", 1, cell.problem.dimension)
    assert make_cell("square[dim=500]", "taylor[hessian=product]").impossible() is None


@pytest.mark.parametrize("samples", [1, 3])
def test_evaluations(samples: int) -> None:
    """A product counts as two gradients; ∇f(loc) as one."""
    expectation = make_cell("square[dim=3]", "taylor").problem.expectation()
    counts = {e: make_estimator(e).evaluations(expectation, samples, 3) for e in QUADRATIC}
    assert counts == dict(
        zip(QUADRATIC, (samples + 7, samples + 7, 3 * samples + 1, samples + 1, 7 * samples), strict=True)
    )


def test_minibatches_have_a_hessian_each(backend: Any) -> None:
    """The linear regression is quadratic whatever its rows: replicates differ by their batch alone."""
    cell = make_cell("linear-regression[loc=-0.23,scale=0.61,batch=7]", "taylor")
    expectation, parameters = cell.problem.expectation(), cell.problem.parameters()
    for samples in (1, 3):
        noise = draws(cell.estimator.noise_specs(expectation, samples, 11), 5)
        other = {**noise, "base": draws(cell.estimator.noise_specs(expectation, samples, 11), 5, seed=1)["base"]}
        one, two = (estimate(backend, cell.estimator, expectation, parameters, n) for n in (noise, other))
        for name, found in one.items():
            np.testing.assert_allclose(found, two[name], rtol=1e-11, atol=1e-9)
            assert np.ptp(found, axis=0)[:-1].min() > 0.1  # the last column of the design is constant
