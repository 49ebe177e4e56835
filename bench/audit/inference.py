"""What a callable does not say: its framework, its arguments, and the kind of randomness that it takes."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from gradmeter.bench.audit.parts import named
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import NAMES
from gradmeter.estimators.errors import unknown

#: Kinds of randomness: a JAX key; a generator of the framework; a whole number; the global generators, seeded before.
KINDS = ("key", "generator", "seed", "global")
#: Framework by package that belongs to it. A callable that uses several belongs to the first one in this order.
FRAMEWORK_OF = {
    **dict.fromkeys(("jax", "jaxlib", "flax", "optax", "haiku", "numpyro", "distrax", "blackjax"), "jax"),
    **dict.fromkeys(("torch", "pyro", "gpytorch", "torchvision"), "torch"),
    "numpy": "numpy",
    "scipy": "numpy",
}
ORDER = ("jax", "torch", "numpy")
#: How many functions deep the code of a callable is read.
DEEPEST = 3


@dataclass(frozen=True)
class Arguments:
    """The arguments that a callable takes.

    Attributes
    ----------
    parameters, randomness
        Whether it takes parameters, and a source of randomness.
    name
        Name of the argument for the randomness; empty if it is unknown.
    num_samples
        Whether it takes `num_samples`.
    """

    parameters: bool
    randomness: bool
    name: str = ""
    num_samples: bool = False


def arguments_of(gradient: Callable[..., Any], parameters: bool, rng: str) -> Arguments:
    """Return how a gradient is called: with parameters, if there are any, then a source of randomness.

    Parameters
    ----------
    gradient
        The user's function.
    parameters
        Whether there are parameters.
    rng
        One of `KINDS`, or `auto`.

    Raises
    ------
    UsageError
        It takes more, or fewer, arguments than that.
    """
    try:
        signature = inspect.signature(gradient)
    except (TypeError, ValueError):  # written in C
        return Arguments(parameters, rng != "global")
    kinds = inspect.Parameter
    every = [p for p in signature.parameters.values() if p.name != "num_samples"]
    placed = [p for p in every if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    required = [p for p in placed if p.default is kinds.empty]
    variadic = any(p.kind is kinds.VAR_POSITIONAL for p in every)
    demanded = [p.name for p in every if p.kind is kinds.KEYWORD_ONLY and p.default is kinds.empty]
    most = int(parameters) + 1
    wanted = "(parameters, rng)" if parameters else "(rng)"
    if len(required) > most or demanded:
        others = demanded or [p.name for p in required[most:]]
        hint = "" if parameters else "; give parameters=... if the first one is for them"
        raise UsageError(
            f"{name_of(gradient)}{signature} is called as {wanted}, which leaves {', '.join(others)} without a value; "
            f"wrap it in a function of {wanted}{hint}"
        )
    if parameters and not placed and not variadic:
        raise UsageError(f"{name_of(gradient)}{signature} takes no parameters, but parameters were given")
    room = len(placed) if not variadic else most
    randomness = rng != "global" and room >= most
    if rng not in ("auto", "global") and not randomness:
        raise UsageError(f"{name_of(gradient)}{signature} has no argument for rng={rng}; use rng=global, or add one")
    argument = placed[most - 1].name if randomness and len(placed) >= most else ""
    return Arguments(parameters, randomness, argument, "num_samples" in signature.parameters)


def kinds_of(arguments: Arguments, rng: str, backend: str) -> tuple[str, ...]:
    """Return the kinds of randomness to try, the likeliest first.

    Parameters
    ----------
    arguments
        Arguments that the gradient takes.
    rng
        One of `KINDS`, or `auto`.
    backend
        Framework of the gradient.
    """
    if rng != "auto":
        return (rng,)
    if not arguments.randomness:
        return ("global",)
    own = "key" if backend == "jax" else "generator"
    return ("seed", own) if "seed" in arguments.name.lower() else (own, "seed")


def name_of(gradient: Any) -> str:
    """Return a name for a callable: its own, or that of its class."""
    inner = gradient.func if isinstance(gradient, functools.partial) else gradient
    found = getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or type(inner).__qualname__
    return str(found).rpartition(".<locals>.")[2] or str(found)


def backend_of(gradient: Any, parameters: Any, backend: str, rng: str) -> str:
    """Return the framework of a gradient: from its parameters, its randomness, or the modules that its code uses.

    Parameters
    ----------
    gradient
        The user's function.
    parameters
        Parameters of the gradient, or None.
    backend
        `numpy`, `torch`, `jax` or `auto`.
    rng
        One of `KINDS`, or `auto`.

    Raises
    ------
    UsageError
        The framework is unknown, or not installed.
    """
    if backend != "auto":
        if backend not in NAMES:
            raise unknown("backend", str(backend), ("auto", *NAMES))
        found = backend
    elif rng == "key":
        found = "jax"
    else:
        of_arrays = {_framework(type(leaf).__module__) for leaf in _arrays(parameters)} - {None, "numpy"}
        used = of_arrays or set(_used(gradient, DEEPEST))
        found = next((name for name in ORDER if name in used), "numpy")
    if found != "numpy" and importlib.util.find_spec(found) is None:
        raise UsageError(f"the gradient uses {found}, which is not installed; pip install gradmeter[{found}]")
    return found


def _arrays(parameters: Any) -> list[Any]:
    if parameters is None:
        return []
    if is_module(parameters):
        return list(parameters.parameters())
    return list(named(parameters).values())


def is_module(thing: Any) -> bool:
    """Return whether it is a `torch.nn.Module`."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.nn.Module)


def _framework(module: str | None) -> str | None:
    return FRAMEWORK_OF.get((module or "").partition(".")[0])


def _used(thing: Any, depth: int) -> Iterator[str]:
    """Yield the frameworks that a callable uses: its own, and those of what its code names or closes over."""
    own = _framework(getattr(type(thing), "__module__", None)) or _framework(getattr(thing, "__module__", None))
    if own is not None:
        yield own
    if isinstance(thing, ModuleType):
        found = _framework(thing.__name__)
        if found is not None:
            yield found
        return
    if depth == 0:
        return
    if isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
            yield from _used(part, depth)
        return
    inner = getattr(thing, "__wrapped__", None) or getattr(thing, "__func__", None)
    if inner is not None:
        yield from _used(inner, depth)
    if getattr(thing, "__self__", None) is not None:
        yield from (name for value in _attributes(thing.__self__) for name in _used(value, 0))
    code = getattr(thing, "__code__", None)
    if code is None:
        call = vars(type(thing)).get("__call__")
        if getattr(call, "__code__", None) is not None and not isinstance(thing, type):
            yield from _used(call, depth)
            yield from (name for value in _attributes(thing) for name in _used(value, 0))
        return
    for name in _names(code):
        value = thing.__globals__.get(name)
        if value is not None:
            yield from _used(value, depth - 1)
        elif name in FRAMEWORK_OF:  # imported inside the function
            yield FRAMEWORK_OF[name]
    for cell in thing.__closure__ or ():
        try:
            yield from _used(cell.cell_contents, depth - 1)
        except ValueError:  # not filled yet
            continue


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _attributes(thing: Any) -> list[Any]:
    return list(vars(thing).values()) if hasattr(thing, "__dict__") else []


def as_arrays(parameters: Mapping[str, np.ndarray], framework: str) -> dict[str, Any]:
    """Return parameters as arrays of a framework, in its default precision."""
    if framework == "torch":
        import torch

        return {name: torch.as_tensor(a, dtype=torch.get_default_dtype()) for name, a in parameters.items()}
    if framework == "jax":
        import jax.numpy as jnp

        return {name: jnp.asarray(a) for name, a in parameters.items()}
    return dict(parameters)
