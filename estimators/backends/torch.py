"""PyTorch: noise is drawn eagerly by its generator, the rest is compiled with torch.compile."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Otherwise Inductor compiles test programs for every vector instruction set of the processor: 8 s before the first
# result.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

import array_api_compat.torch
import numpy as np
import torch

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.noise import seed_words

Array = Any
_NUMBERS = itertools.count()
_SETTLED = tuple(
    f"G['__{name}_"
    for name in ("import_gradmeter_dot", "import_array_api_compat_dot", "import_torch_dot", "builtins_dict")
)
_COMPILING = threading.Lock()  # warning filters belong to all threads


def _may_change(guards: Sequence[Any]) -> list[bool]:
    """Keep only the guards whose globals may change.

    Guards on globals of modules that nobody assigns to would take a seventh of the time of a single estimate.
    """
    return [not guard.name.startswith(_SETTLED) for guard in guards]


def _own(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy with its own code object: Dynamo counts recompilations per code object, and gives up at 8."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_NUMBERS)}")
    return types.FunctionType(code, function.__globals__, closure=function.__closure__)


def _untraced(reason: str) -> str:
    """Return what to write in place of code that Dynamo cannot trace."""
    if "autograd.grad" in reason or "backward" in reason:
        return (
            "torch.compile cannot trace loss.backward() or torch.autograd.grad; differentiate by backend.gradient, "
            "backend.pullback or torch.func"
        )
    what = "it branches on a value" if "data-dependent" in reason else reason.strip().partition("\n")[0]
    return (
        f"torch.compile cannot trace this as one graph: {what}; use array operations alone (backend.xp.where for "
        "branches), without print and item()"
    )


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def expm1(x: Array) -> Array:
    """Return exp(x) − 1 to rounding.

    With vector instructions, Inductor's own expm1 computes the difference, which has no correct digits near 0.
    """
    small = torch.abs(x) < 1.0
    half = torch.tanh(0.5 * torch.where(small, x, torch.zeros_like(x)))
    return torch.where(small, 2.0 * half / (1.0 - half), torch.exp(x) - 1.0)


xp = types.ModuleType("torch_namespace", "The array API of PyTorch.")
vars(xp).update(vars(array_api_compat.torch), expm1=expm1)


class TorchBackend(Backend):
    """The PyTorch backend."""

    name = "torch"
    xp = xp
    special = torch.special
    draws_inside = False
    strided = False
    compiles_slowly = True
    chunk = 2**18

    def __init__(self, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("PyTorch finds no CUDA device here; use --device cpu")
        self.device = device
        if device == "cuda":  # a card works on far more numbers at once than a core's cache holds
            self.chunk = 2**24
        self.threads = 1
        torch.set_num_threads(1)
        # Inductor needs a C++ compiler; without one the same functions run eagerly, and result rows say so.
        self.compiles = device == "cuda" or shutil.which("g++") is not None or shutil.which("clang++") is not None

    def asarray(self, values: Any, dtype: str | None) -> Array:
        kind = None if dtype is None else getattr(torch, dtype)
        return torch.as_tensor(np.array(values), dtype=kind, device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return array.numpy(force=True)  # a derivative that vanishes has no storage of its own

    def stream(self, root: int, block: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(int(seed_words(root, block)[0] >> np.uint64(1)))

    def normal(self, stream: torch.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        return torch.randn(shape, generator=stream, dtype=getattr(torch, dtype), device=self.device)

    def uniform(self, stream: torch.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        return torch.rand(shape, generator=stream, dtype=getattr(torch, dtype), device=self.device)

    def subset(self, stream: torch.Generator, shape: tuple[int, ...], population: int) -> Array:
        keys = torch.rand((shape[0], population), generator=stream, device=self.device)
        if shape[1] >= population:  # `topk` gives no random order if it takes all
            return torch.argsort(keys, dim=1)
        return torch.topk(keys, shape[1], dim=1, sorted=False).indices

    def gradient(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return torch.func.grad(function)

    def hvp(self, function: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        # Reverse over reverse mode: unlike forward mode, it compiles for any function.
        slope = torch.func.grad(function)
        return lambda z, vector: torch.func.grad(lambda at: torch.sum(slope(at) * vector))(z)

    def pullback(self, function: Callable[..., Array], instead: str = "") -> Callable[..., dict[str, Array]]:
        gradient = torch.func.grad(function)

        def each(parameters: dict[str, Array], *arrays: Any) -> dict[str, Array]:
            if arrays[0].shape[0] > 1:
                return torch.func.vmap(gradient, in_dims=(None, *(0 for _ in arrays)))(parameters, *arrays)
            alone = tuple({n: a[0] for n, a in x.items()} if isinstance(x, dict) else x[0] for x in arrays)
            return {name: found[None, ...] for name, found in gradient(parameters, *alone).items()}

        return each

    def compile(self, function: Callable[..., Any], expensive_reductions: bool = False) -> Callable[..., Any]:
        if not self.compiles:
            return function
        # fullgraph: raise where Dynamo would otherwise fall back to eager execution silently.
        options = {"guard_filter_fn": _may_change} if hasattr(torch.compiler, "skip_guard_on_globals_unsafe") else None
        compiled = torch.compile(_own(function), fullgraph=True, dynamic=False, options=options)
        warm = False

        def call(*arguments: Any) -> Any:
            nonlocal compiled, warm
            with torch.no_grad():
                if warm:
                    return compiled(*arguments)
                with _COMPILING, warnings.catch_warnings():  # PyTorch's imports warn, not the function
                    warnings.filterwarnings("ignore", category=DeprecationWarning)
                    warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
                    try:
                        try:
                            with _silent(logging.getLogger("torch._guards")):
                                result = compiled(*arguments)
                        except torch._dynamo.exc.InternalTorchDynamoError:  # guards of NumPy arrays resist the filter
                            compiled = torch.compile(_own(function), fullgraph=True, dynamic=False)
                            result = compiled(*arguments)
                    except (torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError) as error:
                        raise UsageError(_untraced(str(error))) from error
            warm = True
            return result

        return call

    def is_array(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    def block_until_ready(self, tree: Any) -> Any:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return tree

    def describe_device(self) -> tuple[str, str | None]:
        return (torch.cuda.get_device_name(), torch.version.cuda) if self.device == "cuda" else (self.device, None)

    def device_seconds(self, launch: Callable[[], Any], repeats: int) -> float | None:
        """Return the seconds between two CUDA events on the stream, before the first call and after the last.

        Where the host is slower to start work than the card is to do it, its gaps count.
        """
        if self.device != "cuda":
            return None
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            launch()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000.0  # an event's unit is the millisecond

    def peak_memory(self, run: Callable[[], Any]) -> int | None:
        if self.device != "cuda":
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return int(torch.cuda.max_memory_allocated() - before)
