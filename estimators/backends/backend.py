"""The interface of a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Array = Any


class Backend(Protocol):
    """The operations that an estimator and its measurement need from a framework, some with a default.

    Attributes
    ----------
    name, device, threads
        The framework, the device it computes on, and the number of threads (None if unknown).
    xp
        The array API namespace.
    special
        Special functions, under the names that SciPy, PyTorch and JAX share (`digamma`, `gammaln`, `erf`, ...).
    compiles
        False if no compiler is found, so that functions run eagerly.
    draws_inside
        Whether noise is drawn inside a compiled function (JAX) or before it (NumPy, PyTorch).
    compiles_slowly
        Whether a compilation takes seconds, so that it does not pay for a few calls.
    strided
        Whether arrays of any rank are as fast with their axes reversed in memory; compiled code is not.
    chunk
        The number of elements that one call of a compiled function handles best; it affects speed only.
    """

    name: str
    device: str
    xp: Any
    compiles: bool
    draws_inside: bool
    compiles_slowly: bool
    strided: bool
    chunk: int
    threads: int | None

    @property
    def special(self) -> Any: ...

    def asarray(self, values: Any, dtype: str | None) -> Array:
        """Return an array on this device; with `dtype` None, integers keep their dtype."""
        ...

    def to_numpy(self, array: Array) -> Any:
        """Return a NumPy array on the host."""
        ...

    def root(self, number: int) -> Any:
        """Return a stream root in the form that `stream` takes; it may be traced."""
        return number

    def stream(self, root: Any, block: Any) -> Any:
        """Return the random stream of one block of replicates."""
        ...

    def normal(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array: ...

    def uniform(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array: ...

    def subset(self, stream: Any, shape: tuple[int, ...], population: int) -> Array:
        """Return row numbers [R, B]: each row has B distinct numbers below `population`.

        If B is `population`, the order is random, otherwise arbitrary.
        """
        ...

    def gradient(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Return the gradient of a scalar function. For a sum of f over independent rows, it is ∇f of every row."""
        ...

    def hvp(self, function: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        """Return the function (z, vector) -> Hessian of a scalar function times vector; for Σ f, ∇²f of every row."""
        ...

    def pullback(self, function: Callable[..., Array], instead: str) -> Callable[..., dict[str, Array]]:
        """Return the function (parameters by name, *arrays [R, ...]) -> gradients {name: [R, *shape]}.

        For each of the R slices of the arrays, it is the gradient of the scalar `function(parameters, *slices)` with
        respect to the parameters.

        Raises
        ------
        NotApplicable
            The backend cannot differentiate; the message says what to give `instead`: "the integrand a … method".
        """
        ...

    def matrix_sum(self, matrix: Array, axis: int) -> Array:
        """Return the sums of a matrix along one axis, in the form that the compiler makes fastest."""
        return self.xp.sum(matrix, axis=axis)

    def map(self, function: Callable[[Any], Array], xs: Any) -> Array:
        """Apply `function` along the leading axis of an array or a tuple of arrays, and stack the results.

        The calls are made one after another, so memory stays bounded.
        """
        each = zip(*xs, strict=True) if isinstance(xs, tuple) else xs
        return self.xp.stack([function(x) for x in each])

    def is_array(self, value: Any) -> bool:
        """Return whether a value is an array of this framework."""
        ...

    def compile(self, function: Callable[..., Any], expensive_reductions: bool = False) -> Callable[..., Any]:
        """Return a compiled form of a pure function of arrays; raise instead of silently running slowly.

        Parameters
        ----------
        expensive_reductions
            Whether the function mostly sums exponentials and logarithms over the rows of data. XLA can call a library
            for sums, which is faster for such terms and slower for cheap ones.
        """
        ...

    def compile_for_few_calls(
        self, function: Callable[..., Any], expensive_reductions: bool = False, handful: bool = False
    ) -> Callable[..., Any]:
        """Return the fastest form of a pure function that is called few times; most backends return the function.

        Parameters
        ----------
        expensive_reductions
            As for `compile`.
        handful
            Whether there are so few calls that compiling with little optimisation costs less.
        """
        return function

    def block_until_ready(self, tree: Any) -> Any:
        """Wait until every array in a structure of tuples and dicts is computed, and return it."""
        return tree

    def describe_device(self) -> tuple[str, str | None]:
        """Return the name of the device's model and the version of CUDA, None if unknown."""
        return self.device, None

    def device_seconds(self, launch: Callable[[], Any], repeats: int) -> float | None:
        """Return the seconds that the device took for some calls, by its own clock; None without such a clock.

        Parameters
        ----------
        launch : starts the work and does not wait for it.
        repeats : number of calls.
        """
        return None

    def peak_memory(self, run: Callable[[], Any]) -> int | None:
        """Return the most bytes that a call takes on the device beyond those in use before; None if unknown.

        Parameters
        ----------
        run : does the work and waits for it.
        """
        return None
