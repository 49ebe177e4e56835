"""Multilayer perceptrons with parameters in a dict of arrays, and an explicit backward pass.

Layer i is `NAME.i.weight` [in, out] and `NAME.i.bias` [out], with tanh between layers, which has derivatives of every
order. The same code runs on NumPy, which has no automatic differentiation, PyTorch and JAX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, times
from gradmeter.estimators.noise import stream_root


@dataclass(frozen=True)
class Perceptron:
    """A multilayer perceptron with layer sizes `sizes`: (inputs, hidden, …, outputs). Two sizes give a linear map."""

    name: str
    sizes: tuple[int, ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameter blocks, first layer first."""
        found: dict[str, tuple[int, ...]] = {}
        for i, (before, after) in enumerate(pairwise(self.sizes)):
            found |= {f"{self.name}.{i}.weight": (before, after), f"{self.name}.{i}.bias": (after,)}
        return found

    @property
    def width(self) -> int:
        return max(self.sizes)

    def initial(self) -> dict[str, np.ndarray]:
        """Draw weights and biases from N(0, 1/in); they depend only on name and sizes, not on the machine."""
        generator = np.random.Generator(np.random.PCG64(stream_root("network", self.name, *self.sizes)))
        inputs = np.repeat(self.sizes[:-1], 2)  # for the weight and the bias of each layer
        shapes = self.shapes().items()
        return {name: generator.standard_normal(s) / math.sqrt(n) for (name, s), n in zip(shapes, inputs, strict=True)}

    def forward(self, xp: Any, parameters: Arrays, x: Array) -> tuple[Array, ...]:
        """Return the inputs of every layer, starting with x [..., in], and the output [..., out] last."""
        layers = [x]
        for i in range(len(self.sizes) - 1):
            moved = times(xp, layers[-1], parameters[f"{self.name}.{i}.weight"]) + parameters[f"{self.name}.{i}.bias"]
            layers.append(xp.tanh(moved) if i < len(self.sizes) - 2 else moved)
        return tuple(layers)

    def input_gradient(self, xp: Any, parameters: Arrays, layers: tuple[Array, ...], cotangent: Array) -> Array:
        """Return cotangent [..., out] · ∂output/∂x [..., in] at the `layers` that `forward` returned."""
        return times(xp, self._backward(xp, parameters, layers, cotangent)[0], self._transposed(xp, parameters, 0))

    def pullback(self, xp: Any, parameters: Arrays, layers: tuple[Array, ...], cotangent: Array) -> Arrays:
        """Return Σ_m cotangent_m · ∂output_m/∂parameters for every replicate, {block: [R, *shape]}.

        Parameters
        ----------
        layers : tuple of arrays
            Result of `forward` for x [R, M, in], or [1, M, in] if all replicates share x.
        cotangent : [R, M, out]
            Derivative in the output.
        """
        found: Arrays = {}
        for i, moved in enumerate(self._backward(xp, parameters, layers, cotangent)):
            found[f"{self.name}.{i}.weight"] = xp.matmul(xp.matrix_transpose(layers[i]), moved)
            found[f"{self.name}.{i}.bias"] = xp.sum(moved, axis=-2)
        return found

    def _backward(self, xp: Any, parameters: Arrays, layers: tuple[Array, ...], cotangent: Array) -> list[Array]:
        """Return the cotangents of every layer before its tanh, first layer first."""
        found = [cotangent]
        for i in range(len(self.sizes) - 2, 0, -1):
            moved = times(xp, found[0], self._transposed(xp, parameters, i))
            found.insert(0, moved * (1.0 - layers[i] * layers[i]))
        return found

    def _transposed(self, xp: Any, parameters: Arrays, i: int) -> Array:
        return xp.matrix_transpose(parameters[f"{self.name}.{i}.weight"])
