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
    def special(self) -> Any:
        """The namespace of special functions."""
        ...

    def asarray(self, values: Any, dtype: str | None) -> Array:
        """Return an array on this device; with `dtype` None, integers keep their dtype.

        Parameters
        ----------
        values
            Anything that NumPy makes an array of, or an array of the framework.
        dtype
            `float64`, `float32` or None.

        Returns
        -------
        array
        """
        ...

    def to_numpy(self, array: Array) -> Any:
        """Return a NumPy array on the host.

        Parameters
        ----------
        array
            An array of the framework.

        Returns
        -------
        numpy.ndarray
        """
        ...

    def root(self, number: int) -> Any:
        """Return a stream root in the form that `stream` takes; it may be traced.

        Parameters
        ----------
        number
            A number that `stream_root` returned.

        Returns
        -------
        root
            An integer or an array.
        """
        return number

    def stream(self, root: Any, block: Any) -> Any:
        """Return the random stream of one block of replicates.

        Parameters
        ----------
        root
            What `root` returned.
        block
            Number of the block of replicates, from 0; it may be traced.

        Returns
        -------
        stream
            A generator or a key, whichever the framework has.
        """
        ...

    def normal(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
        """Draw from N(0, 1).

        Parameters
        ----------
        stream
            What `stream` returned.
        shape
            Shape of the array.
        dtype
            `float64` or `float32`.

        Returns
        -------
        array
            Of the given shape and dtype.
        """
        ...

    def uniform(self, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
        """Draw from the uniform distribution on [0, 1).

        Parameters
        ----------
        stream
            What `stream` returned.
        shape
            Shape of the array.
        dtype
            `float64` or `float32`.

        Returns
        -------
        array
            Of the given shape and dtype.
        """
        ...

    def subset(self, stream: Any, shape: tuple[int, ...], population: int) -> Array:
        """Return row numbers [R, B]: each row has B distinct numbers below `population`.

        If B is `population`, the order is random, otherwise arbitrary.

        Parameters
        ----------
        stream
            What `stream` returned.
        shape
            (R, B).
        population
            Number of rows to choose from, at least B.

        Returns
        -------
        array
            Integers [R, B].
        """
        ...

    def gradient(self, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Return the gradient of a scalar function. For a sum of f over independent rows, it is ∇f of every row.

        Parameters
        ----------
        function
            (array [..., D]) -> a number.

        Returns
        -------
        callable
            (array [..., D]) -> array [..., D].

        Raises
        ------
        NotApplicable
            The backend cannot differentiate.
        """
        ...

    def hvp(self, function: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        """Return the function (z, vector) -> Hessian of a scalar function times vector; for Σ f, ∇²f of every row.

        Parameters
        ----------
        function
            (array [..., D]) -> a number.

        Returns
        -------
        callable
            (z [..., D], vector [..., D]) -> array [..., D].

        Raises
        ------
        NotApplicable
            The backend cannot differentiate.
        """
        ...

    def pullback(self, function: Callable[..., Array], instead: str) -> Callable[..., dict[str, Array]]:
        """Return the function (parameters by name, *arrays [R, ...]) -> gradients {name: [R, *shape]}.

        For each of the R slices of the arrays, it is the gradient of the scalar `function(parameters, *slices)` with
        respect to the parameters.

        Parameters
        ----------
        function
            (parameters by name, *slices) -> a number.
        instead
            What a backend without derivatives asks for, in words.

        Returns
        -------
        callable

        Raises
        ------
        NotApplicable
            The backend cannot differentiate; the message says what to give `instead`: "the integrand a … method".
        """
        ...

    def matrix_sum(self, matrix: Array, axis: int) -> Array:
        """Return the sums of a matrix along one axis, in the form that the compiler makes fastest.

        Parameters
        ----------
        matrix
            [M, N].
        axis
            0 or 1.

        Returns
        -------
        array
            [N] or [M].
        """
        return self.xp.sum(matrix, axis=axis)

    def map(self, function: Callable[[Any], Array], xs: Any) -> Array:
        """Apply `function` along the leading axis of an array or a tuple of arrays, and stack the results.

        The calls are made one after another, so memory stays bounded.

        Parameters
        ----------
        function
            Takes one item of the leading axis, or a tuple of items.
        xs
            An array [N, ...], or a tuple of arrays.

        Returns
        -------
        array
            [N, ...].
        """
        each = zip(*xs, strict=True) if isinstance(xs, tuple) else xs
        return self.xp.stack([function(x) for x in each])

    def is_array(self, value: Any) -> bool:
        """Return whether a value is an array of this framework.

        Parameters
        ----------
        value
            Any object.

        Returns
        -------
        bool
        """
        ...

    def compile(self, function: Callable[..., Any], expensive_reductions: bool = False) -> Callable[..., Any]:
        """Return a compiled form of a pure function of arrays; raise instead of silently running slowly.

        Parameters
        ----------
        function
            A pure function of arrays.
        expensive_reductions
            Whether the function mostly sums exponentials and logarithms over the rows of data. XLA can call a library
            for sums, which is faster for such terms and slower for cheap ones.

        Returns
        -------
        callable
        """
        ...

    def compile_for_few_calls(
        self, function: Callable[..., Any], expensive_reductions: bool = False, handful: bool = False
    ) -> Callable[..., Any]:
        """Return the fastest form of a pure function that is called few times; most backends return the function.

        Parameters
        ----------
        function
            A pure function of arrays.
        expensive_reductions
            As for `compile`.
        handful
            Whether there are so few calls that compiling with little optimisation costs less.

        Returns
        -------
        callable
        """
        return function

    def block_until_ready(self, tree: Any) -> Any:
        """Wait until every array in a structure of tuples and dicts is computed, and return it.

        Parameters
        ----------
        tree
            Nested tuples and dicts of arrays.

        Returns
        -------
        tree
        """
        return tree

    def describe_device(self) -> tuple[str, str | None]:
        """Return the name of the device's model and the version of CUDA, None if unknown.

        Returns
        -------
        model
        cuda
        """
        return self.device, None

    def device_seconds(self, launch: Callable[[], Any], repeats: int) -> float | None:
        """Return the seconds that the device took for some calls, by its own clock; None without such a clock.

        Parameters
        ----------
        launch
            Starts the work and does not wait for it.
        repeats
            Number of calls.

        Returns
        -------
        float or None
        """
        return None

    def peak_memory(self, run: Callable[[], Any]) -> int | None:
        """Return the most bytes that a call takes on the device beyond those in use before; None if unknown.

        Parameters
        ----------
        run
            Does the work and waits for it.

        Returns
        -------
        int or None
        """
        return None
