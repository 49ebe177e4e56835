"""The parts of a gradient as its author returns it: arrays of any nesting, by name."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gradmeter.estimators import UsageError

#: Name of the only part of a gradient that is a bare array.
ALONE = "gradient"
#: Names of scales among parameters; whether the value is a logarithm.
SCALES = {"scale": False, "sigma": False, "std": False, "log_scale": True, "log_sigma": True, "log_std": True}
#: Deepest nesting that is followed.
DEEPEST = 20


def named(found: Any) -> dict[str, Any]:
    """Return the arrays of a nested structure by name: keys, fields and places, joined by dots.

    Dicts, lists, tuples, data classes and every type that JAX knows as a tree are followed. A bare array or number has
    the name `gradient`.
    """
    parts = dict(_walk(found, ()))
    return {".".join(path) or ALONE: leaf for path, leaf in parts.items()}


def _walk(found: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(path) > DEEPEST:
        raise UsageError(f"a gradient nested more than {DEEPEST} deep; return a dict of arrays")
    children = _children(found)
    if children is None:
        yield path, found
        return
    for name, child in children:
        yield from _walk(child, (*path, name))


def _children(found: Any) -> list[tuple[str, Any]] | None:
    """Return what a container holds, by name; None for an array, a number or anything else."""
    if isinstance(found, Mapping):
        return [(str(name), value) for name, value in found.items()]
    if isinstance(found, tuple) and hasattr(found, "_fields"):
        return list(zip(found._fields, found, strict=True))
    if isinstance(found, list | tuple):
        if found and all(isinstance(value, int | float | np.number) for value in found):
            return None  # the list of numbers is the array
        return [(str(place), value) for place, value in enumerate(found)]
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return [(field.name, getattr(found, field.name)) for field in dataclasses.fields(found)]
    jax = sys.modules.get("jax")
    if jax is None or found is None or hasattr(found, "__array__"):
        return None
    leaves, _ = jax.tree_util.tree_flatten_with_path(found)
    if len(leaves) == 1 and not leaves[0][0]:
        return None
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def numbers(leaf: Any, name: str) -> np.ndarray:
    """Return an array of any framework as a NumPy array of real floating numbers.

    Raises
    ------
    UsageError
        It holds something else.
    """
    if leaf is None:
        raise UsageError(f"{name} is None: the function returned nothing for it; return an array, zeros if need be")
    if type(leaf).__module__.partition(".")[0] == "torch":
        leaf = leaf.detach().cpu()
        leaf = leaf.float() if str(leaf.dtype) == "torch.bfloat16" else leaf
        array = leaf.resolve_conj().resolve_neg().numpy()
    else:
        try:
            array = np.asarray(leaf)
        except Exception as error:  # an array type of any library
            raise UsageError(f"{name} is {_shown(leaf)}, not an array of numbers ({error})") from None
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        kind = "complex" if array.dtype.kind == "c" else _shown(leaf)
        raise UsageError(f"{name} is {kind}; a gradient is an array of real numbers, or a dict, list or tuple of them")
    return array


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}… ({type(value).__name__})"


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of a gradient: names, shapes and precision of its parts.

    Attributes
    ----------
    shapes
        Shape of each part by name.
    dtype
        The lowest precision among the parts, as NumPy names it.
    """

    shapes: dict[str, tuple[int, ...]]
    dtype: str

    @staticmethod
    def of(found: Any, what: str) -> Form:
        """Return the form of a gradient that was returned once."""
        parts = {name: numbers(leaf, f"{what}: {name}") for name, leaf in named(found).items()}
        if not any(a.size for a in parts.values()):
            raise UsageError(f"{what} returned {_shown(found)}, which holds no numbers")
        dtype = min((a.dtype for a in parts.values()), key=lambda d: d.itemsize)
        return Form({name: a.shape for name, a in parts.items()}, dtype.name)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of coordinates P by part."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @property
    def unnamed(self) -> bool:
        """Whether the parts have no names but their places, or are a single array."""
        return list(self.shapes) == [ALONE] or all(name.isdigit() for name in self.shapes)

    def flat(self, found: Any, what: str, lead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
        """Return a gradient of this form as arrays [*lead, P] by part.

        Parameters
        ----------
        lead
            Axes that stand before the shape of every part, such as the number of replicates.

        Raises
        ------
        UsageError
            Names or shapes are not those of this form.
        """
        parts = named(found)
        if parts.keys() != self.shapes.keys():
            raise UsageError(f"{what} has parts {_listed(parts)}, not {_listed(self.shapes)}")
        flat = {}
        for name, shape in self.shapes.items():
            a = numbers(parts[name], f"{what}: {name}")
            if a.shape != (*lead, *shape):
                raise UsageError(f"{what}: {name} has shape {a.shape[len(lead) :]}, not {shape}")
            flat[name] = a.reshape(*lead, -1)
        return flat


def _listed(names: Any) -> str:
    some = list(names)
    return ", ".join(some[:8]) + (f" and {len(some) - 8} more" if len(some) > 8 else "") or "none"


def mapped(found: Any, change: Callable[[Any], Any]) -> Any:
    """Return a nested structure of dicts, lists and tuples with every leaf changed."""
    if isinstance(found, Mapping):
        return {name: mapped(value, change) for name, value in found.items()}
    if isinstance(found, tuple) and hasattr(found, "_fields"):
        return type(found)(*(mapped(value, change) for value in found))
    if isinstance(found, list | tuple):
        return type(found)(mapped(value, change) for value in found)
    return change(found)
