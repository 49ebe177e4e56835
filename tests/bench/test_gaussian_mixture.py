"""The Gaussian mixture's likelihood: Fisher's identity, θ beside λ in every estimate, EM at its maximum."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.fit.command import make_method
from gradmeter.bench.fit.components import mixture
from gradmeter.bench.fit.run import Fit, Plan, Watcher, run
from gradmeter.estimators import Expectation, NotApplicable, UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.mixture import marginal_gradient
from tests.parity import Case
from tests.support import draws, estimate, make_cell, measured, needs

NAME = "gaussian-mixture"
#: Three choices of two: three numbers of noise a sample, integrated between their jumps.
SMALL = f"{NAME}[dataset=synthetic,size=3,components=2,responsibilities=uniform]"
LARGER = (f"{NAME}[batch=7]", f"{NAME}[dataset=wine,dim=3,components=2,responsibilities=uniform,entropy=analytic]")
THETA = ("means", "log_scales", "weight_logits")


@pytest.mark.parametrize("at", ["start", "em"])
def test_the_posterior_gives_the_likelihood_and_its_gradient(at: str) -> None:
    problem = make_problem(f"{NAME}[at={at},dim=3,dataset=wine]")
    parameters, exact = problem.parameters(), problem.exact()
    assert exact is not None
    value, gradient = marginal_gradient(problem.points(), *(parameters[n] for n in THETA))  # type: ignore[attr-defined]
    assert exact.objective == pytest.approx(value, rel=1e-13)
    for name in THETA:
        size = max(1.0, np.abs(gradient[name]).max())
        np.testing.assert_allclose(exact.gradient[name], gradient[name], rtol=0.0, atol=1e-11 * size)
        assert at == "start" or np.abs(gradient[name]).max() < 1e-8
    np.testing.assert_allclose(exact.gradient["logits"], 0.0, atol=1e-12)
    other = make_problem(f"{NAME}[at={at},dim=3,dataset=wine,responsibilities=uniform]").exact()
    assert other is not None
    assert other.objective is not None
    assert other.objective < value


def test_the_exact_gradient_is_that_of_the_elbo() -> None:
    """Against central differences of the closed-form ELBO, at a q that is no posterior."""
    problem = make_problem(SMALL)
    generator = np.random.default_rng(0)
    at = {name: a + 0.3 * generator.normal(size=a.shape) for name, a in problem.parameters().items()}
    exact = problem.exact_at(at)
    assert exact is not None
    for name, values in at.items():
        for index in np.ndindex(values.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = {**at, name: values.copy()}
                moved[name][index] += step
                found = problem.exact_at(moved)
                assert found is not None
                assert found.objective is not None
                ends.append(found.objective)
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(exact.gradient[name][index], abs=1e-7)


@pytest.mark.parametrize(
    "estimator", ["score-function", "score-function[draws=antithetic]", "muprop", "enumeration", "partial-summation"]
)
def test_every_block_is_unbiased_by_integration(estimator: str) -> None:
    rows = measured(make_cell(SMALL, estimator, precision=1.0))
    assert list(rows) == ["logits", *THETA, "all"]
    assert {row["certificate"] for row in rows.values()} == {"integration"}
    for name, row in rows.items():  # at the fitted point some gradients are 0, and some estimate them without variance
        below = row["reason"] == "gradient and deviation are below rounding"
        assert row["verdict"] == ("inconclusive" if below else "unbiased")
        assert not below or name in ("logits", "weight_logits")
    assert rows["all"]["bias_bound"] < 1e-10


@pytest.mark.parametrize("estimator", ["rebar", "score-function[draws=sobol]"])
def test_samples_made_in_other_ways(estimator: str) -> None:
    """θ is averaged over rounded relaxed samples, or those of a net; z above 5 once in a million runs a block."""
    rows = measured(make_cell(SMALL, estimator, precision=1.0, max_replicates=2**14))
    assert all(abs(row["bias_z"]) < 5.0 for row in rows.values())
    assert all(rows[name]["mean_norm"] > 0.5 for name in THETA[:2])


@pytest.mark.parametrize("problem", [LARGER[0], pytest.param(LARGER[1], marks=pytest.mark.slow)])
def test_backends_agree(differentiating: Backend, problem: str) -> None:
    case = Case(problem, "score-function[baseline=leave-one-out]", 3)
    case.check(case.on(differentiating), 1e-12)


@pytest.mark.parametrize("problem", LARGER)
@pytest.mark.parametrize("samples", [1, 3])
def test_closed_forms(problem: str, samples: int) -> None:
    """In z and θ, against automatic differentiation."""
    needs("torch")
    backend = get("torch")
    made = make_problem(problem)
    whole = made.expectation()
    noise = draws(make_estimator("score-function").noise_specs(whole, samples, made.dimension), 5)
    put = {k: backend.asarray(a, None if a.dtype.kind == "i" else "float64") for k, a in noise.items()}
    on_device = whole.bind({k: backend.asarray(a, "float64") for k, a in whole.data.items()})
    bound, own = on_device.at({k: backend.asarray(a, "float64") for k, a in made.parameters().items()})
    automatic = Expectation(bound.family, bound.integrand, bound.data, bound.entropy, "autodiff")
    z = bound.family.sample(backend, own, put)
    cotangent = z[..., 0] + 0.5
    closed, expected = (
        {"z": e.integrand_gradient(backend, z, put), **e.explicit_pullback(backend, z, cotangent, put)}
        for e in (bound, automatic)
    )
    for name, values in expected.items():
        np.testing.assert_allclose(closed[name], values, rtol=0.0, atol=1e-11 * float(abs(values).max()))


def test_minibatches_average_to_the_whole(numpy_backend: Backend) -> None:
    batched, full = (make_problem(f"{NAME}[{more}entropy=analytic]") for more in ("batch=1,", ""))
    made, parameters = make_estimator("score-function"), full.parameters()
    one = draws(made.noise_specs(full.expectation(), 2, full.dimension), 1)
    noise = {**{k: np.repeat(a, 150, axis=0) for k, a in one.items()}, "rows": np.arange(150)[:, None]}
    every = estimate(numpy_backend, made, batched.expectation(), parameters, noise)
    whole = estimate(numpy_backend, made, full.expectation(), parameters, one)
    for block, values in every.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(values.mean(axis=0), whole[block][0], rtol=0.0, atol=1e-11 * size, err_msg=block)


def test_em_as_a_method() -> None:
    plan = Plan(make_problem(NAME), make_method("em"), steps=3000, replicates=0)
    fit = Fit(plan)
    run(plan, fit, Watcher())
    assert fit.failed is None
    assert fit.rows[0]["objective"] == pytest.approx(make_problem(NAME).exact().objective)  # type: ignore[union-attr]
    assert min(np.diff([row["objective"] for row in fit.rows])) > -1e-10
    assert fit.rows[-1]["iteration"] < 3000
    assert fit.rows[-1]["gradient_norm"] < 1e-7
    assert set(fit.parameters) == {"logits", *THETA}
    drawn = mixture(plan.problem, fit.parameters)
    assert drawn is not None
    np.testing.assert_allclose(drawn.weights.sum(), 1.0)
    np.testing.assert_array_equal(drawn.means, fit.parameters["means"])
    with pytest.raises(NotApplicable, match="em is for problem gaussian-mixture, not for square"):
        make_method("em").check(make_problem("square"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("components=151", "151 components need at least as many points; there are 150"),
        ("batch=151", "batch is 151; there are 150 rows"),
        ("components=1", "it must be a whole number, at least 2"),
    ],
)
def test_refused(options: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        make_problem(f"{NAME}[{options}]")
