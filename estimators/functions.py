"""f and encoders that are functions of a framework's own: its layers, its parameters, one batch axis.

A user's parameters stay in what the framework has them in: `dict(module.named_parameters())` of PyTorch, nested dicts,
lists and tuples of arrays of JAX. Their arrays become parameter blocks, named by the path to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradmeter.estimators.amortised import ROWS, Encoder
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.expectation import Array, Blocks, Integrand
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class Tree:
    """Nested dicts, lists and tuples whose leaves are the names of blocks; hashable.

    `kind` is `leaf` (`parts` is its name), `dict` (pairs of a key and a tree), `list` or `tuple`.
    """

    kind: str
    parts: Any

    def build(self, blocks: Blocks) -> Any:
        """The user's parameters, of these arrays."""
        if self.kind == "leaf":
            return blocks[self.parts]
        if self.kind == "dict":
            return {key: part.build(blocks) for key, part in self.parts}
        made = [part.build(blocks) for part in self.parts]
        return made if self.kind == "list" else tuple(made)


def flatten(parameters: Any, prefix: str) -> tuple[Tree, Blocks]:
    """The tree, and its arrays by the name of their block: `prefix` and the path, with dots between.

    Raises
    ------
    UsageError
        Something that is neither a dict, list or tuple nor an array, or two arrays that come to one name.
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
    """f as a function of (θ, z), or of (θ, x, z) where it is of single data.

    Attributes
    ----------
    function : θ as the user has it, x [M, ...] where `of_data`, z [M, D] -> values [M].
    parameters : θ; its blocks are of `sizes`, pairs of a name and a shape.
    of_data : whether `data["inputs"]` [N, ...] holds data, of which each sample has one.
    largest : numbers a row in the largest array that `function` makes.
    """

    function: Callable[..., Array]
    parameters: Tree
    sizes: tuple[tuple[str, tuple[int, ...]], ...]
    of_data: bool = False
    largest: int = 1

    def noise_specs(self, data: dict[str, Array]) -> dict[str, Noise]:
        return {ROWS: Noise("rows", (1,), population=data["inputs"].shape[0])} if self.of_data else {}

    def model_shapes(self, data: dict[str, Array]) -> dict[str, tuple[int, ...]]:
        return dict(self.sizes)

    def width(self, data: dict[str, Array], dimension: int) -> int:
        return max(dimension, self.largest)

    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        leading = tuple(z.shape[:-1])
        given = [xp.reshape(z, (-1, z.shape[-1]))]
        if self.of_data:
            rows = noise[ROWS][:, 0] if z.ndim == 2 else xp.broadcast_to(noise[ROWS], leading)
            given.insert(0, xp.take(data["inputs"], xp.reshape(rows, (-1,)), axis=0))
        found = self.function(self.parameters.build(data), *given)
        return xp.reshape(checked(found, (math.prod(leading),), "f"), leading)


@dataclass(frozen=True)
class FunctionEncoder(Encoder):
    """loc and log_scale as a function of (φ, x).

    Attributes
    ----------
    function : φ as the user has it, x [M, ...] -> (loc, log_scale), each [M, D].
    parameters, sizes : φ, as θ of `FunctionIntegrand`.
    dimension : D.
    """

    function: Callable[..., tuple[Array, Array]]
    parameters: Tree
    sizes: tuple[tuple[str, tuple[int, ...]], ...]
    dimension: int

    def shapes(self, data: dict[str, Array]) -> dict[str, tuple[int, ...]]:
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
    """`found`, if it has that shape."""
    has = tuple(getattr(found, "shape", ()))
    if has != shape:
        raise UsageError(f"{what} has shape {list(has)} for a batch of {shape[0]}; it must be {list(shape)}")
    return found
