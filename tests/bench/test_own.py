"""Models of a user's own: their gradients against the framework's own autograd, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import Cell, make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.support import Blocks, draws, estimate, needs

LOG_2PI = float(np.log(2.0 * np.pi))
LINEAR = "linear-vae[size=12,batch=4,at=halfway]"


def made_by(model: Any, estimator: str, samples: int, replicates: int = 1) -> tuple[Blocks, Blocks]:
    """Estimates and their noise."""
    made, expectation = make_estimator(estimator), model.expectation()
    outer = expectation.estimated_by(made)
    noise = draws(outer.noise_specs(expectation, samples, model.dimension), replicates)
    backend, compiled = get(model.framework), model.framework == "jax"
    return estimate(backend, outer, expectation, model.parameters(), noise, compiled=compiled), noise


def close(found: Blocks, expected: Blocks) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.abs(values).max() > 0.0, name
        np.testing.assert_allclose(found[name], values, rtol=0.0, atol=1e-10 * np.abs(values).max(), err_msg=name)


def convolutional(**more: Any) -> tuple[Any, Any, Any, Any]:
    """Both modules, images, and the model made of them."""
    needs("torch")
    import torch
    from torch import nn
    from torch.func import functional_call

    torch.manual_seed(3)
    encoder = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)).double()
    decoder = nn.Sequential(
        nn.Linear(2, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2)), nn.ConvTranspose2d(3, 1, 3)
    ).double()
    images = (torch.rand(9, 1, 4, 4) > 0.5).double()

    def encode(phi: Any, x: Any) -> Any:
        return functional_call(encoder, phi, (x,)).chunk(2, dim=-1)

    def log_joint(theta: Any, x: Any, z: Any) -> Any:
        logits = functional_call(decoder, theta, (z,))
        fit = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=(1, 2, 3))
        return fit - 0.5 * (z * z + LOG_2PI).sum(dim=-1)

    both = dict(decoder.named_parameters()), dict(encoder.named_parameters())
    model = gradmeter.Model("own", log_joint, both[0], latent=2, encode=encode, phi=both[1], inputs=images, **more)
    return encoder, decoder, images, model


@pytest.mark.parametrize(
    ("estimator", "samples", "more"),
    [("pathwise", 1, {}), ("pathwise", 3, {"batch": 4}), ("iwae", 2, {"batch": 4, "importance_samples": 3})],
)
def test_what_a_training_loop_in_torch_computes(estimator: str, samples: int, more: dict[str, int]) -> None:
    """The modules called as they are, and `backward`."""
    encoder, decoder, images, model = convolutional(**more)
    import torch

    found, noise = made_by(model, estimator, samples)
    x = images[torch.tensor(noise["rows"][0])] if "batch" in more else images
    k, eps = more.get("importance_samples", 1), torch.tensor(noise["base"][0]).reshape(len(x), -1, 2)
    loc, log_scale = (a[:, None] for a in encoder(x).chunk(2, dim=-1))
    z = loc + log_scale.exp() * eps
    logits = decoder(z.reshape(-1, 2)).reshape(len(x), samples * k, 1, 4, 4)
    log_p = torch.distributions.Bernoulli(logits=logits).log_prob(x[:, None].expand_as(logits)).sum(dim=(2, 3, 4))
    log_w = log_p + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    log_w = log_w - torch.distributions.Normal(loc, log_scale.exp()).log_prob(z).sum(-1)
    bound = torch.logsumexp(log_w.reshape(len(x), samples, k), dim=-1).mean(dim=1).sum() * len(images) / len(x)
    bound.backward()
    modules = (("encoder", encoder), ("decoder", decoder))
    expected = {f"{m}.{n}": p.grad.numpy() for m, module in modules for n, p in module.named_parameters()}
    close({name: values[0] for name, values in found.items()}, expected)


def test_estimates_do_not_mix(numpy_backend: Backend) -> None:
    """Five replicates at once, pulled back apart from each other."""
    _, _, _, model = convolutional(batch=4)
    together, noise = made_by(model, "score-function[baseline=leave-one-out]", 2, replicates=5)
    outer = model.expectation().estimated_by(make_estimator("score-function[baseline=leave-one-out]"))
    last = {name: a[4:] for name, a in noise.items()}
    alone = estimate(get("torch"), outer, model.expectation(), model.parameters(), last)
    close({name: a[4] for name, a in together.items()}, {name: a[0] for name, a in alone.items()})


def in_jax(batch: int | None = 4, text: str = LINEAR, **more: Any) -> Any:
    """The linear autoencoder of `bench`, written as a person who has JAX would."""
    needs("jax")
    get("jax")  # float64
    import jax.numpy as jnp

    problem: Any = make_problem(text)
    at = {name: jnp.asarray(a) for name, a in problem.parameters().items()}

    def encode(phi: Any, x: Any) -> Any:
        (layer,) = phi["layers"]
        return jnp.split(x @ layer["weight"] + layer["bias"], 2, axis=-1)

    def log_joint(theta: Any, x: Any, z: Any) -> Any:
        (weight, bias), log_scale = theta
        away = (x - z @ weight - bias) * jnp.exp(-log_scale)
        fit = jnp.sum(-0.5 * away**2 - log_scale - 0.5 * LOG_2PI, axis=-1)
        return fit - 0.5 * jnp.sum(z**2 + LOG_2PI, axis=-1)

    phi = {"layers": [{"weight": at["encoder.0.weight"], "bias": at["encoder.0.bias"]}]}
    theta = ((at["decoder.0.weight"], at["decoder.0.bias"]), at["decoder.log_scale"])
    given = {"latent": problem.latent, "encode": encode, "phi": phi, "inputs": problem.inputs(), "batch": batch, **more}
    return gradmeter.Model("own", log_joint, theta, **given)


RENAMED = {
    "encoder.layers.0.weight": "encoder.0.weight",
    "encoder.layers.0.bias": "encoder.0.bias",
    "decoder.0.0": "decoder.0.weight",
    "decoder.0.1": "decoder.0.bias",
    "decoder.1": "decoder.log_scale",
}


@pytest.mark.parametrize(("estimator", "k"), [("pathwise", 1), ("dreg", 3)])
def test_a_pytree_of_jax(estimator: str, k: int) -> None:
    """What the bundled problem's own backward passes compute in NumPy."""
    model = in_jax(importance_samples=k)
    found, noise = made_by(model, estimator, 2)
    at: Any = make_problem(f"{LINEAR[:-1]},importance-samples={k}]")
    expectation = at.expectation()
    outer = expectation.estimated_by(make_estimator(estimator))
    expected = estimate(get("numpy"), outer, expectation, at.parameters(), noise)
    close({RENAMED[name]: a for name, a in found.items()}, expected)


def test_what_jax_differentiates() -> None:
    """One replicate of the whole batch, by `jax.grad` of the functions themselves."""
    model = in_jax(batch=None)
    found, noise = made_by(model, "pathwise", 1)
    import jax
    import jax.numpy as jnp

    def elbo(phi: Any, theta: Any) -> Any:
        loc, log_scale = model.encode(phi, model.inputs)
        z = loc + jnp.exp(log_scale) * noise["base"][0][:, 0]
        return jnp.sum(model.log_joint(theta, model.inputs, z)) + jnp.sum(
            log_scale
        )  # E −log q, but for what is constant

    phi, theta = jax.jit(jax.grad(elbo, argnums=(0, 1)))(model.phi, model.theta)
    (layer,), ((weight, bias), log_scale) = phi["layers"], theta
    expected = dict(zip(RENAMED, (layer["weight"], layer["bias"], weight, bias, log_scale), strict=True))
    close({name: a[0] for name, a in found.items()}, {name: np.asarray(a) for name, a in expected.items()})


BOUND = "linear-vae[size=12,batch=4,latent=1,importance-samples=3]"


@pytest.mark.parametrize(("text", "k", "source"), [(LINEAR, 1, "closed-form"), (BOUND, 3, "quadrature")])
def test_exact_by_quadrature(text: str, k: int, source: str) -> None:
    """What the bundled problem has of the same model, whatever the minibatch; of a bound too."""
    found, known = in_jax(text=text, importance_samples=k).exact(), make_problem(text).exact()
    assert known is not None
    assert (found.source, known.source) == ("quadrature", source)
    for name, gradient in found.gradient.items():
        size = max(1.0, np.abs(known.gradient[RENAMED[name]]).max())
        np.testing.assert_allclose(gradient, known.gradient[RENAMED[name]], rtol=0.0, atol=1e-9 * size)


def test_the_exact_bound_without_an_encoder() -> None:
    """K = 2 of one coordinate: E Σ_k w̃_k ∇ log w_k, by a rule over both samples written out here."""
    needs("torch")
    import torch

    def f(theta: Any, z: Any) -> Any:
        return (theta["a"] * z - torch.exp(theta["a"]) * z * z).sum(dim=-1)

    a, loc, log_scale = 0.3, 0.5, -0.3
    theta = {"a": torch.tensor([a], dtype=torch.float64)}
    model = gradmeter.Model("bound", f, theta, latent=1, loc=[loc], log_scale=[log_scale], importance_samples=2)
    eps, scale = np.linspace(-8.0, 8.0, 400), np.exp(log_scale)
    law = np.exp(-0.5 * eps**2) / np.exp(-0.5 * eps**2).sum()
    z = loc + scale * eps
    log_w, slope = a * z - np.exp(a) * z**2 + 0.5 * eps**2 + log_scale, a - 2.0 * np.exp(a) * z
    share = 1.0 / (1.0 + np.exp(log_w - log_w[:, None]))  # of the first sample, [first, second]
    weight = 2.0 * law * (share @ law)
    moved = {"loc": slope, "log_scale": slope * scale * eps + 1.0, "model.a": z - np.exp(a) * z**2}
    found = model.exact()
    assert found is not None
    close(found.gradient, {name: np.asarray([weight @ values]) for name, values in moved.items()})


def free(f: Callable[..., Any] | None = None, **more: Any) -> Any:
    """−exp(a) z² and a z, of a module without an encoder."""
    needs("torch")
    import torch

    theta = {"a": torch.tensor([0.3, -0.2], dtype=torch.float64)}

    def plain(theta: Any, z: Any) -> Any:
        return (theta["a"] * z - torch.exp(theta["a"]) * z * z).sum(dim=-1)

    return gradmeter.Model("free", f or plain, theta, latent=2, loc=[0.5, 0.1], log_scale=[-0.3, 0.2], **more)


@pytest.mark.parametrize("entropy", ["sampled", "none"])
def test_without_an_encoder(entropy: str) -> None:
    found = free(entropy=entropy).exact().gradient
    a, loc, variance = np.asarray([0.3, -0.2]), np.asarray([0.5, 0.1]), np.exp([-0.6, 0.4])
    expected = {
        "loc": a - 2.0 * np.exp(a) * loc,
        "log_scale": -2.0 * np.exp(a) * variance + (entropy == "sampled"),
        "model.a": loc - np.exp(a) * (loc**2 + variance),
    }
    close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["pathwise", "score-function[baseline=leave-one-out]", "measure-valued"])
def test_rows(estimator: str) -> None:
    """One a block, with a verdict and a variance."""
    rows = gradmeter.measure(in_jax(), estimator, "jax", max_replicates=2**12, timing=False)
    assert list(rows["block"]) == [*RENAMED, "all"]
    assert set(rows["status"]) == {"ok"}
    assert "biased" not in set(rows["verdict"])
    assert (rows["variance"] > 0.0).all()


def test_arrays_are_measured_by_calling() -> None:
    """The largest is that of the decoder's and the encoder's inside, a row."""
    needs("jax")
    assert in_jax().largest == 4  # columns, and the encoder's outputs
    _, _, _, model = convolutional()
    assert model.largest >= 16  # pixels
    assert model.expectation().width(2) == 9 * model.largest


def test_another_backend_is_refused() -> None:
    reason = infeasible(Cell(free(), make_estimator("pathwise"), "numpy"))
    assert reason == "problem free is written in torch; use that backend"


def test_content_is_that_of_its_arrays() -> None:
    one, other = free(), free()
    with_others = gradmeter.Model("free", one.log_joint, one.theta, latent=2, loc=[0.5, 0.2], log_scale=[-0.3, 0.2])
    key, same, different = (Cell(m, make_estimator("pathwise"), "torch").key for m in (one, other, with_others))
    assert key == same
    assert key != different


def test_refused() -> None:
    _, _, images, good = convolutional()
    import torch
    from torch import nn
    from torch.func import functional_call

    given = {"theta": good.theta, "latent": 2, "encode": good.encode, "phi": good.phi, "inputs": images}
    wrong = {
        "f has shape [3, 2] for a batch of 3; it must be [3]": {"log_joint": lambda theta, x, z: z},
        "loc has shape [3, 4] for a batch of 3; it must be [3, 2]": {"encode": lambda phi, x: (x[:, 0, 0], x[:, 0, 0])},
        "rows of a batch depend on each other": {"log_joint": lambda theta, x, z: z.sum(dim=1) - z.mean()},
        "or on chance": {"log_joint": lambda theta, x, z: z.sum(dim=1) + torch.rand(len(z), dtype=z.dtype)},
        "give encode, phi and inputs, or loc and log_scale": {"encode": None, "phi": None},
        "with an encoder it must be sampled": {"entropy": "none"},
        "batch is 10; it must be 1 to the number of inputs": {"batch": 10},
        "batch is 4; there are no inputs; leave batch out": {
            **{"encode": None, "phi": None, "inputs": None, "batch": 4},
            **{"loc": [0.0, 0.0], "log_scale": [0.0, 0.0]},
        },
        "do not tell one framework; say framework=torch or jax": {"theta": {"a": np.zeros(2)}, "phi": {}},
        "parameters decoder.a: float is no array": {"theta": {"a": 1.0}, "framework": "torch"},
        "two arrays of parameters come to the name decoder.a.b": {
            "theta": {"a.b": torch.zeros(1), "a": {"b": torch.zeros(1)}},
            "framework": "torch",
        },
    }
    for message, changed in wrong.items():
        with pytest.raises(UsageError) as caught:
            gradmeter.Model("own", **{"log_joint": good.log_joint, **given, **changed})
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    norm = nn.BatchNorm1d(2)

    def normalised(theta: Any, z: Any) -> Any:
        return functional_call(norm, theta, (z,)).sum(dim=-1)

    norm.eval()
    with pytest.raises(UsageError, match=r"fail in float64.*module\.double\(\)"):
        gradmeter.Model("own", normalised, dict(norm.named_parameters()), latent=2, loc=[0, 0], log_scale=[0, 0])
