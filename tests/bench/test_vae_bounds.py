"""Importance-weighted bounds of autoencoders: the ELBO for K = 1, exact by quadrature, and as frameworks have them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.sweep import suites
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.differences import check_gradient
from tests.support import Blocks, draws, estimate, make_cell, needs

ONE = "vae[size=1,latent=1,hidden=4,importance-samples=2]"
MINIBATCH = "vae[size=9,batch=4,hidden=5,at=initial,importance-samples=3]"
GREY = "vae[size=6,hidden=5,depth=2,likelihood=gaussian,at=initial,importance-samples=3]"
LINEAR = "linear-vae[size=7,batch=3,importance-samples=4]"


def estimates(problem: str, name: str, samples: int = 1, backend: Backend = None) -> tuple[Blocks, Blocks]:
    """And the noise they are made of."""
    at, made = make_problem(problem), make_estimator(name)
    expectation = at.expectation()
    outer = expectation.estimated_by(made)
    noise = draws(outer.noise_specs(expectation, samples, at.dimension), 5)
    return estimate(backend or get("numpy"), outer, expectation, at.parameters(), noise), noise


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("problem", ["linear-vae[size=7,batch=3]", "vae[size=5,hidden=4,at=initial]"])
@pytest.mark.parametrize(
    ("bound", "elbo"), [("iwae", "pathwise"), ("dreg", "pathwise[sticking-the-landing=true]")], ids=("iwae", "dreg")
)
def test_one_importance_sample_is_the_elbo(problem: str, bound: str, elbo: str, samples: int) -> None:
    """In every layer of both networks, estimate by estimate."""
    (found, _), (expected, _) = estimates(problem, bound, samples), estimates(problem, elbo, samples)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0.0, atol=1e-12 * np.abs(values).max())


@pytest.mark.parametrize(
    "problem",
    [
        ONE,
        pytest.param("linear-vae[size=6,latent=1,importance-samples=7]", marks=pytest.mark.slow),
        pytest.param("vae[size=2,hidden=4,importance-samples=3]", marks=pytest.mark.slow),
    ],
)
def test_gradient_is_that_of_the_objective(problem: str) -> None:
    check_gradient(make_problem(problem), relative=1e-7, absolute=1e-7, source="quadrature")


def test_the_bound_rises_to_the_evidence() -> None:
    """From the closed ELBO, with K; at the posterior it is the evidence for every K."""
    found = []
    for k in (1, 2, 8, 32):
        problem: Any = make_problem(f"linear-vae[latent=1,size=20,importance-samples={k}]")
        found.append(problem.exact().objective)
    assert all(a < b for a, b in itertools.pairwise([*found, problem.evidence(problem.parameters())]))
    best: Any = make_problem("linear-vae[latent=1,size=20,at=optimum,importance-samples=5]")
    assert best.exact().objective == pytest.approx(best.evidence(best.parameters()), rel=1e-12)
    size = np.abs(best.inputs()).sum()
    assert max(np.abs(g).max() for g in best.exact().gradient.values()) < 1e-9 * size


@pytest.mark.parametrize(
    ("estimator", "wrong"),
    [
        ("iwae", None),
        ("dreg", None),
        ("vimco", None),
        ("vimco[baseline=arithmetic]", None),
        ("iwae-stl", "encoder"),
        ("injected-squared-model-weights", "decoder"),
    ],
)
def test_means_are_exact(numpy_backend: Backend, estimator: str, wrong: str | None) -> None:
    """One image, one coordinate, two samples: integrated over all noise, against the problem's own quadrature. Sticking
    the landing is off in the encoder, squared weights in the decoder, and only there."""
    problem, made = make_problem(ONE), make_estimator(estimator)
    expectation, exact = problem.expectation(), problem.exact()
    assert exact is not None
    x = np.linspace(-8.5, 8.5, 250)
    w = np.exp(-0.5 * x * x) / np.exp(-0.5 * x * x).sum()
    noise = {"base": np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 1, 2, 1)}
    outer = expectation.estimated_by(made)
    found = estimate(numpy_backend, outer, expectation, problem.parameters(), noise)
    assert tuple(found) == problem.blocks
    for name, values in found.items():
        off = np.abs(np.tensordot(np.outer(w, w).ravel(), values, 1) - exact.gradient[name]).max()
        size = max(1.0, np.abs(exact.gradient[name]).max())
        assert (
            off > 1e-3 * np.abs(exact.gradient[name]).max() if name.startswith(wrong or "none") else off < 1e-9 * size
        )


def by_torch(problem: Any, noise: Blocks) -> tuple[Blocks, Blocks]:
    """IWAE's and DReG's estimates of one replicate, as one writes them with autograd."""
    import torch

    k, data = problem.importance_samples, torch.tensor(problem.inputs())
    theta = {n: torch.tensor(a, requires_grad=True) for n, a in problem.parameters().items()}
    rows = torch.tensor(noise["rows"][0]) if "rows" in noise else torch.arange(len(data))
    x, eps = data[rows], torch.tensor(noise["base"][0])  # [B, P], [B, K, L]

    def network(name: str, h: Any) -> Any:
        depth = sum(n.startswith(f"{name}.") and n.endswith("weight") for n in theta)
        for i in range(depth):
            h = h @ theta[f"{name}.{i}.weight"] + theta[f"{name}.{i}.bias"]
            h = torch.tanh(h) if i < depth - 1 else h
        return h

    def log_weights(of_density: Any) -> Any:
        loc, log_scale = network("encoder", x)[:, None].chunk(2, dim=-1)
        z = loc + log_scale.exp() * eps
        out = network("decoder", z)
        if problem.likelihood == "bernoulli":
            p: Any = torch.distributions.Bernoulli(logits=out, validate_args=False)
        else:
            p = torch.distributions.Normal(out, theta["decoder.log_scale"].exp())
        q = torch.distributions.Normal(of_density(loc), of_density(log_scale).exp())
        prior = torch.distributions.Normal(0.0, 1.0)
        return p.log_prob(x[:, None]).sum(-1) + prior.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)

    def gradient(loss: Any) -> Blocks:
        found = torch.autograd.grad(len(data) / len(rows) * loss, tuple(theta.values()))
        return {n: g.numpy() for n, g in zip(theta, found, strict=True)}

    iwae = gradient((torch.logsumexp(log_weights(lambda a: a), dim=1) - np.log(k)).sum())
    lw = log_weights(lambda a: a.detach())
    dreg = gradient((torch.softmax(lw, dim=1).detach() ** 2 * lw).sum())
    return iwae, {n: dreg[n] if n.startswith("encoder") else iwae[n] for n in theta}


def by_jax(problem: Any, noise: Blocks) -> Blocks:
    """IWAE's estimates of one replicate."""
    import jax
    import jax.numpy as jnp

    get("jax")  # float64
    data = problem.inputs()
    rows = noise["rows"][0] if "rows" in noise else np.arange(len(data))

    def bound(theta: Any) -> Any:
        def network(name: str, h: Any) -> Any:
            depth = sum(n.startswith(f"{name}.") and n.endswith("weight") for n in theta)
            for i in range(depth):
                h = h @ theta[f"{name}.{i}.weight"] + theta[f"{name}.{i}.bias"]
                h = jnp.tanh(h) if i < depth - 1 else h
            return h

        loc, log_scale = jnp.split(network("encoder", data[rows])[:, None], 2, axis=-1)
        z = loc + jnp.exp(log_scale) * noise["base"][0]
        out, x = network("decoder", z), data[rows][:, None]
        if problem.likelihood == "bernoulli":
            fit = jnp.where(x == 1.0, jax.nn.log_sigmoid(out), jax.nn.log_sigmoid(-out))
        else:
            fit = jax.scipy.stats.norm.logpdf(x, out, jnp.exp(theta["decoder.log_scale"]))
        density = jax.scipy.stats.norm.logpdf(z) - jax.scipy.stats.norm.logpdf(z, loc, jnp.exp(log_scale))
        lw = fit.sum(-1) + density.sum(-1)
        return len(data) / len(rows) * jnp.sum(jax.scipy.special.logsumexp(lw, axis=1))

    return {n: np.asarray(g) for n, g in jax.grad(bound)(problem.parameters()).items()}


@pytest.mark.parametrize("problem", [MINIBATCH, GREY, LINEAR])
def test_the_bound_as_a_framework_differentiates_it(problem: str) -> None:
    needs("torch")
    (found, noise), made = estimates(problem, "iwae"), make_problem(problem)
    iwae, dreg = by_torch(made, noise)
    doubly, _ = estimates(problem, "dreg")
    for name in made.blocks:
        np.testing.assert_allclose(found[name][0], iwae[name], rtol=0.0, atol=1e-10 * np.abs(iwae[name]).max())
        np.testing.assert_allclose(doubly[name][0], dreg[name], rtol=0.0, atol=1e-10 * np.abs(dreg[name]).max())


@pytest.mark.slow
@pytest.mark.parametrize("problem", [MINIBATCH, LINEAR])
def test_the_bound_as_jax_differentiates_it(problem: str) -> None:
    needs("jax")
    (found, noise), made = estimates(problem, "iwae"), make_problem(problem)
    for name, values in by_jax(made, noise).items():
        np.testing.assert_allclose(found[name][0], values, rtol=0.0, atol=1e-10 * np.abs(values).max())


@pytest.mark.parametrize("backend_name", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("estimator", ["iwae", "dreg", "vimco"])
@pytest.mark.parametrize("problem", [MINIBATCH, LINEAR])
def test_parity(problem: str, estimator: str, backend_name: str) -> None:
    needs(backend_name)
    (found, _), (expected, _) = (estimates(problem, estimator, 2, get(name)) for name in (backend_name, "numpy"))
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() <= 1e-10 * max(1.0, np.abs(values).max()), name


def test_groups_are_averaged() -> None:
    """S groups of K samples of every datum."""
    problem = make_problem(LINEAR)
    expectation, made = problem.expectation(), make_estimator("iwae")
    outer = expectation.estimated_by(made)
    noise = draws(outer.noise_specs(expectation, 3, 2), 4)
    assert noise["base"].shape == (4, 3, 12, 2)
    parts = [{"base": noise["base"][:, :, 4 * s : 4 * s + 4], "rows": noise["rows"]} for s in range(3)]
    whole, *each = (estimate(get("numpy"), outer, expectation, problem.parameters(), n) for n in (noise, *parts))
    for name, values in whole.items():
        mean = sum(part[name] for part in each) / 3.0
        np.testing.assert_allclose(values, mean, rtol=0.0, atol=1e-12 * np.abs(values).max())


def test_refused() -> None:
    for name in ("vae", "linear-vae"):
        with pytest.raises(UsageError, match="whose logarithm has no part that could enter exactly: use kl=sampled"):
            make_problem(f"{name}[importance-samples=2,kl=analytic]")
        with pytest.raises(UsageError, match="'importance-samples' is '0'; it must be a whole number"):
            make_problem(f"{name}[importance-samples=0]")
        reason = infeasible(make_cell(f"{name}[importance-samples=2]", "pathwise"))
        assert reason is not None
        assert "use iwae, dreg or vimco, or importance-samples=1" in reason


def test_the_suite_has_bounds() -> None:
    found = {(c.problem.name, c.estimator.name) for c in suites.load("vae").cells if c.problem.importance_samples > 1}
    assert {("vae", "iwae"), ("vae", "dreg"), ("linear-vae", "iwae"), ("linear-vae", "dreg")} <= found
