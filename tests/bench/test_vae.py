"""The variational autoencoder of digits: its quadrature, its data, and what its estimates are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.sweep import suites
from tests.differences import check_gradient
from tests.support import estimates, make_cell, measured, problem_is_refused

SMALL = (
    "vae[size=6,latent=1,hidden=4]",
    "vae[size=6,latent=1,hidden=4,likelihood=gaussian,depth=2,kl=analytic]",
    "vae[size=1,latent=2,hidden=3]",
)
ONE = "vae[size=1,latent=1,hidden=4]"


@pytest.mark.parametrize("text", SMALL)
def test_gradient_is_that_of_the_objective(text: str) -> None:
    check_gradient(make_problem(text), relative=1e-6, absolute=1e-6, source="quadrature")


@pytest.mark.parametrize(
    "estimator",
    ["score-function", "pathwise", pytest.param("score-function[baseline=leave-one-out]", marks=pytest.mark.slow)],
)
def test_unbiased_by_integration(estimator: str) -> None:
    """One image and one coordinate: the estimator's mean over all its noise, against the problem's own quadrature."""
    rows = measured(make_cell(ONE, estimator, max_replicates=2**12))
    for name, row in rows.items():
        assert row["certificate"] == "integration"
        assert row["verdict"] == "unbiased", name
        assert row["bias_bound"] < 1e-8, name


def test_the_naive_exchange_is_caught() -> None:
    rows = measured(make_cell(ONE, "injected-naive-exchange", max_replicates=2**12))
    for name, row in rows.items():
        assert row["verdict"] == ("unbiased" if name.startswith("decoder") else "biased")


def test_where_nothing_is_exact_two_estimators_agree() -> None:
    """Pathwise and leave-one-out: means of 4,096 estimates of either, on noise of their own; within six standard errors
    in every one of some hundred coordinates, false alarm 1e-6."""
    text = "vae[size=12,batch=4,latent=3,hidden=3,at=initial]"
    assert make_problem(text).exact() is None
    moments: list[dict[str, Any]] = []
    for seed, name in enumerate(("pathwise", "score-function[baseline=leave-one-out]")):
        setting = prepare(make_cell(text, name, 4, seed=seed)).setting
        found = estimates(setting, setting.noise(setting.roots("agreement"), 0, 4096))
        moments.append({n: (g.mean(axis=0), g.var(axis=0) / len(g)) for n, g in found.items()})
    for block in moments[0]:
        (a, va), (b, vb) = moments[0][block], moments[1][block]
        assert np.all(np.abs(a - b) <= 6.0 * np.sqrt(va + vb) + 1e-12), block
        assert np.any(np.abs(a) > 6.0 * np.sqrt(va)), block  # and are not both nothing
    rows = measured(make_cell(text, "pathwise", max_replicates=2**12))
    assert {row["verdict"] for row in rows.values()} == {"no-reference"}


def test_score_function_against_pathwise() -> None:
    """More than ten times the variance in every layer of the encoder."""
    score, path = (
        measured(make_cell("vae[size=20,latent=3,hidden=8]", e, max_replicates=2**12))
        for e in ("score-function", "pathwise")
    )
    for name, row in path.items():
        if name.startswith("encoder"):
            assert score[name]["variance_low"] > 10.0 * row["variance_high"], name


def test_the_suite_sets_the_score_function_against_pathwise() -> None:
    """On digits and on the linear model, at one S; nothing in it is impossible."""
    cells = suites.load("vae").cells
    assert all(infeasible(cell) is None for cell in cells)
    both = {"score-function", "pathwise"}
    for problem in ("linear-vae[batch=30]", "vae[size=1797,batch=20]"):
        own = {(c.estimator.name, c.num_samples) for c in cells if c.problem == make_problem(problem)}
        assert {(name, 2) for name in both} <= own


def test_variance_in_two_parts_by_layer() -> None:
    """More samples make the sampling part less, and leave the minibatch's; five standard errors."""
    problem = make_problem("vae[size=12,batch=4,latent=2,hidden=4]")
    found = gradmeter.minibatch_split(problem, "pathwise", samples=(1, 8), replicates=2**11)
    few, many = (found[found["num_samples"] == s].set_index("block") for s in (1, 8))
    assert list(few.index) == [*problem.blocks, "all"]
    for name in few.index:
        a, b = few.loc[name], many.loc[name]
        for part, factor in (("sampling", 8.0), ("minibatch", 1.0)):
            widths = (a[f"{part}_high"] - a[f"{part}_low"], factor * (b[f"{part}_high"] - b[f"{part}_low"]))
            assert abs(a[part] - factor * b[part]) <= 5.0 * np.hypot(*widths) / 3.92, (name, part)


def test_training_climbs_and_repeats() -> None:
    start, end = (make_problem(f"vae[size=20,latent=1,at={at}]") for at in ("initial", "trained"))
    first, last = start.exact_at(start.parameters()), end.exact()
    assert first is not None
    assert last is not None
    assert last.objective > 0.5 * first.objective  # both negative
    again = make_problem("vae[size=20,latent=1,batch=5,kl=analytic]").parameters()
    assert all(np.array_equal(a, again[name]) for name, a in end.parameters().items())


def test_images() -> None:
    binary, grey = (
        make_problem(f"vae[likelihood={k}]").expectation().data["inputs"] for k in ("bernoulli", "gaussian")
    )
    assert binary.shape == grey.shape == (100, 64)
    assert set(np.unique(binary)) == {0.0, 1.0}
    np.testing.assert_array_equal(binary, grey > 7.0 / 16.0)


def test_a_file_of_images(tmp_path: Path) -> None:
    images = (np.random.default_rng(0).random((30, 12)) > 0.5).astype(float)
    np.save(tmp_path / "images.npy", images)
    problem = make_problem(f"vae[dataset={tmp_path / 'images.npy'},size=20,hidden=3,latent=1]")
    np.testing.assert_array_equal(problem.expectation().data["inputs"], images[:20])
    assert problem.parameters()["encoder.0.weight"].shape == (12, 3)
    assert problem.content() is not None
    at, objectives = problem.parameters(), []
    for held in (images, 1.0 - images):  # another file by the same name
        np.save(tmp_path / "images.npy", held)
        np.testing.assert_array_equal(problem.expectation().data["inputs"], held[:20])
        exact = problem.exact_at(at)
        assert exact is not None
        objectives.append(exact.objective)
    assert objectives[0] != objectives[1]


@pytest.mark.parametrize(
    ("shape", "value", "options", "message"),
    [
        ((30, 4, 3), 1.0, "", "has shape [30, 4, 3]; it must be [rows, columns]"),
        ((30,), 1.0, "", "has shape [30]; it must be [rows, columns]"),
        ((30, 4), 0.5, "", "likelihood=bernoulli is of pixels 0 or 1; binarise the images"),
        ((30, 4), np.nan, ",likelihood=gaussian", "every number must be finite"),
        ((30, 4), 1.0, ",size=31", "size is 31"),
    ],
)
def test_wrong_images(tmp_path: Path, shape: tuple[int, ...], value: float, options: str, message: str) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.full(shape, value))
    given = options or ",size=20"
    problem_is_refused(f"vae[dataset={path}{given}]", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vae[latent=0]", "latent' is '0'; it must be a whole number, at least 1"),
        ("vae[hidden=0]", "hidden' is '0'; it must be a whole number, at least 1"),
        ("vae[depth=0]", "depth' is '0'; it must be a whole number, at least 1"),
        ("vae[likelihood=poisson]", "unknown value of problem vae option 'likelihood'"),
        ("vae[kl=exact]", "unknown value of problem vae option 'kl'"),
        ("vae[dataset=iris]", "problem vae: dataset is 'iris'; it must be digits, or an .npy or .csv file"),
        ("vae[dataset=synthetic]", "dataset is 'synthetic'; it must be digits, or"),
        ("vae[size=1798]", "size is 1798; digits has 1797 rows"),
        ("vae[batch=101]", "batch is 101; there are 100 rows"),
    ],
)
def test_refused(text: str, message: str) -> None:
    problem_is_refused(text, message)
