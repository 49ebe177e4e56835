"""Sizes of the intermediate arrays of a batch function per row, from which the size of a block of replicates follows.

Only the framework knows the intermediate arrays. The function is traced at two batch sizes, one twice the other, and
the sizes of all results are compared one by one, so that arrays that do not grow with the batch, such as weights, do
not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

FEW, MANY = 2, 4


def widest(framework: str, function: Callable[..., Any], arguments: Callable[[int], tuple[Any, ...]]) -> int:
    """Return the elements per row of the largest result of any operation in `function`.

    Parameters
    ----------
    framework : {"torch", "jax"}
        The framework in which `function` is written.
    function
        A function of arrays.
    arguments : callable
        Number of rows -> arguments of `function`.
    """
    sizes = _sizes_in_jax if framework == "jax" else _sizes_in_torch
    few, many = (list(sizes(function, arguments(rows))) for rows in (FEW, MANY))
    if len(few) != len(many):
        return math.ceil(max(many) / MANY)
    return max(1, *(math.ceil((b - a) / (MANY - FEW)) for a, b in zip(few, many, strict=True)))


def _sizes_in_jax(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[int]:
    import jax

    def within(jaxpr: Any) -> Iterator[int]:
        for equation in jaxpr.eqns:
            yield from (math.prod(out.aval.shape) for out in equation.outvars)
            for inner in equation.params.values():
                if hasattr(inner, "jaxpr"):
                    yield from within(inner.jaxpr)

    return within(jax.make_jaxpr(function)(*arguments).jaxpr)


def _sizes_in_torch(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[int]:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[int] = []

    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            results = func(*args, **(kwargs or {}))
            several = results if isinstance(results, tuple | list) else (results,)
            found.extend(r.numel() for r in several if isinstance(r, torch.Tensor))
            return results

    with torch.no_grad(), Recorded():
        function(*arguments)
    return iter(found)
