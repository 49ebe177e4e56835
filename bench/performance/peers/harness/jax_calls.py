"""The common part of all adapters on JAX: compile the gradient, and pass the key from call to call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

#: (parameters, key, samples) -> the average of this many gradient samples.
Gradient = Callable[[Any, Any, int], Any]


def calls(gradient: Gradient, parameters: Any, num_samples: int) -> tuple[Any, Any]:
    """Return (batch, estimates) of an adapter; as in a training loop, the compiled step splits the key."""

    def batch(samples: int) -> Callable[[], None]:
        @jax.jit
        def step(parameters: Any, key: Any) -> Any:
            key, now = jax.random.split(key)
            return key, gradient(parameters, now, samples)

        key = jax.random.key(0)

        def call() -> None:
            nonlocal key
            key, found = step(parameters, key)
            jax.block_until_ready(found)

        return call

    each = jax.jit(jax.vmap(functools.partial(gradient, samples=num_samples), in_axes=(None, 0)))  # type: ignore[call-arg]

    def estimates(seed: int, replicates: int) -> Any:
        return each(parameters, jax.random.split(jax.random.key(seed), replicates))

    return batch, estimates
