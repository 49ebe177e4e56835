"""The linear VAE: its closed forms against others', and the means of estimates as exact facts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import gradmeter
from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.problems.vae import inputs
from gradmeter.bench.problems.vae.linear import LinearVae
from gradmeter.estimators import NotApplicable
from gradmeter.estimators.backends.backend import Backend
from tests.differences import check_gradient
from tests.support import draws, estimate, integrated, make_cell, measured, problem_is_refused, state_of

POINTS = ("linear-vae", "linear-vae[at=initial,dataset=wine,latent=3]", "linear-vae[kl=analytic,size=9]")
#: By values, by gradients; with baselines that are learnt, drawn from the other samples, or neither.
ESTIMATORS = (
    "score-function",
    "score-function[baseline=moving-average]",
    "score-function[baseline=optimal]",
    "score-function[baseline=leave-one-out]",
    "rao-blackwell",
    "pathwise",
    "pathwise[antithetic=true]",
    "pathwise[sticking-the-landing=true]",
    "measure-valued",
)


@dataclass(frozen=True)
class Given(LinearVae):
    """Its rows are the same numbers however many of them there are: one alone, standardised by itself, is all 0."""

    def all_inputs(self) -> np.ndarray:
        return inputs.standardised(self.dataset, inputs.rows(self.dataset)[0])


@pytest.mark.parametrize("dataset", ["iris", "wine", "digits"])
def test_the_bound_is_tight_at_the_optimum(dataset: str) -> None:
    """There the posterior is mean-field and linear in x, and the encoder equals it."""
    problem: Any = make_problem(f"linear-vae[dataset={dataset},at=optimum,latent=3]")
    exact, at = problem.exact(), problem.parameters()
    evidence = problem.evidence(at)
    assert exact.objective == pytest.approx(evidence, rel=1e-12)
    size = np.abs(problem.inputs()).sum()
    assert max(np.abs(g).max() for g in exact.gradient.values()) < 1e-9 * size
    generator = np.random.default_rng(4)
    for _ in range(5):  # and the evidence is largest there
        moved = {name: a + 0.03 * generator.standard_normal(a.shape) for name, a in at.items()}
        assert problem.exact_at(moved).objective < problem.evidence(moved) < evidence


def test_evidence_is_that_of_a_gaussian() -> None:
    problem: Any = make_problem("linear-vae[at=initial]")
    at = problem.parameters()
    weight, variance = at["decoder.0.weight"], np.exp(2.0 * at["decoder.log_scale"][0])
    law = multivariate_normal(at["decoder.0.bias"], weight.T @ weight + variance * np.eye(4))
    assert problem.evidence(at) == pytest.approx(law.logpdf(problem.inputs()).sum(), rel=1e-12)


@pytest.mark.parametrize("text", POINTS)
def test_gradient_is_that_of_the_objective(text: str) -> None:
    check_gradient(make_problem(text), relative=1e-7, absolute=1e-6)


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_means_are_exact(numpy_backend: Backend, estimator: str, kl: str) -> None:
    """Two data, one coordinate, as few samples as can be: integrated over all noise of normals, whose polynomials few
    nodes integrate exactly; of weak derivatives one datum's."""
    weak = estimator == "measure-valued"
    problem = Given(at="initial", latent=1, kl=kl, size=1 if weak else 2)
    cell = make_cell(problem, estimator)
    if infeasible(cell) is not None:
        assert kl == "analytic"
        assert "sticking-the-landing needs an ELBO with entropy=sampled" in str(infeasible(cell))
        return
    expectation, exact = problem.expectation(), problem.exact()
    assert exact is not None
    found = integrated(
        numpy_backend,
        expectation.estimated_by(cell.estimator),
        expectation,
        problem.parameters(),
        cell.num_samples,
        state=state_of(problem, estimator, cell.num_samples),
        dimension=1,
        nodes=20 if weak else 6,
    )
    assert tuple(found) == problem.blocks
    for name, (mean, _, size) in found.items():
        np.testing.assert_allclose(mean, exact.gradient[name], rtol=0.0, atol=1e-10 * max(1.0, size.max()))


@pytest.mark.parametrize("estimator", ["score-function[baseline=leave-one-out]", "pathwise", "rao-blackwell"])
def test_minibatches_are_enumerated(numpy_backend: Backend, estimator: str) -> None:
    """Every minibatch of one of three data in turn, integrated over the samples: the mean is that over all data."""
    problem = make_problem("linear-vae[at=initial,latent=1,size=3,batch=1]")
    made, expectation, exact = make_estimator(estimator), problem.expectation(), problem.exact()
    samples = made.smallest_num_samples()
    assert exact is not None
    outer = expectation.estimated_by(made)
    specs = outer.noise_specs(expectation, samples, 1)
    assert specs["rows"].shape == (1,)
    assert specs["rows"].population == 3
    x, w = np.polynomial.hermite_e.hermegauss(6)
    grid = np.asarray(list(itertools.product(x, repeat=samples)))
    weights = np.prod(list(itertools.product(w / w.sum(), repeat=samples)), axis=1)
    total = {name: np.zeros(a.shape) for name, a in exact.gradient.items()}
    for row in range(3):
        noise = {
            "base": grid.reshape(len(grid), *specs["base"].shape),
            "rows": np.full((len(grid), 1), row),
        }
        found = estimate(numpy_backend, outer, expectation, problem.parameters(), noise)
        total = {name: a + np.tensordot(weights, found[name], axes=1) / 3.0 for name, a in total.items()}
    for name, mean in total.items():
        np.testing.assert_allclose(mean, exact.gradient[name], rtol=1e-10, atol=1e-9)


def test_the_naive_exchange_is_caught() -> None:
    """In every block of the encoder; the decoder's own gradient is right, and called so."""
    rows = measured(make_cell(Given(size=1, latent=1, at="initial"), "injected-naive-exchange", max_replicates=2**12))
    assert rows["all"]["verdict"] == "biased"
    for name in make_problem("linear-vae").blocks:
        assert rows[name]["verdict"] == ("biased" if name.startswith("encoder") else "unbiased")
        assert rows[name]["certificate"] == "integration"


@pytest.mark.parametrize("estimator", ["importance-sampling", "overdispersed", "iwae", "dreg"])
def test_certificates_by_integration(estimator: str) -> None:
    """Of one datum, for those whose samples come from elsewhere and those that are for bounds."""
    rows = measured(make_cell(Given(size=1, latent=1, at="initial"), estimator, max_replicates=2**12))
    assert {(row["verdict"], row["certificate"]) for row in rows.values()} == {("unbiased", "integration")}


LEAVE_ONE_OUT = "score-function[baseline=leave-one-out]"
CERTIFIED = [("pathwise", 1, 30), ("pathwise", 4, 30)]
MORE = [(e, s, b) for e in ("pathwise", LEAVE_ONE_OUT) for s in (2, 8) for b in (5, 10, 50)]
MORE += [(LEAVE_ONE_OUT, 2, 30), ("pathwise", 4, None), (LEAVE_ONE_OUT, 8, None)]
#: Replicates at most; the fewer the samples and the data, the more skewed an estimate is.
MOST = {(LEAVE_ONE_OUT, 2, 5): 2**22, **dict.fromkeys(CERTIFIED[:2], 2**18)}


@pytest.mark.parametrize(
    ("estimator", "samples", "batch"),
    [*CERTIFIED, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)],
)
def test_certified_within_two_per_cent(estimator: str, samples: int, batch: int | None) -> None:
    """Of ∇φ and of ∇θ: every block's bound, relative to the gradient of its network; at 99.9 % and fixed seeds."""
    problem = f"linear-vae[batch={batch}]" if batch else "linear-vae"
    most = MOST.get((estimator, samples, batch), 2**19)
    rows = measured(make_cell(problem, estimator, samples, bias_bound=0.02, max_replicates=most))
    assert rows["all"]["verdict"] == "unbiased"
    for network in ("encoder", "decoder"):
        own = [row for name, row in rows.items() if name.startswith(network)]
        assert all(row["verdict"] in ("unbiased", "inconclusive") for row in own)
        norm = np.linalg.norm([row["exact_norm"] for row in own])
        assert max(row["bias_bound"] * row["exact_norm"] for row in own) <= 0.02 * norm


@pytest.mark.slow
def test_the_plain_score_function_is_certified_on_a_toy() -> None:
    rows = measured(make_cell("linear-vae[size=10,latent=1]", "score-function", bias_bound=0.02, max_replicates=2**22))
    assert {row["verdict"] for row in rows.values()} == {"unbiased"}


def test_the_minibatch_part_is_that_of_the_data() -> None:
    """Given the minibatch, estimates are (N/B) Σ of the data's own gradients g_n, so drawn without replacement their
    variance is N²/B (1 − B/N) s²(g_n), whatever the estimator and S; within five standard errors."""
    problem = Given(size=8, latent=1)
    at = problem.parameters()
    sums = [Given(size=n, latent=1, at="initial").exact_at(at).gradient for n in range(1, 9)]  # of the first n
    gradients = {name: np.diff([g[name].ravel() for g in sums], axis=0, prepend=0.0) for name in problem.blocks}
    expected = {name: 64.0 / 4.0 * 0.5 * np.var(g, axis=0, ddof=1).sum() for name, g in gradients.items()}
    for estimator, samples in (("pathwise", 1), (LEAVE_ONE_OUT, 4)):
        found = gradmeter.minibatch_split(replace(problem, batch=4), estimator, samples=samples, replicates=2**12)
        assert list(found["block"]) == [*problem.blocks, "all"]
        for row in found.to_dict("records")[:-1]:
            error = (row["minibatch_high"] - row["minibatch_low"]) / 3.92
            assert abs(row["minibatch"] - expected[row["block"]]) <= 5.0 * error, row["block"]


def test_a_whole_batch_is_one_minibatch(numpy_backend: Backend) -> None:
    """In whatever order, with its noise in that order."""
    whole, drawn = (make_problem(f"linear-vae[size=6{o}]") for o in ("", ",batch=6"))
    made = make_estimator("pathwise")
    e, f = whole.expectation(), drawn.expectation()
    noise = draws(e.estimated_by(made).noise_specs(e, 3, 2), 4)
    order = np.stack([np.random.default_rng(r).permutation(6) for r in range(4)])
    expected = estimate(numpy_backend, e.estimated_by(made), e, whole.parameters(), noise)
    other = {"base": np.take_along_axis(noise["base"], order[:, :, None, None], axis=1), "rows": order}
    found = estimate(numpy_backend, f.estimated_by(made), f, drawn.parameters(), other)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear-vae[latent=0]", "latent' is '0'; it must be a whole number, at least 1"),
        ("linear-vae[latent=4]", "latent is 4; it must be less than the 4 columns of iris"),
        ("linear-vae[size=2]", "need at least 4 rows"),
        ("linear-vae[size=151]", "size is 151; iris has 150 rows"),
        ("linear-vae[size=20,batch=21]", "batch is 21; there are 20 rows"),
        ("linear-vae[dataset=mnist]", "dataset is 'mnist'; it must be iris, wine, digits, or an .npy or .csv file"),
    ],
)
def test_refused(text: str, message: str) -> None:
    problem_is_refused(text, message)


def test_what_rests_on_equal_parameters_is_refused() -> None:
    reason = infeasible(make_cell("linear-vae", "taylor"))
    assert reason is not None
    assert "its parameters differ from datum to datum" in reason
    with pytest.raises(NotApplicable, match="problem linear-vae draws no minibatch here"):
        gradmeter.minibatch_split("linear-vae", "pathwise")


def test_more_samples_than_the_data_have_rows_for_are_measured() -> None:
    """S · B is more than the data: nothing may draw the rows of a minibatch once a sample."""
    rows = gradmeter.measure("linear-vae[batch=30]", "pathwise", samples=8, timing=False, max_replicates=2**11)
    assert set(rows["status"]) == {"ok"}
