"""Advice: what it says, what it rests on, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.advising import agreement
from gradmeter.bench.advising.advising import advise
from gradmeter.bench.advising.candidates import cells_of
from gradmeter.bench.advising.search import CLOSE, Search
from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.libraries import elbo
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError
from tests.support import needs


@pytest.fixture(scope="module")
def found() -> Any:
    """Advice on a bundled problem in NumPy; it ends long before the time does."""
    problem = make_problem("square[k=3,scale=0.1]")  # f is nearly linear in z
    return advise(problem, seconds=100.0, estimators=["pathwise", "pathwise[antithetic=true]", "vargrad"])


def test_the_best_is_the_one_of_least_variance_times_seconds(found: Any) -> None:
    rows = found.table[found.table["block"] == "all"]
    timed = rows[rows["work_normalised_variance"].notna()]
    assert found.best == "pathwise[antithetic=true]"
    assert found.num_samples == 2
    assert timed.sort_values("work_normalised_variance")["num_samples"].iloc[0] == 2
    assert set(rows["verdict"]) <= {"unbiased", "inconclusive"}
    assert found.certain


def test_advice_prints_itself(found: Any) -> None:
    text, page = str(found), found._repr_html_()
    assert text.startswith("square: Use pathwise[antithetic=true] (S\u00a0=\u00a02; ")
    assert "less variance × seconds than the next, pathwise" in found.sentence
    assert "not timed, because the variance is over 100 times that of the best: vargrad" in text
    assert page.count("<tr>") == 4
    assert repr(found) == text


@pytest.mark.slow
def test_what_may_still_be_the_best_is_measured_on(tmp_path: Any) -> None:
    """Until the order is settled; what is far worse is not timed."""
    cell = Cell(make_problem("square[k=1]"), make_estimator("pathwise"), goals=StoppingCriteria(max_replicates=2**15))
    third = replace(cell, estimator=make_estimator("score-function"))
    with Store.create(tmp_path / "s.sqlite") as store:
        search = Search([cell, replace(cell, seed=1), third], 20.0, store)
        rows = [row for row in search.rows if row["block"] == "all"]
        assert all(row["seconds"] for row in rows[:2])
        ranking = search.ranking
        for other in ranking.ranked[1:]:
            ratio: Any = ranking.against(other, ranking.best)
            assert not search.settled or ratio.low > 1.0 or ratio.high <= CLOSE


def test_what_there_is_no_time_for_is_named() -> None:
    """The first candidate is always measured, but nothing is recommended without a second one."""
    found = advise("square", seconds=1e-9, estimators=["pathwise", "score-function"])
    assert found.best is None
    assert found.sentence.startswith("Nothing to recommend: there was time for 1 candidate only, pathwise")
    assert not found.certain
    assert found.remarks == ("not measured in 1e-09 s: score-function; give more seconds",)


def test_candidates() -> None:
    def names(text: str, **more: Any) -> dict[str, int]:
        cells = cells_of(make_problem(text), "numpy", None, more.get("samples", 1), 0, StoppingCriteria())
        return {cell.label().split(" · ")[1]: cell.num_samples for cell in cells}

    few, many = names("poisson-regression"), names("logistic-regression", samples=3)
    assert few["measure-valued"] == 1
    assert "measure-valued" not in many
    assert few["score-function[baseline=leave-one-out]"] == 8
    assert (many["pathwise"], many["pathwise[antithetic=true]"]) == (3, 4)


def _model(reference: Any) -> Any:
    """A model whose reference is not computed: four coordinates, quartic."""
    torch = pytest.importorskip("torch")
    return gradmeter.Model(
        "quartic",
        lambda theta, z: -(z**4).sum(dim=1) - torch.sin(z[:, 0]),
        {},
        latent=3,
        loc=np.full(3, 0.4),
        log_scale=np.full(3, -1.5),
        framework="torch",
        reference=reference,
    )


@pytest.mark.slow
def test_estimators_are_compared_with_each_other_without_an_exact_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("torch")
    model = _model(None)
    truth = model.exact()
    monkeypatch.setattr(type(model), "exact", lambda self: self.reference)
    made = [make_estimator(e) for e in ("pathwise", "score-function[baseline=leave-one-out]")]
    cells = [Cell(model, e, "torch", num_samples=s) for e, s in zip(made, (1, 8), strict=True)]
    known, said = agreement.with_reference(cells, 10.0)
    assert said is not None
    assert said.reference == "pathwise"
    reference: Any = known[1].problem.exact()
    assert reference.source == "estimator"
    for name, g in truth.gradient.items():
        assert np.all(np.abs(reference.gradient[name] - g) <= reference.errors[name] + truth.errors[name])
    row = {"exact_source": "estimator", "verdict": "biased"}
    assert agreement.worded(row)["verdict"] == "disagrees"
    assert agreement.worded({**row, "exact_source": "rqmc"})["verdict"] == "biased"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give parameters=..., a dict of the latent variables by name with their values"),
        ({"parameters": {"w": 1.0}}, "log_density uses neither JAX nor PyTorch, one of which has to differentiate it"),
        ({"parameters": {"w": 1.0}, "seconds": 0.0}, "seconds is '0.0'; it must be a finite number, above 0"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        advise(lambda p: -np.sum(p["w"] ** 2), **arguments)


def test_a_problem_has_its_own_point() -> None:
    with pytest.raises(UsageError, match="square is a problem with a point of its own; leave out parameters"):
        advise(make_problem("square"), {"w": 1.0}, full_rank=True)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_advice_on_a_density(framework: str) -> None:
    """Of a quadratic log density, `pathwise` with antithetic pairs has a variance in log σ alone."""
    needs(framework)
    if framework == "torch":
        import torch as xp
    else:
        import jax.numpy as xp  # type: ignore[no-redef]

    found = gradmeter.advise(lambda p: -0.5 * xp.sum(p["w"] ** 4), {"w": np.ones(5)}, seconds=20.0)
    assert found.best is not None
    assert set(found.table["backend"]) == {framework}
    assert set(found.table["exact_source"]) == {"rqmc"}
    assert "biased" not in set(found.table["verdict"])


def _bound() -> Any:
    """Return an importance-weighted bound of three coordinates, for which there is no quadrature.

    The posterior of the last two is q, so their part of the gradient is 0, and that of the first is `elbo.renyi`.
    """
    torch = pytest.importorskip("torch")
    x = torch.tensor(elbo.DATA, dtype=torch.float64)

    def log_joint(theta: Any, z: Any) -> Any:
        likelihood = -0.5 * ((x.to(z.dtype) - z[:, :1]) ** 2).sum(dim=1)
        return likelihood - 0.5 * z[:, 0] ** 2 - 0.5 * ((z[:, 1:] - 1.0) ** 2).sum(dim=1)

    loc, log_scale = np.array([elbo.LOC, 1.0, 1.0]), np.array([np.log(elbo.SCALE), 0.0, 0.0])
    options: dict[str, Any] = {"latent": 3, "loc": loc, "log_scale": log_scale, "importance_samples": 2}
    return gradmeter.Model("bound", log_joint, {}, framework="torch", **options)


@pytest.mark.slow
def test_right_estimators_agree_and_a_wrong_one_is_named() -> None:
    """Sticking the landing on a bound of two importance samples leaves out a score term that has no mean of 0."""
    needs("torch")
    model = _bound()
    assert model.exact() is None
    found = advise(model, seconds=600.0, estimators=["iwae", "dreg", "iwae-stl"])
    rows = found.table[found.table["block"] == "all"].set_index("estimator")
    assert dict(rows["verdict"]) == {"iwae": "agrees", "dreg": "agrees", "iwae-stl": "disagrees"}
    assert set(rows["exact_source"]) == {"estimator"}
    assert any("iwae-stl and iwae have different means" in remark for remark in found.remarks)
    assert found.best != "iwae-stl"


@pytest.mark.slow
def test_the_mean_of_an_estimator_is_near_the_exact_gradient_of_a_bound() -> None:
    needs("torch")
    cell = Cell(_bound(), make_estimator("iwae"), "torch")
    known, _ = agreement.with_reference([cell], 10.0)
    reference: Any = known[0].problem.exact()
    for name, slope in zip(("loc", "log_scale"), elbo.renyi(0.0, 2).values(), strict=True):
        exact = np.array([slope, 0.0, 0.0])
        assert np.all(np.abs(reference.gradient[name] - exact) <= reference.errors[name])
