"""`array-api-strict` as a backend: the standard and nothing beside it. It shows what a new backend needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np

from gradmeter.estimators.backends.numpy import NumpyBackend

Array = Any


def _strict(tree: Any) -> Any:
    return array_api_strict.asarray(tree)


class _Special:
    """SciPy's special functions of strict arrays."""

    def __getattr__(self, name: str) -> Callable[..., Array]:
        import scipy.special

        function = getattr(scipy.special, name)
        return lambda *arrays: _strict(function(*(np.asarray(a) for a in arrays)))


class StrictBackend(NumpyBackend):
    """NumPy's noise in strict arrays, without automatic differentiation or a compiler."""

    name = "array-api-strict"
    xp = array_api_strict
    strided = False

    @property
    def special(self) -> Any:  # type: ignore[override]
        return _Special()

    def asarray(self, values: Any, dtype: str | None) -> Array:
        if dtype is None:
            return _strict(np.asarray(values))
        return _strict(np.asarray(values, dtype=dtype))

    def normal(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
        return _strict(super().normal(stream, shape, dtype))

    def uniform(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
        return _strict(super().uniform(stream, shape, dtype))

    def subset(self, stream: Any, shape: tuple[int, ...], population: int) -> Array:
        return _strict(super().subset(stream, shape, population))

    def map(self, function: Callable[[Any], Array], xs: Any) -> Array:
        each = list(zip(*xs, strict=True)) if isinstance(xs, tuple) else [xs[i, ...] for i in range(xs.shape[0])]
        return self.xp.stack([function(x) for x in each])

    def is_array(self, value: Any) -> bool:
        return isinstance(value, array_api_strict.asarray(0.0).__class__)

    def compile(self, function: Callable[..., Any], expensive_reductions: bool = False) -> Callable[..., Any]:
        return function
