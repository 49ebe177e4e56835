"""Integrands and encoders that wrap a function of one framework: its layers, its parameters, one batch axis.

The user's parameters keep the structure of the framework: `dict(module.named_parameters())` in PyTorch, nested dicts,
lists and tuples of arrays in JAX. Their arrays become parameter blocks, named by the path to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gradmeter.estimators.amortised import ROWS, Encoder
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.expectation import Array, Blocks, Integrand
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class Tree:
    """A nesting of dicts, lists and tuples whose leaves are the names of blocks; hashable.

    `kind` is `leaf` (`parts` is its name), `dict` (`parts` are pairs of a key and a tree), `list` or `tuple`.
    """

    kind: str
    parts: Any

    def leaves(self) -> Iterator[str]:
        """Yield the names at the leaves."""
        if self.kind == "leaf":
            yield self.parts
        else:
            for part in self.parts:
                yield from (part[1] if self.kind == "dict" else part).leaves()

    def build(self, blocks: Blocks) -> Any:
        """Return the user's parameters, with the arrays of these blocks at the leaves."""
        if self.kind == "leaf":
            return blocks[self.parts]
        if self.kind == "dict":
            return {key: part.build(blocks) for key, part in self.parts}
        made = [part.build(blocks) for part in self.parts]
        return made if self.kind == "list" else tuple(made)


def flatten(parameters: Any, prefix: str) -> tuple[Tree, Blocks]:
    """Return the tree, and its arrays by name of their block: `prefix` and the path, joined by dots.

    Raises
    ------
    UsageError
        A node is neither a dict, list, tuple nor array, or two arrays get the same name.
    """
    found: Blocks = {}

    def walk(node: Any, name: str) -> Tree:
        if isinstance(node, dict):
            return Tree("dict", tuple((key, walk(part, f"{name}.{key}")) for key, part in node.items()))
        if isinstance(node, list) or type(node) is tuple:
            kind = "list" if isinstance(node, list) else "tuple"
            return Tree(kind, tuple(walk(part, f"{name}.{i}") for i, part in enumerate(node)))
        if not hasattr(node, "shape") or not hasattr(node, "dtype"):
            raise UsageError(
                f"parameters {name}: {type(node).__name__} is no array; give nested dicts, lists and tuples of arrays"
            )
        if name in found:
            raise UsageError(f"two arrays of parameters come to the name {name}; give their keys other names")
        found[name] = node
        return Tree("leaf", name)

    return walk(parameters, prefix), found


@dataclass(frozen=True)
class FunctionIntegrand(Integrand):
    """The integrand f given by a function of (θ, z), or of (θ, x, z) if it depends on one datum x.

    Attributes
    ----------
    function
        Takes θ in the user's structure, x [M, ...] if `of_data`, and z [M, D]; returns values [M].
    parameters
        The structure of θ.
    sizes
        Pairs of a name and a shape, one per block of θ.
    of_data
        Whether `data["inputs"]` [N, ...] holds data, of which each sample uses one.
    largest
        The size of the largest array that `function` makes, per row.
    """

    function: Callable[..., Array]
    parameters: Tree
    sizes: tuple[tuple[str, tuple[int, ...]], ...]
    of_data: bool = False
    largest: int = 1

    def noise_specs(self, data: dict[str, Array]) -> dict[str, Noise]:
        return {ROWS: Noise("rows", (1,), population=data["inputs"].shape[0])} if self.of_data else {}

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self.sizes)

    def width(self, data: dict[str, Array], dimension: int) -> int:
        return max(dimension, self.largest)

    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        leading = tuple(z.shape[:-1])
        given = [xp.reshape(z, (-1, z.shape[-1]))]
        if self.of_data:
            rows = xp.broadcast_to(noise[ROWS], leading)
            given.insert(0, xp.take(data["inputs"], xp.reshape(rows, (-1,)), axis=0))
        found = self.function(self.parameters.build(data), *given)
        return xp.reshape(checked(found, (math.prod(leading),), "f"), leading)


@dataclass(frozen=True)
class DataIntegrand(FunctionIntegrand):
    """The integrand f given by a function of (θ, x, z), where x are all data, or rows that an estimate draws.

    Every estimate draws B rows without replacement if `data["batch"]` has B elements, and all its samples share them.

    Attributes
    ----------
    function
        Takes θ, x and z [M, D]; returns values [M]. x has the user's structure, with arrays [N, ...], or [M, B, ...]
        where rows are drawn.
    inputs
        The structure of x, whose arrays are in `data`.
    integers
        The names of the arrays of x that hold whole numbers.
    """

    inputs: Tree = Tree("dict", ())
    integers: tuple[str, ...] = ()

    def noise_specs(self, data: dict[str, Array]) -> dict[str, Noise]:
        if "batch" not in data:
            return {}
        population = data[next(self.inputs.leaves())].shape[0]
        return {ROWS: Noise("rows", (data["batch"].shape[0],), population=population)}

    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        leading = tuple(z.shape[:-1])
        x = {name: data[name] for name in self.inputs.leaves()}
        if "batch" in data:
            x = {name: _drawn(xp, a, noise[ROWS], leading) for name, a in x.items()}
        x = {name: xp.astype(a, xp.int64) if name in self.integers else a for name, a in x.items()}
        found = self.function(self.parameters.build(data), self.inputs.build(x), xp.reshape(z, (-1, z.shape[-1])))
        return xp.reshape(checked(found, (math.prod(leading),), "f"), leading)


def _drawn(xp: Any, array: Array, rows: Array, leading: tuple[int, ...]) -> Array:
    """Return the rows [R, B] of an array for every sample, [M, B, ...]; R is the first axis of `leading`."""
    taken = xp.take(array, xp.reshape(rows, (-1,)), axis=0)
    taken = xp.reshape(taken, (rows.shape[0], *(1 for _ in leading[1:]), rows.shape[1], *array.shape[1:]))
    whole = xp.broadcast_to(taken, (*leading, rows.shape[1], *array.shape[1:]))
    return xp.reshape(whole, (-1, rows.shape[1], *array.shape[1:]))


@dataclass(frozen=True)
class FunctionEncoder(Encoder):
    """The encoder whose loc and log_scale are given by a function of (φ, x).

    Attributes
    ----------
    function
        Takes φ in the user's structure and x [M, ...]; returns (loc, log_scale), each [M, D].
    parameters, sizes
        The structure and the block shapes of φ, as for θ in `FunctionIntegrand`.
    dimension
        D.
    """

    function: Callable[..., tuple[Array, Array]]
    parameters: Tree
    sizes: tuple[tuple[str, tuple[int, ...]], ...]
    dimension: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self.sizes)

    def population(self, data: dict[str, Array]) -> int:
        return int(data["inputs"].shape[0])

    def apply(self, xp: Any, data: dict[str, Array], rows: Array | None) -> Blocks:
        x = data["inputs"] if rows is None else xp.take(data["inputs"], xp.reshape(rows, (-1,)), axis=0)
        loc, log_scale = self.function(self.parameters.build(data), x)
        leading = (1, x.shape[0]) if rows is None else tuple(rows.shape)
        found = {}
        for name, values in (("loc", loc), ("log_scale", log_scale)):
            right = checked(values, (int(x.shape[0]), self.dimension), f"the encoder's {name}")
            found[name] = xp.reshape(right, (*leading, self.dimension))
        return found


def checked(found: Array, shape: tuple[int, ...], what: str) -> Array:
    """Return `found` if it has that shape, else raise UsageError."""
    has = tuple(getattr(found, "shape", ()))
    if has != shape:
        raise UsageError(f"{what} has shape {list(has)} for a batch of {shape[0]}; it must be {list(shape)}")
    return found
