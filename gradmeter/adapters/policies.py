"""Losses of policy-gradient trainers: a function of logits, actions and rewards, on a softmax over K actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def bandit(
    loss: Callable[[Any, Any, Any], Any], rewards: Any, samples: int = 8
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the gradient that a loss gives for a bandit, and the objective that it should follow.

    Parameters
    ----------
    loss
        (logits [S, K], actions [S], rewards [S]) -> a number that is minimised. The logits of all samples are those of
        the policy; actions are drawn from its softmax.
    rewards
        Reward of each action [K], an array of JAX or a tensor of PyTorch.
    samples
        S, such as the size of a group.

    Returns
    -------
    gradient
        (logits [K], rng) -> −∇ loss [K]; `rng` is a key of JAX or a `torch.Generator`.
    objective
        (logits [K]) -> E reward, for `objective=`.
    """
    if type(rewards).__module__.partition(".")[0] == "torch":
        return _on_torch(loss, rewards, samples)
    return _on_jax(loss, rewards, samples)


def _on_torch(loss: Any, rewards: Any, samples: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import torch

    def gradient(logits: Any, rng: Any) -> Any:
        actions = torch.multinomial(logits.softmax(0), samples, replacement=True, generator=rng)
        leaf = logits.detach().clone().requires_grad_()
        value = loss(leaf.expand(samples, -1), actions, rewards[actions])
        return -torch.autograd.grad(value, leaf)[0]

    def objective(logits: Any) -> Any:
        return (logits.softmax(0) * rewards.to(logits.dtype)).sum()

    return gradient, objective


def _on_jax(loss: Any, rewards: Any, samples: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import jax
    import jax.numpy as jnp

    def gradient(logits: Any, rng: Any) -> Any:
        actions = jax.random.categorical(rng, logits, shape=(samples,))
        return -jax.grad(lambda p: loss(jnp.broadcast_to(p, (samples, *p.shape)), actions, rewards[actions]))(logits)

    def objective(logits: Any) -> Any:
        return (jax.nn.softmax(logits) * rewards).sum()

    return gradient, objective
