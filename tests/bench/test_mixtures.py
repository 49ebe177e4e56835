"""The Bayesian mixture: derivatives, exact gradients, both bounds, minibatches, and data that is refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.problems.mixtures.points import fingerprint, load, principal_components, synthetic
from gradmeter.bench.problems.rqmc import exact_by_rqmc
from gradmeter.estimators import Expectation, UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.parity import Case
from tests.support import draws, estimate, make_cell, measured, needs

NAME = "bayesian-gaussian-mixture"
MIXTURES = (
    f"{NAME}[at=start]",
    f"{NAME}[at=start,batch=7,hyperparameters=learned]",
    f"{NAME}[bound=mean-field,at=start,entropy=analytic,hyperparameters=learned]",
    f"{NAME}[bound=mean-field,loc=0.3,scale=0.4,dataset=wine,dim=3,components=2,batch=7]",
)
JOINT = f"{NAME}[bound=joint,at=start,hyperparameters=learned,dataset=synthetic,size=12,components=2]"
#: Two numbers of noise: integrated over.
SMALL = (
    f"{NAME}[dim=1,components=2,at=start,hyperparameters=learned,dataset=synthetic,size=30]",
    f"{NAME}[dim=2,components=1,loc=0.3,scale=0.2,dataset=synthetic,size=30,entropy=analytic]",
    f"{NAME}[bound=mean-field,dim=1,components=2,at=start,hyperparameters=learned,dataset=wine]",
    f"{NAME}[bound=mean-field,dim=1,components=2,loc=0.2,scale=0.3,entropy=analytic]",
)


def at_samples(problem: str, backend: Backend, samples: int) -> tuple[Expectation, Any, Any, Any]:
    """The expectation bound to its point, z and noise, on a backend."""
    made = make_problem(problem)
    whole = made.expectation()
    drawn = draws(make_estimator("pathwise").noise_specs(whole, samples, made.dimension), 5)
    put = {k: backend.asarray(a, None if a.dtype.kind == "i" else "float64") for k, a in drawn.items()}
    parameters = {k: backend.asarray(a, "float64") for k, a in made.parameters().items()}
    on_device = whole.bind({k: backend.asarray(a, "float64") for k, a in whole.data.items()})
    bound, own = on_device.at(parameters)
    return bound, own, whole.family.sample(backend, own, put), put


@pytest.mark.parametrize("problem", MIXTURES)
@pytest.mark.parametrize("samples", [1, 3])
def test_derivatives(problem: str, samples: int) -> None:
    """In z, along z twice and, z summed out, in the hyperparameters: closed forms against automatic ones."""
    needs("torch")
    differentiating = get("torch")
    bound, _, z, noise = at_samples(problem, differentiating, samples)
    automatic = Expectation(bound.family, bound.integrand, bound.data, bound.entropy, "autodiff")
    ones = differentiating.xp.ones_like(z[..., 0])
    pairs = [
        [e.integrand_gradient(differentiating, z, noise) for e in (bound, automatic)],
        [e.integrand_hessian_product(differentiating, z, z, noise) for e in (bound, automatic)],
    ]
    if bound.model_blocks and "mean-field" not in problem:
        found = [e.explicit_pullback(differentiating, z, ones, noise) for e in (bound, automatic)]
        pairs += [[f[name] for f in found] for name in bound.model_blocks]
    for closed, expected in pairs:
        a, b = differentiating.to_numpy(closed), differentiating.to_numpy(expected)
        np.testing.assert_allclose(a, b, rtol=0.0, atol=1e-11 * np.abs(b).max())


@pytest.mark.parametrize("problem", MIXTURES[2:])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_quadratic_form_by_coordinates(numpy_backend: Backend, problem: str, samples: int) -> None:
    """Replacement against D evaluations; local terms move as f does."""
    bound, own, z, noise = at_samples(problem, numpy_backend, samples)
    moved = z[..., ::-1] + 0.3
    offered = bound.replaced(numpy_backend, own, z, moved, noise)
    plain = dataclasses.replace(bound.integrand)
    object.__setattr__(plain, "replaced", None)
    one_by_one = Expectation(bound.family, plain, bound.data, bound.entropy).replaced(
        numpy_backend, own, z, moved, noise
    )
    np.testing.assert_allclose(offered, one_by_one, rtol=1e-12)
    local = bound.integrand.local_terms(np, bound.data, moved, noise) - bound.integrand.local_terms(
        np, bound.data, z, noise
    )
    whole = bound.integrand.value(np, bound.data, moved, noise) - bound.integrand.value(np, bound.data, z, noise)
    np.testing.assert_allclose(local.sum(axis=-1), whole, rtol=1e-10)


@pytest.mark.parametrize("problem", SMALL)
@pytest.mark.parametrize("estimator", ["pathwise", "score-function[baseline=optimal]"])
def test_exact_by_integration(problem: str, estimator: str) -> None:
    """Derivatives of f and values of f, integrated apart, both give the exact gradient of every block."""
    rows = measured(make_cell(problem, estimator, precision=1.0))
    assert {row["verdict"] for row in rows.values()} == {"unbiased"}
    assert {row["certificate"] for row in rows.values()} == {"integration"}
    assert rows["all"]["bias_bound"] < 1e-10


@pytest.mark.parametrize("learned", ["fixed", "learned"])
@pytest.mark.parametrize(
    ("dataset", "dim", "components"), [("iris", 2, 3), ("wine", 3, 2), ("digits", 5, 4), ("synthetic", 2, 3)]
)
def test_the_gradient_is_zero_where_cavi_ends(dataset: str, dim: int, components: int, learned: str) -> None:
    given = f"dataset={dataset},dim={dim},components={components},hyperparameters={learned}"
    problem = make_problem(f"{NAME}[{given},bound=mean-field,at=cavi]")
    exact = problem.exact()
    assert exact is not None
    assert exact.objective is not None
    assert np.sqrt(sum((g**2).sum() for g in exact.gradient.values())) <= 1e-8
    start = make_problem(f"{NAME}[{given},bound=mean-field,at=start]").exact()
    assert start is not None
    assert start.objective is not None
    assert exact.objective > start.objective


def test_summing_z_out_raises_the_bound() -> None:
    means = f"{NAME}[dim=1,components=2,at=cavi"
    collapsed, mean_field = (make_problem(f"{means}{more}]").exact() for more in ("", ",bound=mean-field"))
    assert collapsed is not None
    assert mean_field is not None
    assert collapsed.objective is not None
    assert mean_field.objective is not None
    assert mean_field.objective < collapsed.objective < mean_field.objective + 10.0


@pytest.mark.parametrize("at", ["given", "cavi"])
def test_rqmc_is_within_its_bound_of_the_quadrature(at: str) -> None:
    """Bound by its own level: false alarm 1e-3, seeds fixed. More means have no quadrature, only this."""
    problem: Any = make_problem(f"{NAME}[dim=1,components=2,at={at},size=40,dataset=synthetic]")
    found, exact = exact_by_rqmc(problem, problem.parameters()), problem.exact()
    assert exact.source == "quadrature"
    for name, gradient in exact.gradient.items():
        np.testing.assert_array_less(np.abs(found.gradient[name] - gradient), found.errors[name] + 1e-9)
    more = make_problem(f"{NAME}[dim=2,components=2,size=20,dataset=synthetic]")
    assert more.exact().source == "rqmc"
    assert more.exact_at(more.parameters()) is None


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        (f"{JOINT[:-1]},batch=5]", "score-function"),
        pytest.param(MIXTURES[1], "taylor", marks=pytest.mark.slow),
        pytest.param(MIXTURES[2], "measure-valued", marks=pytest.mark.slow),
        pytest.param(MIXTURES[1], "score-function", marks=pytest.mark.slow),
        pytest.param(MIXTURES[3], "rao-blackwell", marks=pytest.mark.slow),
    ],
)
def test_backends_agree(differentiating: Backend, problem: str, estimator: str) -> None:
    case = Case(problem, estimator, 4)
    case.check(case.on(differentiating), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("problem", MIXTURES)
def test_compiled(differentiating: Backend, problem: str) -> None:
    case = Case(problem, "pathwise", 4)
    case.check(case.on(differentiating, compiled=True), 1e-12)


@pytest.mark.parametrize(
    ("bound", "estimator"),
    [
        ("collapsed", "pathwise"),
        ("mean-field", "pathwise"),
        ("mean-field", "score-function"),
        ("joint", "score-function"),
    ],
)
def test_minibatches_average_to_the_whole(numpy_backend: Backend, bound: str, estimator: str) -> None:
    """Every batch of one row in turn, at the same noise: their mean is the estimate from all rows."""
    options = f"bound={bound},at=start,hyperparameters=learned"
    batched, full = (make_problem(f"{NAME}[{options}{more}]") for more in (",batch=1", ""))
    made, parameters = make_estimator(estimator), full.parameters()
    one = draws(made.noise_specs(full.expectation(), 2, full.dimension), 1)
    noise = {**{k: np.repeat(a, 150, axis=0) for k, a in one.items()}, "rows": np.arange(150)[:, None]}
    every = estimate(numpy_backend, made, batched.expectation(), parameters, noise)
    whole = estimate(numpy_backend, made, full.expectation(), parameters, one)
    for block, values in every.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(values.mean(axis=0), whole[block][0], rtol=0.0, atol=1e-11 * size, err_msg=block)


def test_at_the_best_choices_the_joint_form_is_the_mean_field_one() -> None:
    """Objective and gradients, and f itself: linear in z, it is at z = r what q(z) makes of it."""
    joint, mean_field = make_problem(JOINT), make_problem(JOINT.replace("joint", "mean-field"))
    at, closed = joint.exact(), mean_field.exact()
    assert at is not None
    assert closed is not None
    assert at.objective == pytest.approx(closed.objective, rel=1e-13)
    for name, values in closed.gradient.items():
        np.testing.assert_allclose(at.gradient[name], values, rtol=0.0, atol=1e-11 * max(1.0, np.abs(values).max()))
    np.testing.assert_allclose(at.gradient["logits"], 0.0, atol=1e-12)
    parameters = joint.parameters()
    r = np.exp(parameters["logits"])
    r /= r.sum(axis=1, keepdims=True)
    means = np.random.default_rng(0).normal(size=(3, 4))
    both = np.concatenate([means, np.tile(r.ravel(), (3, 1))], axis=1)
    values = [
        bound.integrand.value(np, bound.data, z, {})
        for bound, z in (
            (joint.expectation().at(parameters)[0], both),
            (mean_field.expectation().at(mean_field.parameters())[0], means),
        )
    ]
    np.testing.assert_allclose(values[0] - (r * np.log(r)).sum(), values[1], rtol=1e-12)


@pytest.mark.parametrize("entropy", ["sampled", "analytic"])
def test_the_exact_gradient_of_a_free_q(entropy: str) -> None:
    """Of choices that are not the best: central differences of the exact ELBO, and estimates of it."""
    text = f"{JOINT[:-1]},entropy={entropy}]"
    sampled = make_problem(JOINT)
    generator = np.random.default_rng(1)
    at = {name: a + 0.3 * generator.normal(size=a.shape) for name, a in sampled.parameters().items()}
    found = make_problem(text).exact_at(at)
    assert found is not None
    for name, values in at.items():
        for index in list(np.ndindex(values.shape))[:4]:
            ends = []
            for step in (1e-5, -1e-5):
                moved = {**at, name: values.copy()}
                moved[name][index] += step
                exact = sampled.exact_at(moved)
                assert exact is not None
                assert exact.objective is not None
                ends.append(exact.objective)
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(found.gradient[name][index], abs=1e-6)


@pytest.mark.parametrize("entropy", ["sampled", "analytic"])
def test_sampling_the_choices_too_is_unbiased(entropy: str) -> None:
    """Of 36 numbers' biases none is beyond 5 standard errors: a false alarm in 50,000."""
    problem = f"{JOINT[:-1]},entropy={entropy}]"
    rows = measured(make_cell(problem, "score-function[baseline=leave-one-out]", precision=0.05, max_replicates=2**15))
    assert list(rows) == ["loc", "log_scale", "logits", "log_tau", "log_sigma", "weight_logits", "all"]
    assert all(abs(row["bias_z"]) < 5.0 for row in rows.values() if row["bias_z"] is not None)  # too skewed for z
    assert all(rows[name]["bias_z"] is not None for name in ("loc", "log_scale", "log_tau", "log_sigma"))
    assert {row["exact_source"] for row in rows.values()} == {"closed-form"}


def test_data() -> None:
    for dataset, shape in (("iris", (150, 4)), ("wine", (178, 3)), ("digits", (1797, 2)), ("synthetic", (70, 5))):
        points = load(dataset, shape[1], 2, 70)
        assert points.shape == shape
        np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=1e-12)
        assert np.mean(points**2) == pytest.approx(1.0)
    raw = np.random.default_rng(0).normal(size=(40, 6))
    covariance = np.cov(principal_components(raw, 3).T)
    np.testing.assert_allclose(np.diag(covariance), np.linalg.eigvalsh(np.cov(raw.T))[::-1][:3])
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-12)
    points, truth = synthetic(20_000, 2, 3)
    for k in range(3):
        own = points[truth.components == k]
        np.testing.assert_allclose(own.mean(axis=0), truth.means[k], atol=0.02)
        np.testing.assert_allclose(own.std(axis=0), truth.scale, rtol=0.05)


def test_a_users_file(tmp_path: Path) -> None:
    table = np.random.default_rng(1).normal(size=(12, 3))
    np.save(tmp_path / "points.npy", table)
    lines = ["a,b,c", *(",".join(map(repr, row)) for row in table.tolist())]
    (tmp_path / "points.csv").write_text("\n".join(lines))
    both = [load(str(tmp_path / f"points.{kind}"), 2, 2) for kind in ("npy", "csv")]
    np.testing.assert_allclose(both[0], both[1], atol=1e-12)
    problem = make_problem(f"{NAME}[dataset={tmp_path}/points.csv]")
    assert problem.points().shape == (12, 2)  # type: ignore[attr-defined]
    before = fingerprint(f"{tmp_path}/points.csv")
    (tmp_path / "points.csv").write_text("1,2\n3,4\n5,6")
    assert fingerprint(f"{tmp_path}/points.csv") != before


HOSTILE = [
    ("components=200", "200 components need at least as many points; there are 150"),
    ("batch=151", "batch is 151; there are 150 rows"),
    ("dim=5", "dim is 5; iris has 150 points of 4 coordinates"),
    ("at=cavi,loc=1", "at=cavi chooses loc and scale itself; leave them out"),
    ("dataset=iri", "unknown dataset 'iri'; give synthetic, iris, wine, digits, or an .npy or .csv file"),
    ("dataset=/nowhere/a.csv", "cannot read '/nowhere/a.csv': No such file or directory"),
    ("bound=mean-field,hyperparameters=learned,differentiate=autodiff", "autodiff would differentiate q(z) too"),
]


@pytest.mark.parametrize(("options", "message"), HOSTILE)
def test_refused(options: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        make_problem(f"{NAME}[{options}]").expectation()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2\n3,nan\n5,6", "holds nan at row 1, column 1; every number must be finite"),
        ("1,2\n3\n5,6", "cannot read numbers from"),
        ("", "has shape [0]; it must be [rows, columns], none of them 0"),
        ("a,b", "has shape [0]; it must be [rows, columns], none of them 0"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(UsageError, match=re.escape(message)):
        make_problem(f"{NAME}[dataset={tmp_path}/bad.csv]").expectation()
