"""Calls of a user's gradient: one replicate from each seed, in a batch where the framework can do that."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradmeter.bench.audit.inference import Arguments, is_module
from gradmeter.bench.audit.parts import Form, mapped, named
from gradmeter.bench.sweep.measuring import place_of
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import typed
from gradmeter.estimators.noise import stream_root

#: Streams of randomness, each with seeds of its own, and the most replicates of one.
STREAMS = ("trial", "pilot", "main", "confirm", "again")
LONGEST = 2**27
#: Replicates in one compiled call, fewer where a gradient is so large that a call would hold more numbers than this.
BATCH, MOST_NUMBERS = 1024, 2**21
#: Calls that compare a batch with single calls, and the relative difference that rounding may make.
COMPARED, ROUNDING = 4, 1e-3
#: Seconds beyond the budget that one call may take before it is interrupted.
GRACE = 5.0


class Endless(BaseException):
    """Raised inside a user's call that does not return in time. No `except Exception` of theirs stops it."""


class Watch:
    """Interrupts a call that goes on after the deadline, in whatever thread it runs."""

    def __init__(self, seconds: float) -> None:
        self.started = time.perf_counter()
        self.deadline = self.started + seconds
        self.seconds = seconds
        #: Seconds that were spent before the measurement, by what took them.
        self.before: dict[str, float] = {}

    @property
    def left(self) -> float:
        return self.deadline - time.perf_counter()

    @contextlib.contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """Record the time of what runs inside under this name."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.before[what] = self.before.get(what, 0.0) + time.perf_counter() - start

    @contextlib.contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Interrupt what runs inside if it goes on for longer than the budget that is left, plus some grace."""
        thread, ended = threading.get_ident(), threading.Event()
        allowed = max(self.left, 0.0) + GRACE

        def interrupt() -> None:
            if not ended.wait(allowed):
                _raise_in(thread, Endless)

        timer = threading.Thread(target=interrupt, daemon=True)
        timer.start()
        try:
            yield
        except Endless:
            raise UsageError(
                f"{what} did not return within {allowed:.3g} s, compilation included: a call must end; give more "
                "seconds= if it is only slow"
            ) from None
        finally:
            ended.set()


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    """Raise an exception in another thread, at its next step of Python."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))


@dataclass
class Called:
    """A gradient, and everything that a call of it needs.

    Attributes
    ----------
    gradient, parameters
        What is called, and its first argument if it has one.
    arguments
        The arguments it takes.
    kind
        Kind of randomness, one of `KINDS`.
    backend
        Its framework.
    root
        Number that all seeds derive from.
    num_samples
        Passed on to a gradient that takes it.
    name
        Its name in messages.
    """

    gradient: Callable[..., Any]
    parameters: Any
    arguments: Arguments
    kind: str
    backend: str
    root: int
    num_samples: int | None
    name: str
    #: What users should know about how it was called.
    remarks: list[str] = field(default_factory=list)
    #: Number of calls so far; a batch counts once.
    made: int = 0

    def __call__(self, randomness: Any) -> Any:
        """Call the gradient once."""
        self.made += 1
        given = (self.parameters,) if self.arguments.parameters else ()
        if self.arguments.randomness:
            given = (*given, randomness)
        named_ = {"num_samples": self.num_samples} if self.arguments.num_samples and self.num_samples else {}
        if not is_module(self.parameters):
            return self.gradient(*given, **named_)
        return self._of_module(self.gradient(*given, **named_))

    def _of_module(self, found: Any) -> Any:
        """Return the gradients that a module's parameters hold after a call, which may return the loss or do more."""
        module = self.parameters
        if getattr(found, "ndim", None) == 0 and getattr(found, "grad_fn", None) is not None:
            found.backward()
        elif found is not None and found is not module:
            return found
        wanted = {name: p for name, p in module.named_parameters() if p.requires_grad}
        grads = {name: p.new_zeros(p.shape) if p.grad is None else p.grad.clone() for name, p in wanted.items()}
        module.zero_grad(set_to_none=True)
        return grads

    def seed(self, stream: int, place: int) -> int:
        """Return a replicate's seed, below 2^31; seeds of all replicates differ."""
        number = (self.root % 2**31 + stream * LONGEST * 2 + place) % 2**31
        return int(number)


class Caller(ABC):
    """Makes replicates of a gradient.

    Parameters
    ----------
    called
        The gradient.
    form
        The form of what it returns.
    """

    vectorised = False

    def __init__(self, called: Called, form: Form) -> None:
        self.called, self.form = called, form

    @abstractmethod
    def raw(self, stream: int, first: int, count: int) -> Any:
        """Return `count` gradients as the framework stacks them, or as a list of single ones."""

    def __call__(self, stream: int, first: int, count: int) -> dict[str, np.ndarray]:
        """Return replicates `first` to `first + count` of a stream, [count, P] by part."""
        found = self.raw(stream, first, count)
        if self.vectorised:
            return self.form.flat(found, self.called.name, (count,))
        rows = [self.form.flat(one, self.called.name) for one in found]
        return {name: np.stack([row[name] for row in rows]) for name in self.form.shapes}


class Loop(Caller):
    """Calls the gradient once a replicate."""

    def __init__(self, called: Called, form: Form, wrap: Callable[[Any], Any] = lambda call: call) -> None:
        super().__init__(called, form)
        self._call = wrap(called)

    def raw(self, stream: int, first: int, count: int) -> list[Any]:
        return [self._call(r) for r in randomness(self.called, stream, first, count)]


def randomness(called: Called, stream: int, first: int, count: int) -> Iterator[Any]:
    """Yield the source of randomness of each replicate; for global generators seed them instead and yield None.

    Parameters
    ----------
    called
        The gradient and how it is called.
    stream
        Number of the stream of seeds.
    first
        Number of the first replicate in this stream.
    count
        Number of replicates.
    """
    if called.kind == "key":
        import jax

        root = jax.random.PRNGKey(called.root % 2**31)
        stream_key = jax.random.fold_in(root, stream)
        for place in range(first, first + count):
            yield jax.random.fold_in(stream_key, place)
        return
    for place in range(first, first + count):
        seed = called.seed(stream, place)
        if called.kind == "seed":
            yield seed
        elif called.kind == "global":
            seed_all(seed)
            yield None
        elif called.backend == "torch":
            import torch

            yield torch.Generator(device=device_of(called)).manual_seed(seed)
        else:
            yield np.random.default_rng((called.root, stream, place))


def device_of(called: Called) -> str:
    """Return where a gradient is computed, `cpu` or `cuda`: where its parameters are, or JAX's default."""
    if called.backend == "jax":
        return "cpu" if sys.modules["jax"].default_backend() == "cpu" else "cuda"
    torch = sys.modules.get("torch")
    if called.backend != "torch" or torch is None:
        return "cpu"
    given = called.parameters
    leaves = list(given.parameters()) if is_module(given) else [] if given is None else list(named(given).values())
    return next((str(leaf.device.type) for leaf in leaves if isinstance(leaf, torch.Tensor)), "cpu")


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, NumPy and, if it is loaded, PyTorch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (users draw from it)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@contextlib.contextmanager
def global_generators_kept() -> Iterator[None]:
    """Restore the states of the global generators afterwards."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        if torch:
            torch.set_rng_state(states[2])


class JaxBatch(Caller):
    """Calls the gradient on a batch of keys or seeds at once, by `jax.vmap` inside `jax.jit`.

    It is compiled once, for batches of one size; larger calls take several, smaller ones leave the rest unused.
    """

    vectorised = True

    def __init__(self, called: Called, form: Form) -> None:
        super().__init__(called, form)
        import jax
        import jax.numpy as jnp

        def one(stream: Any, place: Any) -> Any:
            if called.kind == "key":
                root = jax.random.PRNGKey(called.root % 2**31)
                found = called(jax.random.fold_in(jax.random.fold_in(root, stream), place))
            else:
                offset = jnp.uint32(called.root % 2**31) + stream * jnp.uint32(LONGEST * 2) + place
                found = called((offset % jnp.uint32(2**31)).astype(jnp.int32))
            return {name: jnp.asarray(leaf) for name, leaf in named(found).items()}

        self._run = jax.jit(jax.vmap(one, in_axes=(None, 0)))
        self._size = max(COMPARED, min(BATCH, MOST_NUMBERS // max(1, sum(form.sizes.values()))))

    def raw(self, stream: int, first: int, count: int) -> Any:
        starts = range(first, first + count, self._size)
        places = np.arange(self._size, dtype=np.uint32)
        found = [self._run(np.uint32(stream), np.uint32(start) + places) for start in starts]
        return {name: np.concatenate([np.asarray(each[name]) for each in found])[:count] for name in found[0]}


class TorchBatch(Caller):
    """Calls the gradient on a batch at once, by `torch.func.vmap`; replicates take turns at one generator."""

    vectorised = True

    def raw(self, stream: int, first: int, count: int, same: bool = False) -> Any:
        import torch

        called = self.called
        source = next(randomness(called, stream, first, 1))

        def one(_: Any) -> Any:
            return {name: torch.as_tensor(leaf) for name, leaf in named(called(source)).items()}

        run = torch.func.vmap(one, randomness="same" if same else "different")
        return run(torch.zeros(count))


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Swallow what a user's gradient prints."""
    return contextlib.redirect_stdout(_Sink())


class _Sink(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


class Raised(UsageError):
    """A user's function raised an exception."""


def raised(name: str, error: BaseException) -> Raised:
    """Return the error to show for an exception in a user's function."""
    return Raised(f"{name} raised {typed(error, 300)}{place_of(error)}")


def batched(called: Called, form: Form, vectorize: str | bool) -> Caller:
    """Return the fastest way of making replicates that gives the same gradients as single calls.

    Parameters
    ----------
    called
        The gradient and how it is called.
    form
        Form of what the gradient returns.
    vectorize
        As in `gradmeter.audit`.

    Raises
    ------
    UsageError
        `vectorize` is true and the gradient cannot be called in a batch.
    """
    loop: Caller = Loop(called, form)
    if vectorize is False or called.backend == "numpy" or (called.backend == "jax" and called.kind == "global"):
        if vectorize is True:
            raise UsageError(f"vectorize=True: {called.name} cannot be called in a batch on {called.backend}")
        return loop
    why = "a torch.nn.Module holds one gradient at a time" if is_module(called.parameters) else None
    if why is None and called.backend == "torch" and called.kind == "seed":
        why = "a seed is a single number"
    if why is None:
        try:
            batch: Caller = JaxBatch(called, form) if called.backend == "jax" else TorchBatch(called, form)
            why = _differs(loop, batch)
            if why is None:
                return batch
        except UsageError as error:
            why = str(error)
        except Exception as error:  # whatever a framework raises for what it cannot batch
            why = f"{type(error).__name__} in {'jax.vmap' if called.backend == 'jax' else 'torch.func.vmap'}"
    if vectorize is True:
        raise UsageError(f"vectorize=True: {called.name} cannot be called in a batch: {why}")
    called.remarks.append(f"called once a replicate, not in batches ({why})")
    if called.backend == "jax" and not is_module(called.parameters):
        compiled = _compiled(called, form, loop)
        return compiled or loop
    return loop


def _compiled(called: Called, form: Form, loop: Caller) -> Caller | None:
    """Return a loop over the compiled gradient, if it can be compiled and gives the same gradients."""
    import jax

    try:
        found = Loop(called, form, jax.jit)
        return found if _differs(loop, found) is None else None
    except Exception:
        return None


def _differs(loop: Caller, other: Caller) -> str | None:
    """Return how gradients of a batch differ from those of single calls, beyond rounding; None if they agree.

    PyTorch's replicates share a generator, so there all replicates of the batch are given the same numbers.
    """
    few = COMPARED
    single = loop(0, 0, few)
    if isinstance(other, TorchBatch):
        again = other.form.flat(other.raw(0, 0, few, same=True), other.called.name, (few,))
        single = {name: np.stack([a[0]] * few) for name, a in single.items()}
        other(0, 0, few)
    else:
        again = other(0, 0, few)
    for name, a in single.items():
        size = np.max(np.abs(a), initial=0.0, where=np.isfinite(a))
        if not np.allclose(a, again[name], rtol=ROUNDING, atol=ROUNDING * float(size), equal_nan=True):
            return f"{name} of a batch is not that of single calls"
    return None


def kept(parameters: Any) -> Any:
    """Return a copy of the parameters, to compare them with later."""
    if is_module(parameters):
        return {name: p.detach().clone() for name, p in parameters.named_parameters()}
    return mapped(parameters, copy.deepcopy)


def changed(before: Any, parameters: Any) -> str | None:
    """Return the name of a parameter that differs from its copy; None if all are the same."""
    now = dict(parameters.named_parameters()) if is_module(parameters) else named(parameters)
    for name, old in named(before).items():
        new = now.get(name)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(old, torch.Tensor):
            if not (isinstance(new, torch.Tensor) and torch.equal(old, new.detach())):
                return name
        elif not np.array_equal(np.asarray(old), np.asarray(new), equal_nan=np.asarray(old).dtype.kind == "f"):
            return name
    return None


def root_of(name: str, seed: int) -> int:
    """Return the number that all seeds of an audit derive from."""
    return stream_root("audit", name, seed) % 2**63
