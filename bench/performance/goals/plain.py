"""Training loops of the variational autoencoder, as one writes them without this suite.

The loop in PyTorch uses modules and an optimiser, and is eager. The loop in JAX takes the grad of a negative ELBO, with
Adam written out and a whole step in one jit. The model is that of problem `vae` with a Bernoulli likelihood: the same
layers from the same weights, one sample of z per image, the KL term in closed form, shuffled minibatches, Adam (Kingma
& Ba 2015), float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.problems.vae.digits import Vae
from gradmeter.bench.problems.vae.network import Perceptron


@dataclass(frozen=True)
class Loop:
    """A training loop.

    Attributes
    ----------
    step
        Takes the next training step, blocking until it is done.
    parameters
        Returns the current parameters in the layout of `vae`.
    """

    step: Callable[[], Any]
    parameters: Callable[[], Vectors]


#: Row numbers [B] of a minibatch, and its ε [B, L]; if ε is None, the loop draws it.
Drawn = tuple[np.ndarray, np.ndarray | None]


def batches(rows: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the minibatches of successive epochs, reshuffled for each; an incomplete last minibatch is omitted."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(rows)
        for first in range(0, rows - batch + 1, batch):
            yield order[first : first + batch]


def torch_loop(problem: Vae, rate: float, seed: int, drawn: Iterator[Drawn]) -> Loop:
    """Return the loop in PyTorch, eager."""
    import torch
    from torch import nn

    start = problem.initial()

    def stack(network: Perceptron) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(network.sizes)):
            linear = nn.Linear(before, after)
            with torch.no_grad():
                linear.weight.copy_(torch.as_tensor(start[f"{network.name}.{i}.weight"].T))
                linear.bias.copy_(torch.as_tensor(start[f"{network.name}.{i}.bias"]))
            layers += [linear, nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    encoder, decoder = stack(problem.encoder.network), stack(problem.integrand.network)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=rate)
    images = torch.as_tensor(problem.inputs(), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)

    def step() -> None:
        rows, given = next(drawn)
        x = images[torch.as_tensor(rows)]
        loc, log_scale = encoder(x).chunk(2, dim=-1)
        noise = torch.randn(loc.shape, generator=generator) if given is None else torch.as_tensor(given)
        z = loc + torch.exp(log_scale) * noise
        likelihood = -nn.functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        divergence = 0.5 * torch.sum(loc**2 + torch.exp(2.0 * log_scale) - 1.0 - 2.0 * log_scale)
        loss = (divergence - likelihood) / len(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def parameters() -> Vectors:
        found: Vectors = {}
        for name, network in (("encoder", encoder), ("decoder", decoder)):
            for i, layer in enumerate(m for m in network if isinstance(m, nn.Linear)):
                found[f"{name}.{i}.weight"] = layer.weight.detach().double().numpy().T.copy()
                found[f"{name}.{i}.bias"] = layer.bias.detach().double().numpy().copy()
        return found

    return Loop(step, parameters)


def jax_loop(problem: Vae, rate: float, seed: int, drawn: Iterator[Drawn]) -> Loop:
    """Return the loop in JAX, compiled."""
    import jax

    xp = jax.numpy
    depth = len(problem.hidden_sizes)

    def apply(parameters: Any, name: str, x: Any) -> Any:
        for i in range(depth + 1):
            x = x @ parameters[f"{name}.{i}.weight"] + parameters[f"{name}.{i}.bias"]
            x = xp.tanh(x) if i < depth else x
        return x

    def loss(parameters: Any, x: Any, noise: Any) -> Any:
        loc, log_scale = xp.split(apply(parameters, "encoder", x), 2, axis=-1)
        logits = apply(parameters, "decoder", loc + xp.exp(log_scale) * noise)
        likelihood = xp.sum(x * logits - jax.nn.softplus(logits))
        divergence = 0.5 * xp.sum(loc**2 + xp.exp(2.0 * log_scale) - 1.0 - 2.0 * log_scale)
        return (divergence - likelihood) / len(x)

    @jax.jit
    def train(state: Any, images: Any, rows: Any, noise: Any) -> Any:
        at, mean, square, t, key = state
        key, use = jax.random.split(key)
        if noise is None:
            noise = jax.random.normal(use, (len(rows), problem.latent), images.dtype)
        g = jax.grad(loss)(at, images[rows], noise)
        mean = jax.tree.map(lambda m, new: 0.9 * m + 0.1 * new, mean, g)
        square = jax.tree.map(lambda s, new: 0.999 * s + 0.001 * new**2, square, g)
        first, second = 1.0 - 0.9**t, 1.0 - 0.999**t
        at = jax.tree.map(lambda a, m, s: a - rate * (m / first) / (xp.sqrt(s / second) + 1e-8), at, mean, square)
        return at, mean, square, t + 1.0, key

    at = {name: xp.asarray(a, dtype="float32") for name, a in problem.initial().items()}
    zero = jax.tree.map(xp.zeros_like, at)
    held = [(at, zero, zero, xp.asarray(1.0, dtype="float32"), jax.random.key(seed))]
    images = xp.asarray(problem.inputs(), dtype="float32")

    def step() -> None:
        rows, noise = next(drawn)
        held[0] = jax.block_until_ready(train(held[0], images, xp.asarray(rows), noise))

    return Loop(step, lambda: {name: np.asarray(a, dtype=np.float64) for name, a in held[0][0].items()})


LOOPS = {"torch": torch_loop, "jax": jax_loop}


def plain(backend: str, problem: Vae, rate: float, seed: int, drawn: Iterator[Drawn] | None = None) -> Loop:
    """Return the loop of a backend, on the minibatches and noise of `drawn`, or on its own if there are none.

    Parameters
    ----------
    backend
        Name of the backend.
    problem
        The autoencoder.
    rate
        Step size.
    seed
        Seed of the noise.
    drawn
        Minibatches and noise of every step; the loop draws its own if absent.
    """
    own = ((rows, None) for rows in batches(problem.rows, problem.batch or problem.rows, seed))
    return LOOPS[backend](problem, rate, seed, own if drawn is None else drawn)
