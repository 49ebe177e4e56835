"""Importance-weighted bounds: K = 1 is the ELBO, identities between the estimators, parity, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.estimators import BOUNDS, Expectation, Integrand, Normal, UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families import Bernoulli
from gradmeter.estimators.vimco import others_sum
from tests.parity import Case
from tests.support import Blocks, draws, estimate, integrated_problem, make_cell

BOUND = "linear-gaussian[importance-samples=3,dim=4,perturbation=0.4]"
SMALL = "linear-gaussian[importance-samples=2,dim=1,perturbation=0.4]"
ELBO = "linear-gaussian[dim=4,perturbation=0.4]"
NAMED = ("iwae-stl", "miwae[parts=3]", "piwae[parts=3]", "ciwae", "thermodynamic", "injected-squared-model-weights")
ALL = (*(e for e in BOUNDS if e != "multi-sample-disarm"), *NAMED)


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


def test_of_fewer_samples(numpy_backend: Backend) -> None:
    """K = 2 in two parts: `miwae` is pathwise for the ELBO at S = 2, as is `piwae` for q; `ciwae` is linear in β."""
    noise = draws(make_estimator("iwae").noise_specs(make_problem(SMALL).expectation(), 1, 1), 7)
    elbo = estimates(SMALL.replace("importance-samples=2", "importance-samples=1"), "pathwise", 2, noise)
    whole = estimates(SMALL, "iwae", 1, noise)
    for name in whole:
        expected = {
            "miwae": elbo[name],
            "miwae[parts=1]": whole[name],
            "piwae": whole[name] if name == "prior_mean" else elbo[name],
            "ciwae[beta=0.3]": 0.3 * elbo[name] + 0.7 * whole[name],
        }
        for estimator, values in expected.items():
            found = estimates(SMALL, estimator, 1, noise)[name]
            np.testing.assert_allclose(found, values, rtol=1e-12, atol=1e-13, err_msg=estimator)


@pytest.mark.parametrize(("parts", "fits"), [(3, 2), (8, 4)])
@pytest.mark.parametrize("name", ["miwae", "piwae"])
def test_parts_divide_the_samples(name: str, parts: int, fits: int) -> None:
    four = SMALL.replace("importance-samples=2", "importance-samples=4")
    reason = infeasible(make_cell(four, f"{name}[parts={parts}]"))
    assert reason is not None
    assert f"parts={parts} " in reason
    assert infeasible(make_cell(four, f"{name}[parts={fits}]")) is None
    assert reason.endswith(f"give parts={fits}, for example")


@pytest.mark.parametrize("parts", [2])
def test_parts_have_the_expectation_of_the_bound_of_fewer(numpy_backend: Backend, parts: int) -> None:
    """The bias of `miwae` is ∇L_{K/M} − ∇L_K, both exact, with K = 4. Means of 2^14 estimates within five standard
    errors."""
    four = SMALL.replace("importance-samples=2", "importance-samples=4")
    cell = make_cell(four, f"miwae[parts={parts}]")
    noise = draws(cell.estimator.noise_specs(cell.problem.expectation(), 1, 1), 2**14)
    found = estimate(numpy_backend, cell.estimator, cell.problem.expectation(), cell.problem.parameters(), noise)
    fewer, exact = make_problem(SMALL).exact(), make_problem(four).exact()
    assert fewer is not None
    assert exact is not None
    for name, values in found.items():
        error = values.std(axis=0) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(axis=0) - fewer.gradient[name]) < 5.0 * error), name
    assert np.abs(fewer.gradient["loc"] - exact.gradient["loc"]) > 0.01


def test_thermodynamic_of_one_part(numpy_backend: Backend) -> None:
    """J = 1, K = 2: (1 − 1/K) times the ELBO's gradient in λ, to 1e-10, and all of it in θ. For many β, θ's gradient is
    near that of log (1/K) Σ w, noise by noise, to which the integral over β of K weighted samples comes."""
    found = integrated_problem(numpy_backend, SMALL, "thermodynamic[partitions=1]", nodes=80)
    elbo = make_problem(SMALL.replace("importance-samples=2", "importance-samples=1")).exact()
    assert elbo is not None
    for name, gradient in elbo.gradient.items():
        expected = gradient if name == "prior_mean" else 0.5 * gradient
        np.testing.assert_allclose(found[name][0], expected, rtol=0.0, atol=1e-10)
    noise = draws(make_estimator("vimco").noise_specs(make_problem(BOUND).expectation(), 1, 4), 7)
    fine = estimates(BOUND, "thermodynamic[partitions=1000,smallest=0.00001]", 1, noise)
    bound = estimates(BOUND, "iwae", 1, noise)["prior_mean"]
    np.testing.assert_allclose(fine["prior_mean"], bound, rtol=0.1, atol=0.1 * np.abs(bound).max())


class Sigmoid(Integrand):
    """log p(x, z) of binary z, with a parameter θ: Σ θ z − (Σ z − 1)² (1 + z_1)/2."""

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"theta": (2,)}

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        away = xp.sum(z, axis=-1) - 1.0
        return xp.sum(data["theta"] * z, axis=-1) - 0.5 * away * away * (1.0 + z[..., 0])

    def model_pullback(self, xp: Any, data: Any, z: Any, cotangent: Any, noise: Any) -> Any:
        return {"theta": xp.sum(cotangent[..., None] * z, axis=1)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_multi_sample_disarm_is_unbiased(backend: Backend, count: int) -> None:
    """By enumeration: of two binary numbers in K samples, one noise for each piece on which no sample jumps; against
    the gradient of Σ q(z_1) … q(z_K) log (1/K) Σ w by a complex step. With less variance than VIMCO at K = 2."""
    logits, theta = np.asarray([0.4, -0.9]), np.asarray([0.3, -0.7])
    states = np.asarray(list(itertools.product([0.0, 1.0], repeat=2)))

    def bound(at: np.ndarray, model: np.ndarray) -> Any:
        log_q = (states * at - np.log1p(np.exp(at))).sum(axis=1)
        value = Sigmoid().value(np, {"theta": model}, states, {}) - log_q
        total: Any = 0.0
        for chosen in itertools.product(range(4), repeat=count):
            total = total + np.exp(log_q[list(chosen)].sum()) * np.log(np.exp(value[list(chosen)]).mean())
        return total

    def derivative(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.imag(bound(logits + 1e-30j * first, theta + 1e-30j * second)) / 1e-30)

    exact = {
        "logits": [derivative(unit, np.zeros(2)) for unit in np.eye(2)],
        "theta": [derivative(np.zeros(2), unit) for unit in np.eye(2)],
    }
    p = 1.0 / (1.0 + np.exp(-logits))
    pieces = []
    for each in p:
        ends = np.sort([0.0, each, 1.0 - each, 1.0])
        pieces.append([(b - a, 0.5 * (a + b)) for a, b in itertools.pairwise(ends)])
    grid = list(itertools.product(*pieces * count))
    weights = np.asarray([np.prod([w for w, _ in point]) for point in grid])
    noise = {"base": np.asarray([[u for _, u in point] for point in grid]).reshape(-1, count, 2)}
    expectation = Expectation(Bernoulli(), Sigmoid(), {}, "sampled", importance_samples=count)
    at = {"logits": logits, "theta": theta}
    found = estimate(backend, make_estimator("multi-sample-disarm"), expectation, at, noise)
    for name, gradient in exact.items():
        np.testing.assert_allclose(weights @ found[name], gradient, rtol=0.0, atol=1e-12, err_msg=name)
    if count == 2:
        other = estimate(backend, make_estimator("vimco"), expectation, at, noise)["logits"]
        np.testing.assert_allclose(weights @ other, exact["logits"], rtol=0.0, atol=1e-12)
        own, theirs = (weights @ g**2 - (weights @ g) ** 2 for g in (found["logits"], other))
        assert own.sum() < theirs.sum()


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
