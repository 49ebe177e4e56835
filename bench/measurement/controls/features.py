"""Functions of one estimate's noise whose means are known: what an estimate's mean is relieved of.

Let x be the numbers of noise of one sample of z, φ_k their orthonormal functions, and

    q(x) = Σ_k h_k·φ_k(x) + ½ φ_1(x)ᵀ M φ_1(x),    M symmetric with diagonal 0,

a model of f without its constant. Numbers are independent, so with t = M φ_1, for every number j,

    E φ_k,j = 0,   E t_j = 0,   E t_j φ_1,j = 0,   E q φ_1,j = h_1,j,   E q φ_2,j = h_2,j,

and of numbers v drawn for something else E φ_k(v) = E t_j φ_k(v_j) = E φ_1,j φ_k(v_j) = 0. The features of an estimate
of S samples are averages over them; those with q also come as products of averages, for estimators that multiply one
sample with another: E q̄ φ̄_k,j = h_k,j/S.

A score function's estimate is close to q φ_1 and q φ_2, a pathwise one to t and t φ_1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.measurement.controls.basis import SYMMETRIC, Basis, stepped
from estimators.noise import Noise, mirror

Array = Any
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One name of noise, as its numbers are read.

    Attributes
    ----------
    name, basis : which, and the functions of its numbers.
    axis : which axis of its shape is over samples; None if one sample has all of it.
    numbers : m, numbers of one sample.
    pairs : whether each array stands for itself and its mirror image.
    """

    name: str
    basis: Basis
    axis: int | None
    numbers: int
    pairs: bool = False

    def read(self, xp: Any, noise: Arrays) -> Array:
        """Its numbers [R, S, m]."""
        x = noise[self.name]
        x = x[:, None] if self.axis is None else xp.moveaxis(x, 1 + self.axis, 1)
        x = xp.reshape(x, (x.shape[0], x.shape[1], self.numbers))
        return xp.concat([x, mirror(xp, self.basis.kind, x)], axis=1) if self.pairs else x  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layout:
    """What features are made of: all that is static.

    Attributes
    ----------
    own : noise of the samples, whose numbers x f is modelled in.
    others : noise drawn for something else, with as many numbers as x.
    samples : S.
    pairs : whether M is there.
    crossed : whether products of averages are features too.
    """

    own: tuple[Source, ...]
    others: tuple[Source, ...]
    samples: int
    interacting: bool = True
    crossed: bool = False

    @property
    def numbers(self) -> int:
        return sum(source.numbers for source in self.own)

    @property
    def degree(self) -> int:
        return max(source.basis.degree for source in self.own)

    def functions(self, xp: Any, noise: Arrays, model: Arrays) -> list[Array]:
        """φ_1, φ_2, … of x, each [R, S, m]; 0 where a number has fewer."""
        each = [source.basis(xp, source.read(xp, noise), model.get(f"steps {source.name}", {})) for source in self.own]
        found = []
        for k in range(self.degree):
            parts = [phi[k] if k < len(phi) else xp.zeros_like(phi[0]) for phi in each]
            found.append(parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1))
        return found

    def __call__(self, xp: Any, noise: Arrays, model: Arrays) -> tuple[list[Array], list[Array]]:
        """Features of every number, each [R, m], and of an estimate as a whole [R]; their means by `means`.

        Parameters
        ----------
        model : {"h": [degree, m], "M": [m, m]} and the arrays of bases with jumps.
        """
        phi = self.functions(xp, noise, model)
        first, second = phi[0], phi[1] if len(phi) > 1 else xp.zeros_like(phi[0])
        q = sum((xp.sum(phi[k] * model["h"][k], axis=-1) for k in range(1, len(phi))), xp.sum(first * model["h"][0], axis=-1))
        found: list[Array] = list(phi)
        if self.interacting:
            t = first @ model["M"]
            q = q + 0.5 * xp.sum(t * first, axis=-1)
            found += [t, t * first]
        found += [q[..., None] * first, q[..., None] * second]
        for source in self.others:
            x = source.read(xp, noise)
            values = source.basis(xp, x, model.get(f"steps {source.name}", {}))[:2]
            found += values
            found += [values[0] * first]
            if self.interacting:
                found += [t * each for each in values]
        averages = [xp.mean(each, axis=1) for each in found]
        whole = xp.mean(q, axis=1)
        if self.crossed:
            averages += [whole[:, None] * averages[0], whole[:, None] * xp.mean(second, axis=1)]
        return averages, [whole]

    def means(self, model: Arrays) -> list[np.ndarray]:
        """E of the features of every number, each [m]; those of the whole have mean 0."""
        h = np.asarray(model["h"])
        zero = np.zeros(h.shape[1])
        first, second = h[0], h[1] if len(h) > 1 else zero
        found = [zero] * (self.degree + (2 if self.interacting else 0)) + [first, second]
        for source in self.others:
            values = min(2, source.basis.degree)
            found += [zero] * (values + 1 + (values if self.interacting else 0))
        return found + ([first / self.samples, second / self.samples] if self.crossed else [])


def sample_axis(full: tuple[int, ...], one: tuple[int, ...]) -> int | None:
    """Which axis of `full` is left out in `one`; −1 where that does not make one of the other."""
    if full == one:
        return None
    places = [k for k in range(len(full)) if full[:k] + full[k + 1 :] == one]
    return places[0] if len(full) == len(one) + 1 and places else -1
