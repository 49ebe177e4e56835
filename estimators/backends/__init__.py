"""Backends: what the Python array API leaves out, one small record per framework.

Requirements on this folder
---------------------------
- A framework is imported only by `get`, and only the one asked for.
- A backend is passed as an argument; there is no current backend.
- Arithmetic is not here: it is written once, against `backend.xp`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

from gradmeter.estimators.errors import UsageError, unknown

Array = Any


class Backend(Protocol):
    """What an estimator and its measurement need of a framework.

    Attributes
    ----------
    name, device, threads : which framework, where it computes, with how many threads (None where not known).
    xp : the array API namespace.
    special : special functions, under the names SciPy, PyTorch and JAX share (`digamma`, `gammaln`, `erf`, ...).
    compiles : false where a compiler is missing and functions run eagerly instead.
    draws_inside : whether noise is drawn inside a compiled function (JAX) or before it (NumPy, PyTorch).
    compiles_slowly : whether a compilation takes seconds, so that few calls are made without.
    strided : whether arrays of any rank are as fast with their axes reversed in memory; compiled code is not.
    chunk : how many elements one call of a compiled function handles best; a matter of speed alone.
    """

    name: str
    device: str
    xp: Any
    compiles: bool
    draws_inside: bool
    compiles_slowly: bool
    strided: bool
    chunk: int

    @property
    def threads(self) -> int | None: ...

    @property
    def special(self) -> Any: ...

    def asarray(self, values: Any, dtype: str | None) -> Array:
        """An array on this device; `dtype` None keeps integers as they are."""
        ...

    def to_numpy(self, array: Array) -> Any:
        """A NumPy array on the host."""
        ...

    def root(self, number: int) -> Any:
        """A stream root in the form that `stream` takes; may be traced."""
        ...

    def stream(self, root: Any, block: Any) -> Any:
        """The random stream of one block of replicates."""
        ...

    def normal(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array: ...

    def uniform(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array: ...

    def subset(self, stream: Any, shape: tuple[int, ...], population: int) -> Array:
        """[R, B] row numbers, each row of it B distinct numbers below `population`; in random order where that is all
        of them, else in any."""
        ...

    def gradient(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """The gradient of a function with a scalar value. Rows are independent, so for Σ f it is every row's ∇f."""
        ...

    def hvp(self, function: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        """(z, vector) -> the Hessian of a function with a scalar value, times the vector; for Σ f, every row's ∇²f."""
        ...

    def pullback(self, function: Callable[..., Array], instead: str) -> Callable[..., dict[str, Array]]:
        """(parameters by name, *arrays with a leading axis R) -> for every one of R the gradient in the parameters,
        {name: [R, *shape]}, of a function with a scalar value of the parameters and one slice of the arrays.

        Raises
        ------
        NotApplicable
            The backend cannot differentiate; the message says what to give `instead`: "the integrand a … method".
        """
        ...

    def matrix_sum(self, matrix: Array, axis: int) -> Array:
        """The sums of a matrix along one axis, in whichever form the compiler makes fast."""
        ...

    def map(self, function: Callable[[Any], Array], xs: Any) -> Array:
        """`function` along the leading axis of an array or a tuple of them, in turn (bounded memory), stacked."""
        ...

    def compile(self, function: Callable[..., Any], dear_sums: bool = False) -> Callable[..., Any]:
        """A compiled form of a pure function of arrays; raises rather than run slowly unnoticed.

        Parameters
        ----------
        dear_sums : whether what it sums is mostly exponentials and logarithms, of the rows of data: a library for sums
            that XLA can call has faster ones, and costs more where what is summed is cheap.
        """
        ...

    def block_until_ready(self, tree: Any) -> Any:
        """Wait until every array in a structure of tuples and dicts is computed."""
        ...


NAMES = ("numpy", "torch", "jax")
DEVICES = ("cpu", "cuda")
SUMMARIES = {
    "numpy": "NumPy on the CPU; closed-form gradients only",
    "torch": "PyTorch, compiled with torch.compile",
    "jax": "JAX, compiled with jax.jit; noise drawn inside the compiled function",
}


def missing(name: str) -> str | None:
    """Why a backend cannot be used here, without importing it; None if it can."""
    if name not in NAMES:
        raise unknown("backend", name, NAMES)
    if importlib.util.find_spec(name) is None:
        return f"backend '{name}' is not installed; pip install 'gradmeter[{name}]'"
    return None


def get(name: str, device: str = "cpu") -> Backend:
    """The backend `name` on `device`, always the same object; imports its framework.

    Raises
    ------
    UsageError
        The framework is not installed, or has no such device.
    """
    reason = missing(name)
    if reason:
        raise UsageError(reason)
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    return _load(name, device)


def for_handful_of_calls(backend: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same where even compiling costs more than the calls: JAX compiles with less care."""
    compiled: Callable[..., Any] = backend.compile_quickly(function) if backend.name == "jax" else function
    return compiled


def for_few_calls(backend: Any, function: Callable[..., Any], dear_sums: bool = False) -> Callable[..., Any]:
    """Compiled by JAX alone, which takes long over single operations."""
    compiled: Callable[..., Any] = backend.compile(function, dear_sums) if backend.name == "jax" else function
    return compiled


@functools.cache
def _load(name: str, device: str) -> Backend:
    if name == "numpy":
        from gradmeter.estimators.backends.numpy import NumpyBackend as Found
    elif name == "torch":
        from gradmeter.estimators.backends.torch import TorchBackend as Found  # type: ignore[assignment]
    else:
        from gradmeter.estimators.backends.jax import JaxBackend as Found  # type: ignore[assignment]
    return Found(device)
