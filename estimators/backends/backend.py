"""What an estimator and its measurement need of a framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

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

    def is_array(self, value: Any) -> bool:
        """Return whether a value is an array of this framework."""
        ...

    def compile(self, function: Callable[..., Any], dear_sums: bool = False) -> Callable[..., Any]:
        """A compiled form of a pure function of arrays; raises rather than run slowly unnoticed.

        Parameters
        ----------
        dear_sums : whether what it sums is mostly exponentials and logarithms, of the rows of data: a library for sums
            that XLA can call has faster ones, and costs more where what is summed is cheap.
        """
        ...

    def compile_for_few_calls(
        self, function: Callable[..., Any], dear_sums: bool = False, handful: bool = False
    ) -> Callable[..., Any]:
        """Return a form of a pure function that costs least where it is called few times: most return the function.

        Parameters
        ----------
        dear_sums : as for `compile`.
        handful : whether the calls are so few that compiling with little optimisation costs less.
        """
        ...

    def block_until_ready(self, tree: Any) -> Any:
        """Wait until every array in a structure of tuples and dicts is computed."""
        ...
