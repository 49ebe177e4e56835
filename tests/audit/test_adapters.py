"""Audits through adapters: objects of other libraries against gradients in closed form.

Those of NumPyro, Pyro, TensorFlow Probability and PyMC run where the library is installed (`make adapters`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradmeter
from tests.support import needs

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries
DATA = (1.0, 2.0, 0.5)
#: The point at which ELBOs are differentiated: q = N(loc, scale²).
LOC, SCALE = 0.3, 0.7
#: A budget that every correct gradient here is certified by, to 5 %.
ENOUGH: dict[str, Any] = {"replicates": 2**17, "seconds": 60.0, "bias_bound": 0.05}


def exact_elbo() -> dict[str, float]:
    """Return ∇ of E_q[log p(x, z) − log q(z)] in loc and log σ for z ~ N(0, 1), x_n ~ N(z, 1)."""
    n, total = len(DATA), sum(DATA)
    return {"loc": total - (n + 1) * LOC, "log_scale": 1.0 - (n + 1) * SCALE**2}


def test_numpyro_elbos_are_unbiased() -> None:
    numpyro = pytest.importorskip("numpyro", reason="numpyro is not installed; make adapters")
    import jax.numpy as jnp
    from numpyro import distributions as dist
    from numpyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

    from gradmeter.adapters import numpyro as adapter

    def model(x: Any) -> None:
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", len(DATA)):
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Any) -> None:
        loc = numpyro.param("loc", LOC)
        scale = numpyro.param("log_scale", SCALE, constraint=dist.constraints.positive)
        numpyro.sample("z", dist.Normal(loc, scale))

    for estimator in (Trace_ELBO(), TraceMeanField_ELBO(), TraceGraph_ELBO()):
        gradient, parameters = adapter.elbo(estimator, model, guide, jnp.asarray(DATA))
        found = gradmeter.audit(gradient, parameters, exact=exact_elbo(), **ENOUGH)
        assert found.verdict == "unbiased", found


def test_pyro_elbos_are_not_biased() -> None:
    pyro = pytest.importorskip("pyro", reason="pyro is not installed; make adapters")
    import torch
    from pyro import distributions as dist
    from pyro.infer import Trace_ELBO, TraceGraph_ELBO

    from gradmeter.adapters import pyro as adapter

    def model(x: Any) -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(DATA)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Any) -> None:
        loc = pyro.param("loc", torch.tensor(LOC))
        scale = pyro.param("log_scale", torch.tensor(SCALE), constraint=dist.constraints.positive)
        pyro.sample("z", dist.Normal(loc, scale))

    for estimator in (Trace_ELBO(), TraceGraph_ELBO()):
        gradient, _ = adapter.elbo(estimator, model, guide, torch.tensor(DATA))
        found = gradmeter.audit(gradient, exact=exact_elbo(), replicates=2**11, seconds=60.0)
        assert found.verdict == "inconclusive", found  # so few gradients bound the bias, but not to 1 %
        assert found.bias_bound is None or found.bias_bound < 0.5, found


def test_tfp_losses_are_unbiased() -> None:
    pytest.importorskip("tensorflow_probability", reason="TensorFlow Probability is not installed; make adapters")
    import jax.numpy as jnp
    from tensorflow_probability.substrates import jax as probability

    from gradmeter.adapters import tfp as adapter

    def joint(z: Any) -> Any:
        return -0.5 * z**2 - 0.5 * ((jnp.asarray(DATA) - z[..., None]) ** 2).sum(-1)

    def surrogate(p: Any) -> Any:
        return probability.distributions.Normal(p["loc"], jnp.exp(p["log_scale"]))

    at = {"loc": jnp.asarray(LOC), "log_scale": jnp.log(SCALE)}
    kinds = probability.vi.GradientEstimators
    for kind in (kinds.REPARAMETERIZATION, kinds.SCORE_FUNCTION):
        gradient = adapter.variational_loss(joint, surrogate, samples=8, gradient_estimator=kind)
        found = gradmeter.audit(gradient, at, exact=exact_elbo(), **ENOUGH)
        assert found.verdict == "unbiased", found


@pytest.mark.filterwarnings("ignore")  # PyTensor's about BLAS
def test_gradients_of_pymc_are_unbiased() -> None:
    pymc = pytest.importorskip("pymc", reason="pymc is not installed; make adapters")
    from gradmeter.adapters import pymc as adapter

    with pymc.Model() as model:
        z = pymc.Normal("z", 0.0, 1.0, shape=1)
        pymc.Normal("x", z, 1.0, observed=np.asarray(DATA))
    inference, rho = pymc.ADVI(model=model), np.log(np.expm1(SCALE))
    for parameter in inference.approx.params:
        value = {"mu": LOC, "rho": rho}[parameter.name]
        parameter.set_value(np.asarray([value], dtype=parameter.dtype))
    elbo = exact_elbo()
    exact = {"mu": [elbo["loc"]], "rho": [elbo["log_scale"] / SCALE / (1.0 + np.exp(-rho))]}
    found = gradmeter.audit(adapter.elbo(inference, 64), exact=exact, **ENOUGH)
    assert found.verdict == "unbiased", found


@pytest.mark.parametrize("name", ["Beta", "Dirichlet"])
def test_rsample_where_torch_func_refuses_a_distribution(name: str) -> None:
    """The gradient is that of PyTorch's own `backward`, from the same seed."""
    needs("torch")
    import torch

    from gradmeter.adapters import torch_distributions as adapter

    at = {"a": torch.tensor([0.7, 1.9])}

    def build(p: Any) -> Any:
        given = p["a"].unbind() if name == "Beta" else [p["a"]]
        return getattr(torch.distributions, name)(*given, validate_args=False)

    torch.manual_seed(3)
    found = adapter.rsample(build, lambda z: z.reshape(8, -1)[:, 0] ** 2, 8)(at)["a"]
    torch.manual_seed(3)
    leaf = at["a"].clone().requires_grad_()
    (build({"a": leaf}).rsample((8,)).reshape(8, -1)[:, 0] ** 2).mean().backward()
    assert torch.equal(found, leaf.grad)


@pytest.mark.slow  # distributions are not batched
def test_torch_distributions_by_rsample_and_by_score() -> None:
    needs("torch")
    import torch

    from gradmeter.adapters import torch_distributions as adapter

    at = {"loc": torch.tensor(LOC), "log_scale": torch.log(torch.tensor(SCALE))}

    def normal(p: Any) -> Any:
        return torch.distributions.Normal(p["loc"], p["log_scale"].exp(), validate_args=False)

    exact = {"loc": 2.0 * (LOC - 2.0), "log_scale": 2.0 * SCALE**2}
    options: dict[str, Any] = {"exact": exact, **ENOUGH}
    for make in (adapter.rsample, adapter.score):
        found = gradmeter.audit(make(normal, lambda z: (z - 2.0) ** 2, 8), at, **options)
        assert found.verdict == "unbiased", found


def test_jacobians_of_samples() -> None:
    needs("jax")
    import jax

    from gradmeter.adapters import jacobians as adapter

    def score_function_jacobians(function: Any, params: Any, build: Any, rng: Any, num_samples: int) -> list[Any]:
        z = params[0] + jax.random.normal(rng, (num_samples, 1))
        return [function(z)[:, None] * (z - params[0])]

    gradient = adapter.mean(score_function_jacobians, lambda z: z[:, 0] ** 2, lambda loc: None, samples=8)
    found = gradmeter.audit(gradient, [jax.numpy.asarray([0.5])], exact=[np.asarray([1.0])], **ENOUGH)
    assert found.verdict == "unbiased", found


@pytest.mark.parametrize("framework", [pytest.param("torch", marks=pytest.mark.slow), "jax"])
def test_losses_of_policies(framework: str) -> None:
    needs(framework)
    from gradmeter.adapters import policies as adapter

    if framework == "torch":
        import torch

        rewards, logits = torch.tensor([1.0, 0.2, -0.5, 0.9]), torch.tensor([0.1, 0.4, -0.3, 0.0])
        log_softmax = torch.log_softmax
    else:
        import jax

        rewards, logits = jax.numpy.asarray([1.0, 0.2, -0.5, 0.9]), jax.numpy.asarray([0.1, 0.4, -0.3, 0.0])
        log_softmax = jax.nn.log_softmax

    def loss(table: Any, actions: Any, reward: Any) -> Any:
        chosen = log_softmax(table, -1)[np.arange(8), actions]
        return -((reward - reward.mean()) * chosen).mean()  # the baseline contains the sample itself

    def unbiased(table: Any, actions: Any, reward: Any) -> Any:
        return loss(table, actions, reward) * 8 / 7

    gradient, objective = adapter.bandit(loss, rewards, 8)
    found = gradmeter.audit(gradient, logits, objective=objective, samples=8, **ENOUGH)
    assert found.verdict == "biased", found
    assert found.fault is not None
    assert "(S − 1)/S" in found.fault
    gradient, objective = adapter.bandit(unbiased, rewards, 8)
    found = gradmeter.audit(gradient, logits, objective=objective, samples=8, **ENOUGH)
    assert found.verdict == "unbiased", found
