"""JAX: pure functions under jit, with noise drawn inside them from threefry keys."""

from __future__ import annotations

import functools
import math
import os
import sys
import types
from collections.abc import Callable
from typing import Any

# One thread, as in the other backends, so that times are comparable. JAX reads NPROC when it creates its CPU client. If
# JAX was imported before, the client may exist already, and the number of threads is unknown.
if "jax" not in sys.modules:
    os.environ.setdefault("NPROC", "1")
# By default every process takes three quarters of a card's memory at its start, and several processes share a card.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.noise import DrawnNoise

Array = Any

# float64 is a process-wide switch. Every dtype is given explicitly here, so float32 cells stay float32.
jax.config.update("jax_enable_x64", True)

#: Disables YNNPACK, the library that XLA uses for sums on the CPU: it first stores every operand in full, even
#: broadcast ones.
_WITHOUT_LIBRARY = ("xla_cpu_experimental_ynn_fusion_type", "")
#: Compiles in a fifth less time, to code that is as fast.
_BRIEFLY = ("xla_backend_optimization_level", 1)
#: Compiles in half the time, to slower code.
_QUICKLY = ("xla_backend_optimization_level", 0)
#: The smallest number of elements of one estimate's noise that is stored before it is read.
_LARGE = 2**14
#: The most numbers drawn in one part, if the size can be halved often enough; a block that fits the cache is drawn in
#: two halves.
_PART = 2**16
#: The longest last axis that is summed as a product with ones.
_SHORT = 256


@functools.cache
def _options(*wanted: tuple[str, Any]) -> dict[str, Any] | None:
    """Return these options of the compiler, or None if this version of XLA does not have them."""
    options = dict(wanted)
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except Exception:  # an unknown option may raise anything
        return None
    return options


def _row_sums(x: Array) -> Array:
    """Sum along the last axis as a product with ones.

    XLA's loops for sums along the last axis are scalar; those for products use vector instructions, whatever the order
    of the axes in memory.
    """
    return jnp.matmul(x, jnp.ones(x.shape[-1], x.dtype), precision="highest")


def _sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """Sum as the array API does, faster along a short last axis."""
    x = jnp.asarray(x)
    short = x.ndim > 1 and axis in (-1, x.ndim - 1) and 1 < x.shape[-1] <= _SHORT
    if not short or dtype is not None or not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)
    return _row_sums(x)[..., None] if keepdims else _row_sums(x)


def _max(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Return the maximum as the array API does, with a derivative that compares nothing with it.

    The derivative of `jnp.max` divides by the number of elements that equal the maximum. XLA may compute the elements
    once for the maximum and again for the comparison, with another rounding: then none is equal, and it divides by 0.
    """
    x = jnp.asarray(x)
    if not isinstance(axis, int) or not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.max(x, axis=axis, keepdims=keepdims)
    largest = _largest(axis, x)
    return largest if keepdims else jnp.squeeze(largest, axis=axis)


def _min(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Return the minimum as the array API does, with a derivative as that of `_max`."""
    x = jnp.asarray(x)
    if not isinstance(axis, int) or not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.min(x, axis=axis, keepdims=keepdims)
    return -_max(-x, axis=axis, keepdims=keepdims)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _largest(axis: int, x: Array) -> Array:
    return jnp.max(x, axis=axis, keepdims=True)


@_largest.defjvp
def _(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Take the tangent at the first of the largest elements."""
    place = jnp.argmax(*primals, axis=axis, keepdims=True)
    return _largest(axis, *primals), jnp.take_along_axis(*tangents, place, axis=axis)


def _namespace(where: str, **own: Any) -> types.ModuleType:
    made = types.ModuleType(f"jax_namespace_{where}", f"The array API of JAX on the {where}.")
    vars(made).update(vars(jnp), max=_max, min=_min, **own)
    return made


xp = _namespace("cpu", sum=_sum)
_ON_CARD = _namespace("card")


jax.tree_util.register_pytree_node(
    DrawnNoise,
    lambda noise: (tuple(noise.values()), (tuple(noise), noise.replicates)),
    lambda static, arrays: DrawnNoise(dict(zip(static[0], arrays, strict=True)), static[1]),
)


class JaxBackend(Backend):
    """The JAX backend."""

    name = "jax"
    special = jax.scipy.special
    compiles = True
    draws_inside = True
    strided = False
    compiles_slowly = False
    chunk = 2**20

    def __init__(self, device: str) -> None:
        try:
            self._device = jax.devices("cpu" if device == "cpu" else "cuda")[0]
        except RuntimeError:
            raise UsageError("JAX finds no CUDA device here; use --device cpu") from None
        self.device = device
        self.xp = xp if device == "cpu" else _ON_CARD
        if device != "cpu":
            self.chunk = 2**24  # a card works on far more numbers at once than a core's cache holds
            # By default float32 products keep 10 bits of their factors (TF32).
            jax.config.update("jax_default_matmul_precision", "highest")
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
        return self._drawn(jax.random.normal, stream, shape, dtype)

    def uniform(self, stream: Array, shape: tuple[int, ...], dtype: str) -> Array:
        return self._drawn(jax.random.uniform, stream, shape, dtype)

    def _drawn(self, draw: Callable[..., Array], stream: Array, shape: tuple[int, ...], dtype: str) -> Array:
        if self.device == "cpu":
            return _stored(draw, stream, shape, dtype)
        return draw(
            stream, shape, dtype=jnp.dtype(dtype)
        )  # a card draws all numbers at once; a loop would serialise it

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

    def pullback(self, function: Callable[..., Array], instead: str = "") -> Callable[..., dict[str, Array]]:
        gradient = jax.grad(function)
        return lambda parameters, *arrays: jax.vmap(lambda *each: gradient(parameters, *each))(*arrays)

    def matrix_sum(self, matrix: Array, axis: int) -> Array:
        if self.device != "cpu" or 1 in matrix.shape:
            return jnp.sum(matrix, axis=axis)
        return _row_sums(matrix) if axis == 1 else jnp.matmul(jnp.ones(len(matrix), matrix.dtype), matrix)

    def map(self, function: Callable[[Any], Array], xs: Any) -> Array:
        return jax.lax.map(function, xs)

    def compile(self, function: Callable[..., Any], expensive_reductions: bool = False) -> Callable[..., Any]:
        wanted = (_BRIEFLY,) if expensive_reductions else (_BRIEFLY, _WITHOUT_LIBRARY)
        return jax.jit(function, compiler_options=None if self.device != "cpu" else _options(*wanted))

    def compile_for_few_calls(
        self, function: Callable[..., Any], expensive_reductions: bool = False, handful: bool = False
    ) -> Callable[..., Any]:
        """Compile even for few calls, because JAX is slow at single operations; optimise little for a handful."""
        if not handful:
            return self.compile(function, expensive_reductions)
        return jax.jit(function, compiler_options=None if self.device != "cpu" else _options(_QUICKLY))

    def is_array(self, value: Any) -> bool:
        return isinstance(value, jax.Array)

    def block_until_ready(self, tree: Any) -> Any:
        return jax.block_until_ready(tree)

    def describe_device(self) -> tuple[str, str | None]:
        return self._device.device_kind, None

    def peak_memory(self, run: Callable[[], Any]) -> int | None:
        """Return the rise of the process's peak, which JAX does not reset; None if an earlier call took more."""
        if self.device == "cpu":
            return None
        before = self._device.memory_stats()
        run()
        after = self._device.memory_stats()
        if not before or not after or after["peak_bytes_in_use"] <= before["peak_bytes_in_use"]:
            return None
        return int(after["peak_bytes_in_use"] - before["bytes_in_use"])


def _stored(draw: Callable[..., Array], stream: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw noise that XLA stores.

    By default XLA fuses the generator into every reduction that reads the noise, and so runs it several times; but it
    stores the result of a loop. So large noise is drawn in a loop over two halves, or over more parts if a half would
    exceed the cache. Each part is flat, which vectorises for any shape.
    """
    size, parts = math.prod(shape), 2
    if size % 2 or (shape[0] < 2 and size < _LARGE):
        return draw(stream, shape, dtype=jnp.dtype(dtype))
    while size // parts > _PART and size % (2 * parts) == 0:
        parts *= 2
    each, keys = (size // parts,), jax.random.split(stream, parts)
    return jax.lax.map(lambda key: draw(key, each, dtype=jnp.dtype(dtype)), keys).reshape(shape)
