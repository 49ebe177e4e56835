"""Importance-weighted bounds: K = 1 is the ELBO, identities between the estimators, parity, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.estimators import BOUNDS, Expectation, Normal, UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.vimco import others_sum
from tests.parity import Case
from tests.support import Blocks, draws, estimate, integrated_problem, make_cell

BOUND = "linear-gaussian[importance-samples=3,dim=4,perturbation=0.4]"
SMALL = "linear-gaussian[importance-samples=2,dim=1,perturbation=0.4]"
ELBO = "linear-gaussian[dim=4,perturbation=0.4]"
ALL = (*BOUNDS, "iwae-stl", "injected-squared-model-weights")


def estimates(problem: str, estimator: str, samples: int, noise: Blocks | None = None) -> Blocks:
    cell = make_cell(problem, estimator, samples)
    expectation = cell.problem.expectation()
    if noise is None:
        noise = draws(cell.estimator.noise_specs(expectation, samples, cell.problem.dimension), 7)
    return estimate(get("numpy"), cell.estimator, expectation, cell.problem.parameters(), noise)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("bound", "elbo"),
    [
        ("iwae", "pathwise"),
        ("iwae-stl", "pathwise[sticking-the-landing=true]"),
        ("dreg", "pathwise[sticking-the-landing=true]"),
    ],
)
def test_one_importance_sample_is_the_elbo(bound: str, elbo: str, samples: int) -> None:
    """All blocks, the model's among them, estimate by estimate."""
    found, expected = estimates(ELBO, bound, samples), estimates(ELBO, elbo, samples)
    assert found.keys() == expected.keys() == {"loc", "log_scale", "prior_mean"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-13, atol=1e-13)


def test_one_importance_sample_is_the_score_function() -> None:
    """Less ∂f/∂λ at fixed z, which `score-function` leaves out since its expectation is 0."""
    problem = make_problem(ELBO)
    specs = make_estimator("vimco").noise_specs(problem.expectation(), 1, 4)
    noise = draws(specs, 7)
    found, plain = (estimates(ELBO, e, 1, noise) for e in ("vimco", "score-function"))
    backend, at = get("numpy"), problem.parameters()
    z = Normal().sample(backend, at, noise)
    for name, score in Normal().score(backend, at, z).items():
        np.testing.assert_allclose(found[name], plain[name] - score[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ALL)
def test_groups_are_averaged(estimator: str) -> None:
    """S groups of K samples: the mean of S estimates of one group each."""
    whole = make_estimator(estimator).noise_specs(make_problem(BOUND).expectation(), 5, 4)
    assert whole["base"].shape == (15, 4)
    noise = draws(whole, 7)
    found = estimates(BOUND, estimator, 5, noise)
    parts = [estimates(BOUND, estimator, 1, {"base": noise["base"][:, 3 * s : 3 * s + 3]}) for s in range(5)]
    for name, values in found.items():
        np.testing.assert_allclose(values, sum(p[name] for p in parts) / 5, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("estimator", ALL)
def test_the_order_of_samples_does_not_matter(estimator: str) -> None:
    noise = draws(make_estimator(estimator).noise_specs(make_problem(BOUND).expectation(), 1, 4), 7)
    found = estimates(BOUND, estimator, 1, noise)
    for name, values in estimates(BOUND, estimator, 1, {"base": noise["base"][:, ::-1]}).items():
        np.testing.assert_allclose(values, found[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("estimator", ["dreg", "vimco", "vimco[baseline=arithmetic]", "vimco[baseline=none]"])
def test_all_have_the_expectation_of_iwae(numpy_backend: Backend, estimator: str) -> None:
    """K = 2, D = 1: both samples' noise integrated over, to 1e-10; θ's estimate is the same number."""
    reference = integrated_problem(numpy_backend, SMALL, "iwae", nodes=80)
    found = integrated_problem(numpy_backend, SMALL, estimator, nodes=80)
    for block, (mean, variance, _) in reference.items():
        np.testing.assert_allclose(found[block][0], mean, rtol=0.0, atol=1e-10)
        assert np.all(variance > 0.0)
    np.testing.assert_allclose(found["prior_mean"][1], reference["prior_mean"][1], rtol=1e-12)
    assert np.all(integrated_problem(numpy_backend, SMALL, "dreg")["loc"][1] < 0.1 * reference["loc"][1])


@pytest.mark.parametrize("baseline", ["geometric", "arithmetic"])
def test_baselines_know_nothing_of_their_sample(baseline: str) -> None:
    """VIMCO less no baseline is Σ_k L̂_−k s_k, with L̂_−k from the other samples alone; by definition, in NumPy."""
    cell = make_cell(BOUND, f"vimco[baseline={baseline}]")
    expectation, at = cell.problem.expectation(), cell.problem.parameters()
    noise = draws(cell.estimator.noise_specs(expectation, 1, 4), 7)
    found = estimates(BOUND, f"vimco[baseline={baseline}]", 1, noise)
    plain = estimates(BOUND, "vimco[baseline=none]", 1, noise)
    backend = get("numpy")
    bound, own = expectation.at(at)
    z = Normal().sample(backend, own, noise)
    log_weights, score = bound.value(backend, own, z, noise), Normal().score(backend, own, z)
    taken = np.zeros_like(log_weights)
    for k in range(3):
        others = np.delete(log_weights, k, axis=1)
        alone = others.mean(axis=1) if baseline == "geometric" else np.log(np.exp(others).mean(axis=1))
        taken[:, k] = np.log((np.exp(others).sum(axis=1) + np.exp(alone)) / 3.0)
    for name, s in score.items():
        expected = plain[name] - (taken[..., None] * s).sum(axis=1)
        np.testing.assert_allclose(found[name], expected, rtol=1e-11, atol=1e-11)


def test_sums_of_the_others_keep_small_ones() -> None:
    values = np.asarray([[1.0, 1e-30, 3e-30], [2.0, 0.5, 0.25]])
    np.testing.assert_allclose(others_sum(get("numpy").xp, values), [[4e-30, 1.0, 1.0], [0.75, 2.25, 2.5]], rtol=1e-15)


def test_weights_do_not_overflow() -> None:
    """log w of 10^5 and of −10^5 in one group."""
    far = replace(make_problem(BOUND), perturbation=200.0)  # type: ignore[type-var]
    cell = make_cell(far, "iwae")  # type: ignore[arg-type]
    noise = draws(cell.estimator.noise_specs(far.expectation(), 1, 4), 7)
    for estimator in ("iwae", "dreg"):
        found = estimate(get("numpy"), make_estimator(estimator), far.expectation(), far.parameters(), noise)
        assert all(np.all(np.isfinite(g)) for g in found.values())


@pytest.mark.matrix
@pytest.mark.parametrize(("estimator", "samples"), [*((e, 2) for e in ALL), ("iwae", 1), ("vimco", 1)])
def test_parity(differentiating: Backend, estimator: str, samples: int) -> None:
    case = Case(BOUND, estimator, samples)
    case.check(case.on(differentiating), 1e-12)


@pytest.mark.parametrize("estimator", ["dreg", pytest.param("vimco", marks=pytest.mark.slow)])
def test_parity_compiled(differentiating: Backend, estimator: str) -> None:
    case = Case(BOUND, estimator, 2)
    case.check(case.on(differentiating, compiled=True), 1e-12)


@pytest.mark.parametrize("estimator", ALL)
def test_single_precision(estimator: str) -> None:
    case = Case(BOUND, estimator, 2, "float32")
    case.check(case.on(get("numpy"), dtype="float32"), 1e-5)


def test_gradients_by_autodiff(differentiating: Backend, numpy_backend: Backend) -> None:
    """Of log p in z and in θ: differentiate=autodiff."""
    closed, automatic = (make_cell(f"{BOUND[:-1]},differentiate={d}]", "dreg") for d in ("closed-form", "autodiff"))
    noise = draws(closed.estimator.noise_specs(closed.problem.expectation(), 2, 4), 7)
    found, expected = (
        estimate(backend, cell.estimator, cell.problem.expectation(), cell.problem.parameters(), noise)
        for backend, cell in ((differentiating, automatic), (numpy_backend, closed))
    )
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-11, atol=1e-12)


def test_iwae_is_the_derivative_of_the_bound() -> None:
    """At given noise, by complex steps in every parameter of λ and θ."""
    problem = make_problem(BOUND)
    noise = draws(make_estimator("iwae").noise_specs(problem.expectation(), 1, 4), 3)
    found, at = estimates(BOUND, "iwae", 1, noise), problem.parameters()
    observed, step = problem.expectation().data["observed"], 1e-30

    def bound(at: dict[str, Any]) -> np.ndarray:
        z = at["loc"] + np.exp(at["log_scale"]) * noise["base"]
        log_p = -0.5 * (z - at["prior_mean"]) ** 2 - 0.5 * (observed - z) ** 2
        log_q = -0.5 * noise["base"] ** 2 - at["log_scale"]
        return np.log(np.exp((log_p - log_q).sum(axis=-1)).mean(axis=1))

    for name, values in found.items():
        for i in range(4):
            moved = at[name].astype(complex)
            moved[i] += 1j * step
            np.testing.assert_allclose(values[:, i], bound({**at, name: moved}).imag / step, rtol=1e-11)


# What is refused


@pytest.mark.parametrize(
    ("problem", "estimator", "message"),
    [
        (BOUND, "pathwise", "use iwae, dreg or vimco, or importance-samples=1"),
        (BOUND, "score-function", "score-function estimates the gradient of an expectation"),
        ("square", "iwae", "iwae needs an ELBO with entropy=sampled, or a bound; this problem has no entropy term"),
        ("linear-regression[entropy=analytic]", "dreg", "this problem takes the entropy analytically"),
    ],
)
def test_not_applicable(problem: str, estimator: str, message: str) -> None:
    reason = infeasible(make_cell(problem, estimator, 2))
    assert reason is not None
    assert message in reason
    assert "\n" not in reason


@pytest.mark.parametrize("count", ["0", "-3", "1.5", "many"])
def test_bad_counts(count: str) -> None:
    with pytest.raises(UsageError, match=r"option 'importance-samples' is .* a whole number, at least 1"):
        make_problem(f"linear-gaussian[importance-samples={count}]")


@pytest.mark.parametrize(("entropy", "count"), [("none", 2), ("analytic", 2), ("sampled", 0)])
def test_a_bound_is_of_a_sampled_entropy(entropy: Any, count: int) -> None:
    with pytest.raises(UsageError, match="importance samples"):
        Expectation(Normal(), make_problem(BOUND).expectation().integrand, {}, entropy, importance_samples=count)
