"""Gradient methods: where they arrive, on every backend; what a step depends on; what it counts; what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.fit.gradient import GradientMethod
from gradmeter.bench.fit.objective import objective
from gradmeter.bench.fit.recipe import Gradient
from gradmeter.bench.fit.run import Fit, Plan, Watcher, run
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.optimisation.optimisers import make_optimiser
from gradmeter.bench.problems import PROBLEMS
from gradmeter.bench.problems.test_functions import Cosine
from gradmeter.estimators import Normal

REGRESSION = "linear-regression[scale=0.1]"
STEPS = 1000
#: How far below the exact maximum the ELBO may be after that many steps of 10 samples, in nats; it starts 450 below.
ARRIVED = 0.25
OPTIMISERS = ("adam[rate=0.02,delay=300,forgetting=0.6]", "natural[rate=0.2]")


def method(problem: str, estimator: str, optimiser: str = "adam", samples: int = 10, **more: Any) -> GradientMethod:
    recipe = Gradient(make_estimator(estimator), make_optimiser(optimiser), samples, **more)
    made = make_problem(problem)
    recipe.check(made)
    prepared = recipe.prepare(made, 0)
    assert isinstance(prepared, GradientMethod)
    return prepared


def walked(fit: GradientMethod, steps: int, state: Vectors | None = None, after: int = 0) -> Vectors:
    state = fit.initial() if state is None else state
    for t in range(after + 1, after + steps + 1):
        state = fit.step(state, t)
    return state


@pytest.fixture(scope="module")
def on_numpy() -> dict[str, Vectors]:
    """Where NumPy arrives on shared noise, which is its own."""
    fits = {o: method(REGRESSION, "pathwise", o, noise="shared") for o in OPTIMISERS}
    return {o: fit.parameters(walked(fit, STEPS)) for o, fit in fits.items()}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_reaches_the_exact_optimum_of_a_regression(
    optimiser: str, backend_name: str, on_numpy: dict[str, Vectors]
) -> None:
    fit = method(REGRESSION, "pathwise", optimiser, backend=backend_name, noise="shared")
    found = fit.parameters(walked(fit, STEPS))
    for name, values in on_numpy[optimiser].items():
        np.testing.assert_allclose(found[name], values, rtol=0.0, atol=1e-10)
    problem: Any = fit.cell.problem
    data = problem.expectation().data
    precision = data["design"].T @ data["design"] + np.eye(problem.dimension)
    best = {
        "loc": np.linalg.solve(precision, data["design"].T @ data["response"]),
        "log_scale": -0.5 * np.log(np.diag(precision)),
    }
    below = problem.exact_at(best).objective - problem.exact_at(found).objective
    assert 0.0 < below < ARRIVED
    np.testing.assert_allclose(found["log_scale"], best["log_scale"], atol=0.1)


@pytest.mark.parametrize(
    ("estimator", "optimiser"), [("score-function[baseline=mean]", "natural"), ("pathwise", "sgd")]
)
def test_steps_on_minibatches_are_the_same_on_every_backend(estimator: str, optimiser: str, backend_name: str) -> None:
    """On shared noise; what an estimator learns, and learns anew, too."""
    settings: dict[str, Any] = {"samples": 2, "noise": "shared", "refit": 3}
    fits = [
        method("logistic-regression[batch=32]", estimator, optimiser, backend=b, **settings)
        for b in ("numpy", backend_name)
    ]
    ours, theirs = (fit.parameters(walked(fit, 6)) for fit in fits)
    begun = fits[0].cell.problem.parameters()
    for name, values in ours.items():
        assert np.abs(values - begun[name]).max() > 1e-3
        np.testing.assert_allclose(theirs[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("estimator", ["pathwise", "score-function[baseline=optimal]"])
def test_a_step_depends_on_state_and_iteration_alone(estimator: str) -> None:
    """Going on from a state in another object is going on: the optimiser's and the estimator's memory are in it."""
    one, other = (method("logistic-regression[scale=0.2]", estimator, samples=4, refit=7) for _ in range(2))
    half = walked(one, 10)
    whole, resumed = walked(one, 10, half, after=10), walked(other, 10, half, after=10)
    assert whole.keys() == resumed.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name])
    assert any(np.any(whole[name] != half[name]) for name in whole)


def test_a_state_learnt_is_learnt_again_and_paid_for() -> None:
    fit = method("logistic-regression[scale=0.2]", "score-function[baseline=mean]", samples=4, refit=7)
    states = [fit.initial()]
    for t in range(1, 16):
        states.append(fit.step(states[-1], t))
    learnt = [float(state["estimator.baseline"]) for state in states]
    assert [t for t in range(1, 16) if learnt[t] != learnt[t - 1]] == [8, 15]
    warm_up = 256 * 4
    assert [fit.spent(t) for t in (0, 1, 7, 8, 14, 15)] == [
        warm_up * refits + 4 * t for t, refits in ((0, 1), (1, 1), (7, 1), (8, 2), (14, 2), (15, 3))
    ]
    known_nothing = method("logistic-regression[scale=0.2]", "pathwise", samples=4)
    known_nothing.initial()
    assert known_nothing.spent(5) == 20


def test_a_minibatch_counts_for_its_share() -> None:
    fit = method("linear-regression[batch=17]", "pathwise", samples=3)
    fit.initial()
    assert fit.spent(100) == pytest.approx(100 * 3 * 17 / 442)
    assert method("linear-regression", "taylor[hessian=diagonal]", samples=3).evaluations > 3


def test_every_step_has_noise_of_its_own_and_estimators_share_it() -> None:
    problem = "square[k=0.3,dim=2]"

    def estimate(fit: GradientMethod, t: int) -> Vectors:
        """A step of 1 from loc 0 and log σ 0 ends at the estimate."""
        return fit.parameters(fit.step(fit.initial(), t))

    following = "sgd[rate=1,forgetting=0]"
    fit = method(problem, "pathwise", following, samples=2)
    found = [estimate(fit, t) for t in (1, 2, 1)]
    np.testing.assert_array_equal(found[0]["loc"], found[2]["loc"])
    assert np.all(found[0]["loc"] != found[1]["loc"])
    # ∂loc of (z − k)² is 2(z − k), and leave-one-out of two samples ½(f₁ − f₂)(s₁ − s₂): the same z make both.
    z = fit.setting.noise(fit.setting.roots("fit"), 1, 1)["base"][0]
    np.testing.assert_allclose(found[0]["loc"], np.mean(2.0 * (z - 0.3), axis=0), rtol=1e-14)
    score = estimate(method(problem, "score-function[baseline=leave-one-out]", following, samples=2), 1)
    f = np.sum((z - 0.3) ** 2, axis=1)
    np.testing.assert_allclose(score["loc"], 0.5 * (f[0] - f[1]) * (z[0] - z[1]), rtol=1e-12)


def test_variance_along_the_path_is_that_of_the_estimator_there(backend_name: str) -> None:
    """Pathwise on (z − k)² in 1-D: 4σ²/S and, for log σ, (4δ² + 8σ²) σ²/S, at any λ; 1e-5 is the chance to fail."""
    fit = method("square[k=0.5]", "pathwise", samples=4, backend=backend_name)
    begun = fit.to_host(fit.initial())
    state = fit.to_device({**begun, "λ.loc": np.array([1.7]), "λ.log_scale": np.array([-0.4])})
    found = fit.diagnose(state, 9, 2**14)
    variance = np.exp(-0.8)
    exact = {"loc": 4.0 * variance / 4.0, "log_scale": (4.0 * 1.2**2 + 8.0 * variance) * variance / 4.0}
    assert found["replicates"] == 2**14
    for name, expected in exact.items():  # kurtosis of these is at most 15
        assert found["variances"][name] == pytest.approx(expected, rel=4.5 * np.sqrt(14.0 / 2**14))
    assert found["variance"] == pytest.approx(sum(found["variances"].values()), rel=1e-12)
    assert found["variance_low"] < found["variance"] < found["variance_high"]


def test_objectives_are_whole_elbos() -> None:
    """However the entropy enters the gradient, and in any precision of it."""
    problems = [make_problem(f"logistic-regression[scale=0.2,entropy={e}]") for e in ("sampled", "analytic")]
    found = [objective(p, p.parameters()) for p in problems]
    assert found[0] == found[1]
    assert found[0].source == "quadrature"


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_can_be_fitted(name: str) -> None:
    """By values of f alone, two samples; it begins at the problem's λ and leaves it in every block."""
    problem = make_problem(name)
    recipe = Gradient(make_estimator("score-function[baseline=leave-one-out]"), make_optimiser("adam[rate=1e-3]"), 2)
    found = Fit(Plan(problem, recipe, steps=2, replicates=64))
    run(found.plan, found, Watcher())
    assert [r["status"] for r in found.rows] == ["ok"] * 3, found.rows[-1]["reason"]
    exact = problem.exact()
    if exact is not None and exact.objective is not None:
        assert found.rows[0]["objective"] == pytest.approx(exact.objective, rel=1e-12)
        assert found.rows[0]["gradient_norm"] == pytest.approx(
            np.sqrt(sum(np.sum(g * g) for g in exact.gradient.values())), rel=1e-12
        )
    begun = problem.parameters()
    assert found.parameters.keys() == begun.keys() == found.rows[-1]["variances"].keys()
    for block, values in found.parameters.items():
        assert 0.0 < np.abs(values - begun[block]).max() < 3e-3


class Unknown(Cosine):
    """A problem that does not know its objective."""

    def exact_at(self, parameters: Vectors) -> None:
        return None


def test_an_objective_that_is_not_known_is_estimated() -> None:
    """E Σ cos(kz) is Σ cos(k loc) exp(−k²s²/2); six standard errors: 2e-9 to fail."""
    problem = Unknown(k=1.3, q=Normal.Config(loc=0.4, scale=0.8), dim=3)
    found = objective(problem, problem.parameters())
    assert found.source == "sampling"
    assert found.standard_error is not None
    exact = 3.0 * np.cos(1.3 * 0.4) * np.exp(-0.5 * (1.3 * 0.8) ** 2)
    assert found.value == pytest.approx(exact, abs=6.0 * found.standard_error)
    assert 0.0 < found.standard_error < 0.05
    assert objective(problem, problem.parameters()) == found
