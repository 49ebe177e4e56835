"""JAX: pure functions under jit, noise drawn inside them from threefry keys."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any

# One thread, like the other backends, so that seconds compare. JAX reads it when it makes its CPU client, which
# whoever imported JAX before may have done already: then nobody knows.
if "jax" not in sys.modules:
    os.environ.setdefault("NPROC", "1")

import jax
import jax.numpy as jnp
import numpy as np

from estimators.errors import UsageError

Array = Any

# float64 is a process-wide switch. Every dtype is given explicitly here, so float32 cells stay float32.
jax.config.update("jax_enable_x64", True)


class JaxBackend:
    name = "jax"
    xp = jnp
    special = jax.scipy.special
    compiles = True
    draws_inside = True
    strided = False
    chunk = 2**20

    def __init__(self, device: str) -> None:
        try:
            self._device = jax.devices("cpu" if device == "cpu" else "cuda")[0]
        except RuntimeError:
            raise UsageError("JAX finds no CUDA device here; use --device cpu") from None
        self.device = device
        self.threads = int(os.environ["NPROC"]) if "NPROC" in os.environ else None

    def asarray(self, values: Any, dtype: str | None) -> Array:
        return jax.device_put(np.asarray(values, dtype=dtype), self._device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def root(self, number: int) -> Array:
        return self.asarray([(number >> 32) & 0xFFFFFFFF, number & 0xFFFFFFFF], "uint32")

    def stream(self, root: Array, block: Any) -> Array:
        return jax.random.fold_in(jax.random.wrap_key_data(root, impl="threefry2x32"), block)

    def normal(self, stream: Array, shape: tuple[int, ...], dtype: str) -> Array:
        return _stored(jax.random.normal, stream, shape, dtype)

    def uniform(self, stream: Array, shape: tuple[int, ...], dtype: str) -> Array:
        return _stored(jax.random.uniform, stream, shape, dtype)

    def subset(self, stream: Array, shape: tuple[int, ...], population: int) -> Array:
        whole = (shape[0], population)
        if shape[1] < population:
            return jax.lax.top_k(jax.random.uniform(stream, whole, dtype=jnp.float32), shape[1])[1]
        # Key and row in one word: XLA sorts numbers several times faster than pairs.
        keys = jax.random.bits(stream, whole, dtype=jnp.uint32).astype(jnp.uint64) << 32
        return jnp.sort(keys | jnp.arange(population, dtype=jnp.uint64), axis=1).astype(jnp.uint32).astype(jnp.int32)

    def gradient(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return jax.grad(function)

    def hvp(self, function: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        return lambda z, vector: jax.jvp(jax.grad(function), (z,), (vector,))[1]

    def pullback(self, function: Callable[..., Array]) -> Callable[..., dict[str, Array]]:
        gradient = jax.grad(function)
        return lambda parameters, *arrays: jax.vmap(lambda *each: gradient(parameters, *each))(*arrays)

    def map(self, function: Callable[[Any], Array], xs: Any) -> Array:
        return jax.lax.map(function, xs)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(function)

    def block_until_ready(self, tree: Any) -> Any:
        return jax.block_until_ready(tree)


def _stored(draw: Callable[..., Array], stream: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw noise that XLA stores. Left to itself it fuses the generator into every reduction that reads the noise,
    and so runs it several times; the result of a loop it keeps. So large noise is drawn in two halves, in a loop,
    each of them flat, which vectorises whatever the shape.
    """
    size = math.prod(shape)
    if shape[0] < 2 or size % 2:
        return draw(stream, shape, dtype=jnp.dtype(dtype))
    half = (size // 2,)
    return jax.lax.map(lambda key: draw(key, half, dtype=jnp.dtype(dtype)), jax.random.split(stream)).reshape(shape)
