"""Models from log densities: bundled problems written as a person would, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.problems import rqmc
from gradmeter.bench.problems.log_density import arrays_of
from gradmeter.bench.problems.posteriors.eight_schools import EFFECTS, ERRORS
from gradmeter.bench.problems.regression.datasets import load
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from tests.support import Blocks, draws, estimate, needs

LOG_2PI = float(np.log(2.0 * np.pi))
ETA = np.linspace(-0.4, 0.6, 8)
SCHOOLS = "eight-schools[parameterisation=non-centred,loc=0.2,scale=0.3"


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """References take few points."""
    monkeypatch.setattr(rqmc, "POINTS", 2**9)


def namespace(framework: str) -> Any:
    needs(framework)
    get(framework)  # float64
    if framework == "jax":
        import jax.numpy as jnp

        return jnp
    import torch

    return torch


def schools(framework: str, **more: Any) -> Any:
    """The eight schools with τ itself, whose logarithm is a coordinate of the bundled problem."""
    xp = namespace(framework)

    def log_density(p: Any, data: Any) -> Any:
        mean = p["mu"] + p["tau"] * p["eta"]
        prior = -0.5 * (p["mu"] / 5.0) ** 2 - 0.5 * xp.sum(p["eta"] ** 2) - xp.log(1.0 + (p["tau"] / 5.0) ** 2)
        return prior - 0.5 * xp.sum(((data["y"] - mean) / data["sigma"]) ** 2)

    at = {"mu": 0.2, "tau": float(np.exp(0.2)), "eta": np.full(8, 0.2)}
    data = {"y": EFFECTS, "sigma": ERRORS}
    given = {"framework": framework, "supports": {"tau": "positive"}, "scale": 0.3, **more}
    return gradmeter.density_model(log_density, at, data, **given)


def regression(framework: str, **more: Any) -> Any:
    """The bundled logistic regression, as a prior and the likelihood of a row."""
    xp = namespace(framework)

    def log_prior(p: Any) -> Any:
        return -0.5 * xp.sum(p["w"] ** 2) - 15.5 * LOG_2PI

    def log_likelihood(p: Any, row: Any) -> Any:
        predictor = xp.sum(row["x"] * p["w"])
        return row["y"] * predictor - xp.logaddexp(predictor, 0.0 * predictor)

    x, y = load("breast_cancer", False)
    at = {"w": np.full(31, 0.1)}
    return gradmeter.density_model(
        (log_prior, log_likelihood), at, {"x": x, "y": y}, framework=framework, scale=0.5, **more
    )


def close_to(model: Any, text: str, estimator: str, samples: int) -> None:
    """The estimates of a model are those of a bundled problem, from the same noise."""
    problem, made = make_problem(text), make_estimator(estimator)
    noise = draws(made.noise_specs(problem.expectation(), samples, problem.dimension), 3)
    expected = estimate(get("numpy"), made, problem.expectation(), problem.parameters(), noise)
    backend = get(model.framework)
    found = estimate(backend, made, model.expectation(), model.parameters(), noise, compiled=model.framework == "jax")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0.0, atol=1e-12 * np.abs(values).max(), err_msg=name)


def within(found: Any, expected: Blocks) -> None:
    assert found.source == "rqmc"
    for name, g in expected.items():
        assert np.all(np.abs(found.gradient[name] - g) <= found.errors[name]), name


@pytest.mark.parametrize("framework", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("full_rank", [False, True])
def test_a_bijection_gives_the_bundled_problem(
    framework: str, full_rank: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqmc, "POINTS", 2**9)
    model, family = schools(framework, full_rank=full_rank), "multivariate-normal" if full_rank else "normal"
    text = f"{SCHOOLS},family={family}]"
    close_to(model, text, "pathwise", 2)
    exact: Any = make_problem(text).exact()
    within(model.exact(), exact.gradient)


def test_many_coordinates_have_a_reference_without_their_hessian(brief: None, monkeypatch: pytest.MonkeyPatch) -> None:
    exact: Any = make_problem(f"{SCHOOLS}]").exact()
    with_it = schools("torch").exact()
    monkeypatch.setattr(rqmc, "MOST_BENT", 9)
    without = replace(schools("torch"), name="without").exact()
    within(without, exact.gradient)
    assert without.error > with_it.error


@pytest.mark.parametrize("framework", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("batch", [None, 7])
def test_rows_give_the_bundled_regression(framework: str, batch: int | None) -> None:
    model = regression(framework, batch=batch)
    text = "logistic-regression[loc=0.1,scale=0.5" + (f",batch={batch}]" if batch else "]")
    close_to(model, text, "score-function[baseline=leave-one-out]", 3)
    close_to(model, text, "pathwise", 2)


def test_a_factor_is_that_of_a_correlated_q() -> None:
    q = np.linalg.cholesky(0.25 * (0.7 * np.eye(31) + 0.3))
    model = replace(regression("torch"), log_scale=None, scale_tril=q)
    close_to(model, "logistic-regression[family=multivariate-normal,loc=0.1,scale=0.5,correlation=0.3]", "pathwise", 2)


@pytest.mark.slow
def test_the_reference_of_a_regression_with_minibatches(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of all rows."""
    monkeypatch.setattr(rqmc, "POINTS", 2**9)
    within(
        regression("torch", batch=7).exact(), make_problem("logistic-regression[loc=0.1,scale=0.5]").exact().gradient
    )


def varying(framework: str, pair: bool, **more: Any) -> Any:
    """A mean of its own for every row."""
    xp = namespace(framework)

    def prior(p: Any) -> Any:
        return -0.5 * p["mu"] ** 2 - 0.5 * p["tau"]

    def rows(p: Any, data: Any) -> Any:
        own = -0.5 * (p["a"] - p["mu"]) ** 2 / p["tau"] - 0.5 * xp.log(p["tau"])
        return own - 0.5 * data["n"] * (data["y"] - p["a"]) ** 2

    def whole(p: Any, data: Any) -> Any:
        return prior(p) + xp.sum(rows(p, data))

    at = {"mu": 0.3, "tau": 2.0, "a": np.linspace(-1.0, 1.0, 6)}
    data = {"y": np.linspace(1.0, -2.0, 6), "n": np.arange(6)}
    given = {"framework": framework, "supports": {"tau": "positive"}, **more}
    return gradmeter.density_model((prior, rows) if pair else whole, at, data, **given)


@pytest.mark.parametrize("framework", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_minibatches_with_local_latents_have_the_mean_of_the_whole(framework: str) -> None:
    """The mean over all minibatches of two rows is the estimate of the whole, from the same noise of z."""
    import itertools

    whole, parts = varying(framework, False), varying(framework, True, local=["a"], batch=2)
    made = make_estimator("pathwise")
    pairs = np.asarray(list(itertools.combinations(range(6), 2)))
    base = np.random.default_rng(0).standard_normal((1, 2, 8))
    expected = estimate(get(framework), made, whole.expectation(), whole.parameters(), {"base": base})
    noise = {"base": np.broadcast_to(base, (15, 2, 8)).copy(), "rows": pairs}
    found = estimate(get(framework), made, parts.expectation(), parts.parameters(), noise)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].mean(axis=0), values[0], rtol=1e-11, err_msg=name)


def test_a_jump_is_found_by_the_score_function(brief: None) -> None:
    """E 1[z_1 > 0] of z ~ N(0.3, 0.5²): the pathwise gradient is 0, the true one the density at 0."""
    torch = namespace("torch")
    exact = normal_in_torch(
        lambda theta, z: torch.where(z[:, 0] > 0.0, 1.0, 0.0).to(z.dtype) + 0.0 * z.sum(dim=1),
        loc=np.full(3, 0.3),
        entropy="none",
    ).exact()
    density = np.exp(-0.5 * 0.6**2) / (0.5 * np.sqrt(2.0 * np.pi))
    within(exact, {"loc": np.asarray([density, 0.0, 0.0]), "log_scale": np.asarray([-0.3 * density, 0.0, 0.0])})
    assert exact.error < 0.1


def normal_in_torch(f: Any, **more: Any) -> Any:
    """A model of three coordinates, N(0.4, 0.5²) each."""
    needs("torch")
    at = {"loc": np.full(3, 0.4), "log_scale": np.full(3, np.log(0.5))}
    return gradmeter.Model("own", f, **{"theta": {}, "latent": 3, "framework": "torch", **at, **more})


def test_the_reference_of_a_models_own_parameters(brief: None) -> None:
    """f = −Σ (z − θ)⁴: ∂θ E f = 4 E (z − θ)³ = 4 ((loc − θ)³ + 3 (loc − θ) σ²)."""
    torch = namespace("torch")
    theta = torch.tensor([0.1, -0.7, 0.4], dtype=torch.float64)
    model = normal_in_torch(lambda theta, z: -((z - theta["at"]) ** 4).sum(dim=1), theta={"at": theta}, entropy="none")
    away = 0.4 - theta.numpy()
    slope = 4.0 * (away**3 + 3.0 * away * 0.25)
    curved = -0.25 * 12.0 * (away**2 + 0.25)
    within(model.exact(), {"model.at": slope, "loc": -slope, "log_scale": curved})


def test_no_reference_where_there_can_be_none(brief: None) -> None:
    """A bound is no mean of f, and log z is NaN at some draws."""
    assert normal_in_torch(lambda theta, z: -(z**2).sum(dim=1), importance_samples=3).exact() is None
    assert normal_in_torch(lambda theta, z: z.log().sum(dim=1)).exact() is None


def test_a_trusted_f() -> None:
    model, torch = schools("torch"), namespace("torch")
    right = model.log_joint.log_density

    assert "agree at 16 draws of q, up to the constant 7;" in model.check_against(lambda p, data: right(p, data) - 7.0)
    with pytest.raises(UsageError, match=r"model log-density: f and the trusted f differ: the derivative in the uncon"):
        model.check_against(lambda p, data: right(p, data) + torch.log(p["tau"]))
    with pytest.raises(UsageError, match=r"the unconstrained eta\[3\] is .*, and should be .*, at mu = "):
        model.check_against(lambda p, data: right(p, data) + 1e-3 * p["eta"][3])
    with pytest.raises(UsageError, match=r"differ by -1 at mu = .*, and by 0 at mu = .*: not by a constant"):
        model.check_against(lambda p, data: right(p, data) + torch.where(p["mu"] > 0.3, 1.0, 0.0))
    with pytest.raises(UsageError, match="must be a function, or a pair, as that of the model is"):
        model.check_against((right, right))


def test_a_data_frame_becomes_its_columns() -> None:
    import pandas as pd

    found = arrays_of(pd.DataFrame({"x": [1.5, 2.0], "group": [0, 1], "treated": [True, False]}))
    assert {name: a.dtype.kind for name, a in found.items()} == {"x": "f", "group": "i", "treated": "f"}
    with pytest.raises(UsageError, match="column sex holds text, not numbers; leave it out, or encode"):
        arrays_of(pd.DataFrame({"sex": ["f", "m"]}))
    with pytest.raises(UsageError, match="column x holds NaN or infinite values"):
        arrays_of(pd.DataFrame({"x": [1.0, None]}))


def _sum(p: Any, *data: Any) -> Any:
    return -(p["w"] ** 2).sum()


@pytest.mark.parametrize(
    ("log_density", "parameters", "more", "message"),
    [
        (
            lambda p: -(p["w"] ** 2),
            {"w": [1.0, 2.0]},
            {},
            "log_density returned an array of shape (2,); it must return",
        ),
        (lambda p: p["w"].log().sum(), {"w": -1.0}, {}, "the log density is nan at the given parameters"),
        (_sum, {"w": np.nan}, {}, "parameter w is not finite"),
        (_sum, {"w": "a"}, {}, "parameter w is 'a'; it must be an array or a number"),
        (_sum, {}, {}, "parameters is {}; it must be a dict of arrays or numbers by name"),
        (_sum, {"w": 1.0}, {"scale": 0.0}, "scale of w must be positive and finite"),
        (_sum, {"w": 1.0}, {"scale": np.eye(2)}, "scale is a matrix; with full_rank=True it must be lower triangular"),
        (_sum, {"w": 1.0}, {"batch": 2}, "batch needs log_density as a pair"),
        ((_sum, _sum), {"w": 1.0}, {}, "log_likelihood is a function of (parameters, row); give data=..."),
        ((_sum, 3), {"w": 1.0}, {}, "log_density is "),
        ((_sum, _sum), {"w": 1.0}, {"data": {"x": [1.0, 2.0], "y": [1.0]}}, "every array of data, and every local"),
        ((_sum, _sum), {"w": 1.0}, {"data": {"x": np.ones(2)}, "local": ["u"]}, "unknown local: parameter 'u'"),
    ],
)
def test_what_is_refused(log_density: Any, parameters: Any, more: Any, message: str) -> None:
    needs("torch")
    with pytest.raises(UsageError) as error:
        gradmeter.density_model(log_density, parameters, framework="torch", **more)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
