"""NumPy: eager, on the CPU, without automatic differentiation."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import threadpoolctl
from numpy.random.bit_generator import ISeedSequence

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.backends.recorded import recorded
from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.noise import seed_words

Array = Any


class _Words(ISeedSequence):
    """Seed words that are already hashed, in the form that a bit generator takes."""

    def __init__(self, words: np.ndarray) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self._words[:n_words].astype(dtype)


def _keep_freed_memory() -> None:
    """Make the C library reuse freed arrays instead of returning their memory to the system.

    Otherwise each new temporary of a few hundred kB causes page faults that cost ten times as much as its arithmetic.
    Only glibc has this setting.
    """
    trim_threshold, mmap_threshold, large = -1, -3, 2**28
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, large)
        library.mallopt(mmap_threshold, large)


class NumpyBackend(Backend):
    """The NumPy backend."""

    name = "numpy"
    xp = xp
    threads = 1
    compiles = True
    draws_inside = False
    strided = True
    compiles_slowly = False
    chunk = 2**16

    def __init__(self, device: str) -> None:
        if device != "cpu":
            raise UsageError("backend 'numpy' computes on the CPU only; use --device cpu")
        self.device = device
        _keep_freed_memory()
        threadpoolctl.threadpool_limits(1)  # one thread, as in the other backends, so that times are comparable

    @functools.cached_property
    def special(self) -> Any:
        import scipy.special  # slow to import, and not needed to check a problem before it is measured

        threadpoolctl.threadpool_limits(1)  # for the libraries of SciPy too
        return scipy.special

    def asarray(self, values: Any, dtype: str | None) -> Array:
        return np.asarray(values, dtype=dtype)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def stream(self, root: int, block: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64(_Words(seed_words(root, block))))  # type: ignore[arg-type]

    def normal(self, stream: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        return stream.standard_normal(shape, dtype=np.dtype(dtype))

    def uniform(self, stream: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        return stream.random(shape, dtype=np.dtype(dtype))

    def subset(self, stream: np.random.Generator, shape: tuple[int, ...], population: int) -> Array:
        keys = stream.random((shape[0], population), dtype=np.float32)
        if shape[1] >= population:
            return np.argsort(keys, axis=1)
        return np.argpartition(keys, shape[1], axis=1)[:, : shape[1]]

    def gradient(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        raise NotApplicable(
            "NumPy cannot differentiate: give the integrand a `gradient` method, or use the torch or jax backend"
        )

    def hvp(self, function: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        raise NotApplicable(
            "NumPy cannot differentiate twice: give the integrand a `hessian_product` method, or use the torch or jax "
            "backend"
        )

    def pullback(self, function: Callable[..., Array], instead: str) -> Callable[..., dict[str, Array]]:
        raise NotApplicable(f"NumPy cannot differentiate: give {instead}, or use the torch or jax backend")

    def compile(self, function: Callable[..., Any], expensive_reductions: bool = False) -> Callable[..., Any]:
        return recorded(function)

    def is_array(self, value: Any) -> bool:
        return isinstance(value, np.ndarray)
