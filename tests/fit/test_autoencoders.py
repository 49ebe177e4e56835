"""Fits of autoencoders: what they start from, the data they are tested by, and their log-likelihood."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_problem
from gradmeter.bench.fit import figures
from gradmeter.bench.fit.held_out import IMPORTANCE_SAMPLES, columns, log_likelihood, log_weights
from gradmeter.bench.fit.objective import objective
from gradmeter.bench.problems.data import bundled
from gradmeter.bench.problems.vae import inputs
from gradmeter.bench.problems.vae.autoencoder import MOST_TEST
from tests.cli.running import Run

SMALL = "vae[size=40,batch=10,hidden=4,latent=3]"


def evidence(x: np.ndarray, parameters: dict[str, np.ndarray]) -> float:
    """Mean of log N(x | b, Wᵀ W + σ² I), by the eigenvalues of the covariance."""
    weight, variance = parameters["decoder.0.weight"], math.exp(2.0 * float(parameters["decoder.log_scale"][0]))
    values, axes = np.linalg.eigh(weight.T @ weight + variance * np.eye(x.shape[1]))
    turned = (x - parameters["decoder.0.bias"]) @ axes
    return float(np.mean(-0.5 * np.sum(turned**2 / values + np.log(2.0 * np.pi * values), axis=1)))


def test_log_likelihood_is_exact_where_q_is_the_posterior() -> None:
    """All weights of one datum are equal there: the bound has no gap and the estimate no noise."""
    problem: Any = make_problem("linear-vae[dataset=wine,size=120,latent=3,at=optimum]")
    found = columns(problem, problem.parameters(), 0, last=True)
    exact = evidence(problem.test_inputs(), problem.parameters())
    assert (found["test_size"], found["importance_samples"]) == (58, IMPORTANCE_SAMPLES)
    for name in ("test_elbo", "test_log_likelihood"):
        assert found[name] == pytest.approx(exact, rel=1e-12)
        assert found[f"{name}_error"] < 1e-12


def test_log_likelihood_elsewhere() -> None:
    """Six standard errors (false alarm 2e-9, were it Normal), and the ELBO below it by many; near enough to the
    posterior that 1,000 samples suffice."""
    problem: Any = make_problem("linear-vae[dataset=wine,size=120,latent=3]")
    start, end = problem.initial(), problem.optimum()
    parameters = {name: 0.2 * start[name] + 0.8 * end[name] for name in start}
    found, exact = columns(problem, parameters, 0, last=True), evidence(problem.test_inputs(), parameters)
    assert abs(found["test_log_likelihood"] - exact) < 6.0 * found["test_log_likelihood_error"]
    assert found["test_elbo"] < exact - 20.0 * found["test_elbo_error"]


def test_log_likelihood_of_far_apart_weights_does_not_overflow() -> None:
    terms = np.array([[1000.0, -2000.0], [1000.0 + math.log(3.0), -2000.0]])
    value, error = log_likelihood(terms)
    assert value == pytest.approx((1000.0 + math.log(2.0) - 2000.0) / 2.0)
    assert error == pytest.approx(math.sqrt(2.0 / (2.0 * 4.0)) / 2.0)


def test_blocks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """K is what was asked for, however many fit into a block."""
    problem: Any = make_problem("vae[size=1790,hidden=3]")
    for size in (64, 3):
        monkeypatch.setattr("gradmeter.bench.fit.sampling.block_size", lambda *_, size=size: size)
        terms = log_weights(problem.held_out(), problem.parameters(), 7, ("test",))
        assert terms.shape == (7, 7)
        assert np.all(np.isfinite(terms))


def test_test_data_are_none_of_those_fitted() -> None:
    everything: Any = make_problem("vae[size=1797]")
    assert everything.held_out() is None
    for size, there in ((1790, 7), (100, MOST_TEST)):
        problem: Any = make_problem(f"vae[size={size},batch=10,kl=analytic]")
        held = problem.held_out()
        np.testing.assert_array_equal(held.data["inputs"], everything.inputs()[size : size + there])
        assert (held.entropy, held.batch) == ("sampled", there)


def test_bundled_rows_come_in_an_order_that_spreads_the_classes() -> None:
    """Every row once, and of every class its share, to within one, in any number of the first."""
    for dataset in inputs.BUNDLED:
        data, labels = bundled(dataset), inputs.labels(dataset)
        assert labels is not None
        rows = [(label, *row) for label, row in zip(labels, inputs._raw(dataset), strict=True)]
        assert sorted(rows) == sorted((label, *row) for label, row in zip(data.target, data.data, strict=True))
        counts = np.cumsum(np.eye(labels.max() + 1)[labels], axis=0)
        shares = np.arange(1, len(labels) + 1)[:, None] * counts[-1] / len(labels)
        assert np.abs(counts - shares).max() < 1.0


def test_points_are_standardised_by_those_that_are_fitted() -> None:
    problem: Any = make_problem("linear-vae[dataset=wine,size=100]")
    np.testing.assert_allclose(problem.inputs().mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(problem.inputs().std(axis=0), 1.0, rtol=1e-12)
    whole: Any = make_problem("linear-vae[dataset=wine]")
    slope = problem.all_inputs().std(axis=0) / whole.all_inputs().std(axis=0)  # both are affine in the same rows
    np.testing.assert_allclose(problem.all_inputs(), whole.all_inputs() * slope + problem.all_inputs().mean(axis=0))


def test_the_objective_of_a_minibatch_fit_is_of_all_data() -> None:
    whole, part = (make_problem(f"vae[size=30,hidden=3,latent=1{batch}]") for batch in ("", ",batch=5"))
    assert objective(part, whole.parameters()).value == objective(whole, whole.parameters()).value
    sampled: Any = make_problem("vae[size=30,hidden=3,latent=3,batch=5,kl=analytic]")
    found, half = objective(sampled, sampled.parameters()), objective(sampled, sampled.parameters(), 1)
    errors = math.hypot(found.standard_error or 0.0, half.standard_error or 0.0)
    assert 0.0 < errors < 0.01 * abs(found.value)  # rows drawn at random would make it a tenth
    assert abs(found.value - half.value) < 6.0 * errors


def test_a_fit_starts_from_random_weights_and_takes_most_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fitted: Any = make_problem("vae", fitted=True)
    assert (fitted.at, fitted.size, fitted.batch, fitted.hidden) == ("initial", 1497, 100, 128)
    assert len(fitted.test_inputs()) == MOST_TEST
    np.save("bits.npy", np.random.default_rng(0).integers(0, 2, (45, 9)).astype(float))
    own: Any = make_problem("vae[dataset=bits.npy]", fitted=True)
    assert (own.size, own.batch, len(own.test_inputs())) == (36, 36, 9)
    chosen: Any = make_problem("vae[size=50,at=trained]", fitted=True)
    assert (chosen.at, chosen.size, chosen.batch) == ("trained", 50, None)


def test_rows_table_and_page(run_cli: Run) -> None:
    result = run_cli("fit", SMALL, "--estimator", "pathwise", "--steps", "30", "--replicates", "64", "--json")
    assert result.status == 0, result.err
    first, last = result.rows[0], result.rows[-1]
    assert first["optimiser_options"]["rate"] == 0.01
    assert first["problem_options"]["at"] == "initial"
    assert {r["test_size"] for r in result.rows} == {MOST_TEST}
    assert all(r["test_elbo_error"] > 0.0 for r in result.rows)
    assert last["test_elbo"] > first["test_elbo"]
    assert last["test_log_likelihood"] > last["test_elbo"]
    assert last["importance_samples"] == IMPORTANCE_SAMPLES
    assert {r["test_log_likelihood"] for r in result.rows[:-1]} == {None}
    page = Path("fit/index.html").read_text(encoding="utf-8")
    assert "test log-likelihood" in page
    assert f"{IMPORTANCE_SAMPLES:,} importance samples" in page
    assert "ELBO of the test data against seconds in steps" in page
    assert Path("fit/test.svg").exists()
    for network in ("encoder", "decoder"):
        assert f"Variance of one estimate of {network} against iterations" in page


def test_many_layers_are_shown_by_network() -> None:
    """The trace of a covariance is a sum over coordinates, so that a network's is the sum over its layers."""
    few, many = ["loc", "log_scale"], ["encoder.0.weight", "encoder.0.bias", "decoder.0.weight", "decoder.log_scale"]
    assert figures.grouped(few) == {"loc": ["loc"], "log_scale": ["log_scale"]}
    assert figures.grouped(many) == {"encoder": many[:2], "decoder": many[2:]}
    row = {"variances": dict(zip(many, (1.0, 2.0, 4.0, 8.0), strict=True)), "variance": 15.0}
    for name, total in (("encoder", 3.0), ("decoder", 12.0)):
        assert figures._spread(figures.grouped(many)[name])(row) == (total, None, None)


@pytest.mark.parametrize("dataset", ["breast_cancer", "iris", "wine", "digits"])
def test_tables_read_without_scikit_learn_are_what_it_returns(dataset: str) -> None:
    from sklearn import datasets

    found, returned = bundled(dataset), getattr(datasets, f"load_{dataset}")()
    np.testing.assert_array_equal(found.data, returned.data)
    np.testing.assert_array_equal(found.target, returned.target)
