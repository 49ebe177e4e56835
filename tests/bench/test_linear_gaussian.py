"""The linear-Gaussian bound: its exact numbers against tensor quadrature and closed forms, and what is measured."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.fit.command import plans
from gradmeter.bench.fit.objective import objective
from gradmeter.bench.problems import bounds
from gradmeter.bench.problems.bounds import Weights
from gradmeter.bench.problems.linear_gaussian import exact as rules
from gradmeter.bench.problems.linear_gaussian.exact import exact_bound, law
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.support import draws, estimate, gauss, integrated_problem, make_cell, measured

LOG_2PI = math.log(2.0 * math.pi)


def problem(count: int, dim: int, perturbation: float = 0.3) -> Any:
    return make_problem(f"linear-gaussian[importance-samples={count},dim={dim},perturbation={perturbation}]")


def log_weights(made: Any, at: dict[str, np.ndarray], noise: np.ndarray) -> np.ndarray:
    """log p(x, z) − log q(z), for noise [..., D], written out."""
    z = at["loc"] + np.exp(at["log_scale"]) * noise
    prior, observed = at["prior_mean"], made.expectation().data["observed"]
    each = -0.5 * (z - prior) ** 2 - 0.5 * (observed - z) ** 2 + 0.5 * noise**2 + at["log_scale"] - 0.5 * LOG_2PI
    return each.sum(axis=-1)


@pytest.mark.parametrize(
    ("count", "dim", "nodes", "perturbation"),
    [(2, 1, 120, 0.0), (2, 1, 120, 0.3), (2, 1, 120, 1.5), (3, 1, 50, 0.3), (2, 2, 22, 0.3)],
)
def test_exact_numbers_against_tensor_quadrature(count: int, dim: int, nodes: int, perturbation: float) -> None:
    """L_K over all K·D numbers of noise, and its gradients by central differences of that."""
    made = problem(count, dim, perturbation)
    x, w = gauss("normal", nodes)
    grid = np.stack([a.ravel() for a in np.meshgrid(*[x] * (count * dim), indexing="ij")], axis=1)
    weights = np.prod([a.ravel() for a in np.meshgrid(*[w] * (count * dim), indexing="ij")], axis=0)
    noise = grid.reshape(-1, count, dim)

    def bound(at: dict[str, np.ndarray]) -> float:
        return float(weights @ np.log(np.exp(log_weights(made, at, noise)).mean(axis=1)))

    at, exact = made.parameters(), made.exact()
    assert exact.source == "quadrature"
    assert exact.objective == pytest.approx(bound(at), abs=1e-10)
    step = 1e-3
    for name, gradient in exact.gradient.items():
        for i in range(dim):
            ends = [{**at, name: at[name] + s * step * (np.arange(dim) == i)} for s in (2.0, 1.0, -1.0, -2.0)]
            a, b, c, d = (bound(end) for end in ends)
            assert gradient[i] == pytest.approx((8.0 * (b - c) - (a - d)) / (12.0 * step), abs=1e-9), name


@pytest.mark.parametrize("dim", [1, 2, 3, 20])
@pytest.mark.parametrize("scale", [0.6, math.sqrt(0.5), math.sqrt(2.0 / 3.0), 0.95])
def test_one_importance_sample_in_closed_form(dim: int, scale: float) -> None:
    """The quadrature at K = 1 against the ELBO, for weights bounded, constant and unbounded."""
    made = problem(1, dim)
    at = {**made.parameters(), "log_scale": np.full(dim, math.log(scale))}
    closed = made.exact_at(at)
    assert closed.source == "closed-form"
    found = exact_bound(1, at["loc"], scale, at["prior_mean"], made.expectation().data["observed"])
    assert found is not None
    assert found.objective == pytest.approx(closed.objective, abs=1e-9)
    for name, gradient in closed.gradient.items():
        np.testing.assert_allclose(found.gradient[name], gradient, rtol=0.0, atol=1e-9)


def test_the_elbo_is_known_without_quadrature() -> None:
    """log p(x) less the divergence of two Normals."""
    made = problem(1, 5)
    at, exact = made.parameters(), made.exact()
    prior, observed = at["prior_mean"], made.expectation().data["observed"]
    evidence = float(np.sum(-0.25 * (observed - prior) ** 2 - 0.5 * math.log(4.0 * math.pi)))
    away, variance = at["loc"] - 0.5 * (prior + observed), np.exp(2.0 * at["log_scale"])
    divergence = float(np.sum(away**2 + variance - 0.5 - 0.5 * np.log(2.0 * variance)))
    assert exact.objective == pytest.approx(evidence - divergence, abs=1e-12)
    np.testing.assert_allclose(exact.gradient["loc"], -2.0 * away, atol=1e-12)
    np.testing.assert_allclose(exact.gradient["log_scale"], 1.0 - 2.0 * variance, atol=1e-12)
    np.testing.assert_allclose(exact.gradient["prior_mean"], at["loc"] - prior, atol=1e-12)


def test_bounds_tighten_towards_the_evidence() -> None:
    """L_K rises to log p(x), as fast as Var(w/E w)/(2K); ∇_λ falls as 1/K and ∇_θ tends to ∇ log p(x)."""
    counts = (1, 2, 4, 16, 256, 4096)
    made = [problem(k, 5) for k in counts]
    exacts = [m.exact() for m in made]
    prior, observed = made[0].parameters()["prior_mean"], made[0].expectation().data["observed"]
    evidence = float(np.sum(-0.25 * (observed - prior) ** 2 - 0.5 * math.log(4.0 * math.pi)))
    gaps = [evidence - e.objective for e in exacts]
    assert all(a > b > 0.0 for a, b in itertools.pairwise(gaps))
    distance = float(np.linalg.norm(made[0].parameters()["loc"] - 0.5 * (prior + observed)))
    w = law(1, 5, distance, math.sqrt(2.0 / 3.0))
    assert gaps[-1] * 4096 == pytest.approx(0.5 * (float(w.probability @ w.weight**2) - 1.0), rel=0.02)
    falls = np.linalg.norm(exacts[-2].gradient["loc"]) / np.linalg.norm(exacts[-1].gradient["loc"])
    assert falls == pytest.approx(16.0, rel=0.05)
    np.testing.assert_allclose(exacts[-1].gradient["prior_mean"], 0.5 * (observed - prior), atol=1e-3)


def test_at_the_posterior_the_bound_is_tight_for_every_count() -> None:
    for count in (1, 7, 1000):
        made = problem(count, 3)
        best = made.exact_at(made.optimum())
        assert best.objective == pytest.approx(-1.5 * math.log(4.0 * math.pi), abs=1e-11)
        assert all(np.abs(g).max() < 1e-11 for g in best.gradient.values())


@pytest.mark.parametrize("count", [1, 7])
def test_at_the_posterior_some_estimates_are_exactly_zero(count: int) -> None:
    """All weights are alike there and log w has no slope: dreg and iwae-stl, but not iwae, and nobody in θ."""
    made = problem(count, 3)
    for estimator in ("dreg", "iwae-stl", "iwae"):
        at, kind = made.optimum(), make_estimator(estimator)
        noise = draws(kind.noise_specs(made.expectation(), 2, 3), 5)
        found = estimate(get("numpy"), kind, made.expectation(), at, noise)
        for block in ("loc", "log_scale"):
            assert (np.abs(found[block]).max() < 1e-13) == (estimator != "iwae"), (estimator, block)
        assert np.all(np.abs(found["prior_mean"]).max(axis=1) > 1e-3)


def test_a_fit_reaches_the_posterior() -> None:
    """Both estimators that are fitted where none is named, from K = 8: the bound is log p(x) at its largest, less what
    noise in θ leaves."""
    made = "linear-gaussian[importance-samples=8,dim=2,perturbation=0.5]"
    found = plans(made, steps="600", replicates="0", every="600", learning_rate=["0.03"])
    assert [p.recipe.estimator.name for p in found] == ["iwae", "dreg"]  # type: ignore[attr-defined]
    best = -math.log(4.0 * math.pi)
    problem = make_problem(made)
    for p in found:
        method = p.recipe.prepare(problem, 0)
        state = method.initial()
        for t in range(1, 601):
            state = method.step(state, t)
        at = method.parameters(state)
        assert objective(problem, problem.parameters()).value < best - 0.2
        assert best - 0.05 < objective(problem, at).value < best + 1e-3


def test_no_number_where_none_is_known() -> None:
    """Scales that differ have no such symmetry; the objective is then estimated, within 5 standard errors (6e-7)."""
    made = problem(5, 3)
    at = made.parameters()
    uneven = {**at, "log_scale": at["log_scale"] + np.asarray([0.0, 1e-9, 0.0])}
    assert made.exact_at(uneven) is None
    found = objective(made, uneven)
    assert found.source == "sampling"
    assert found.standard_error is not None
    assert abs(found.value - made.exact().objective) < 5.0 * found.standard_error < 0.1


@pytest.mark.parametrize(("count", "dim", "scale"), [(2, 50, 0.8), (100_000, 20, 0.8), (7, 20, 0.5), (7, 20, 0.99)])
def test_more_nodes_change_nothing(count: int, dim: int, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made = problem(count, dim)
    at = {**made.parameters(), "log_scale": np.full(dim, math.log(scale))}
    few = made.exact_at(at)
    monkeypatch.setattr(rules, "CHI_NODES", 230)
    for module, name in ((rules, "NORMAL_STEP"), (bounds, "LAPLACE_STEP")):
        monkeypatch.setattr(module, name, 0.7 * getattr(module, name))
    many = made.exact_at(at)
    assert few.objective == pytest.approx(many.objective, abs=1e-11)
    for name, gradient in many.gradient.items():
        assert np.abs(few.gradient[name] - gradient).max() <= 1e-9 * np.linalg.norm(gradient), name


@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_a_quadrature_that_fails_says_so(scale: float) -> None:
    """Weights with hardly any moments, or nearly all 0."""
    made = problem(2, 20)
    assert made.exact_at({**made.parameters(), "log_scale": np.full(20, math.log(scale))}) is None


@pytest.mark.parametrize("perturbation", [30.0, 1000.0])
def test_no_quadrature_far_from_the_posterior(perturbation: float) -> None:
    """Where every weight rounds to 0 beside the largest, and the nodes would fill the memory."""
    row = measured(make_cell(problem(2, 1, perturbation), "dreg", max_replicates=64))["all"]
    assert (row["verdict"], row["exact_source"]) == ("no-reference", "none")


def test_a_point_beside_which_samples_round_away_is_refused() -> None:
    """Scores of values of f would be called biased there."""
    with pytest.raises(
        UsageError, match="'perturbation' is '1e17'; it must be a finite number, at least 0, at most 1000"
    ):
        make_problem("linear-gaussian[perturbation=1e17]")


def crossed(w: Weights, power: int, values: np.ndarray) -> float:
    """E Σ_{j≠k} w̃_j^p ψ_j w̃_k^p ψ_k, by Laplace's transform as `Weights.normalised`."""
    inside = w.t ** (2 * power - 1) * w.transform ** (w.count - 2) * w.tilted(power, values) ** 2
    return w.count * (w.count - 1) / math.gamma(2 * power) * w.integral(inside)


def variance(count: int, dim: int, distance: float, block: str) -> float:
    """Var of the estimates of one block, from second moments of the weights and of pairs of them."""
    scale = math.sqrt(2.0 / 3.0)
    w, bend = law(count, dim, distance, scale), 1.0 / scale - 2.0 * scale
    power, parallel, across = {
        "iwae": (1, -2.0 * (distance + scale * w.along), 4.0 * scale**2),
        "dreg": (2, -2.0 * distance + bend * w.along, bend**2),
        "prior_mean": (1, scale * w.along, scale**2),
    }[block]
    second = w.normalised(2 * power, parallel**2 + across * w.across) + crossed(w, power, parallel)
    return second - w.normalised(power, parallel) ** 2


def test_exact_variances_against_tensor_quadrature(numpy_backend: Backend) -> None:
    made = problem(2, 1)
    distance = _distance(made)
    for estimator in ("iwae", "dreg"):
        found = integrated_problem(
            numpy_backend, "linear-gaussian[importance-samples=2,dim=1,perturbation=0.3]", estimator, nodes=80
        )
        assert variance(2, 1, distance, estimator) == pytest.approx(float(found["loc"][1].sum()), rel=1e-10)
        assert variance(2, 1, distance, "prior_mean") == pytest.approx(float(found["prior_mean"][1].sum()), rel=1e-10)


def _distance(made: Any) -> float:
    at = made.parameters()
    return float(np.linalg.norm(at["loc"] - 0.5 * (at["prior_mean"] + made.expectation().data["observed"])))


def test_signal_to_noise_as_published() -> None:
    """Exact, D = 20: from K = 1 to 256 iwae's falls as K^−½ and dreg's rises as K^½ in λ; both rise in θ."""
    slopes = {}
    for block in ("iwae", "dreg", "prior_mean"):
        found = []
        for count in (256, 1024, 4096):
            made = problem(count, 20, 0.01)
            gradient = made.exact().gradient["prior_mean" if block == "prior_mean" else "loc"]
            found.append(np.linalg.norm(gradient) / math.sqrt(variance(count, 20, _distance(made), block)))
        slopes[block] = np.diff(np.log(found)) / math.log(4.0)
    np.testing.assert_allclose(slopes["iwae"], -0.5, atol=0.06)
    np.testing.assert_allclose(slopes["dreg"], 0.5, atol=0.06)
    np.testing.assert_allclose(slopes["prior_mean"], 0.5, atol=0.06)


@pytest.mark.parametrize(("count", "estimator"), [(8, "iwae"), (8, "dreg"), (100, "dreg")])
def test_measured_variances_are_exact_ones(count: int, estimator: str) -> None:
    """Within twice the 95 % interval's half-width on a log scale: false alarm 9e-5 each, at fixed seeds."""
    made = problem(count, 20, 0.01)
    rows = measured(make_cell(made, estimator, precision=0.1, max_replicates=2**13))
    for block in ("loc", "prior_mean"):
        row = rows[block]
        expected = variance(count, 20, _distance(made), estimator if block == "loc" else block)
        half = math.log(row["variance_high"] / row["variance_low"])
        assert abs(math.log(row["variance"] / expected)) < half, block


@pytest.mark.parametrize("estimator", ["iwae", "dreg", "vimco", "vimco[baseline=arithmetic]"])
def test_certified_by_integration(estimator: str) -> None:
    rows = measured(make_cell(problem(2, 1), estimator, max_replicates=2**13))
    for row in rows.values():
        assert row["verdict"] == "unbiased"
        assert row["certificate"] == "integration"
        assert row["bias_bound"] < 1e-10


def test_certified_by_sampling() -> None:
    """DReG in λ to 1 %, in three dimensions with K = 5."""
    rows = measured(make_cell(problem(5, 3), "dreg", max_replicates=2**21))
    for block in ("loc", "log_scale"):
        assert rows[block]["verdict"] == "unbiased"
        assert rows[block]["certificate"] == "sampling"


def test_sticking_the_landing_is_biased_on_a_bound() -> None:
    """By E Σ (w̃_k − w̃_k²) ∂ log w_k/∂z_k · ∂z_k/∂λ, in λ alone; not at all for K = 1."""
    made = problem(3, 3)
    rows = measured(make_cell(made, "iwae-stl", max_replicates=2**15))
    assert {name: row["verdict"] == "biased" for name, row in rows.items()} == {
        "loc": True,
        "log_scale": True,
        "prior_mean": False,
        "all": True,
    }
    scale = math.sqrt(2.0 / 3.0)
    w = law(3, 3, _distance(made), scale)
    slope = -2.0 * w.distance + (1.0 / scale - 2.0 * scale) * w.along
    expected = abs(w.normalised(1, slope) - w.normalised(2, slope))
    error = math.sqrt(rows["loc"]["variance"] / rows["loc"]["replicates"])
    assert abs(rows["loc"]["bias_norm"] - expected) < 6.0 * error < 0.1 * expected
    alone = measured(make_cell(problem(1, 1), "iwae-stl", max_replicates=2**13))
    assert alone["all"]["verdict"] == "unbiased"


def test_squared_weights_in_the_models_gradient_are_caught() -> None:
    rows = measured(make_cell(problem(3, 3), "injected-squared-model-weights", max_replicates=2**15))
    assert rows["prior_mean"]["verdict"] == rows["all"]["verdict"] == "biased"
    assert rows["loc"]["verdict"] != "biased"
    alone = measured(make_cell(problem(1, 3), "injected-squared-model-weights", max_replicates=2**13))
    assert all(row["verdict"] != "biased" for row in alone.values())


def test_the_rule_for_t_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of t everything is what it is in one, and no array of all of t and all nodes is made."""

    def found() -> tuple[list[np.ndarray | float], float]:
        w = law(64, 20, 2.0, math.sqrt(2.0 / 3.0))
        tracemalloc.start()
        values = [w.bound(), w.error(), w.normalised(2, np.stack([w.along, w.across])), w.shares()]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return values, peak / (8.0 * len(w.t) * len(w.weight))

    whole, _ = found()
    monkeypatch.setattr(bounds, "MOST_NUMBERS", 2**17)
    blocks, share = found()
    for a, b in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-13)
    assert share < 0.25
