"""The log joint density Σ_b Σ_n Σ_t w_bnt F_bt(A_bn z + c_bn), over blocks b, rows n and terms t.

The terms F of a block read a few predictors, the same ones in every row, so that a block is one product of matrices and
elementwise functions. Rows of a local block belong to units, of which an estimate may draw a minibatch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors, times
from gradmeter.bench.problems.gaussian_elbo import Expected
from gradmeter.bench.problems.minibatch import OfRows
from gradmeter.bench.problems.posteriors.densities import Addend, Addends
from gradmeter.bench.problems.posteriors.predictor import Predictor
from gradmeter.bench.problems.posteriors.terms import Along, Product, Sampled, ScaledSoftplus, Term


@dataclass(frozen=True)
class Block:
    """The structure of a block: its name in the data, the number m of predictors, the terms, and whether it is local.

    `data` holds `NAME.design` [m, U, k, D], `NAME.offset` [m, U, k] and `NAME.weight` [T, U, k] for U units of k rows.
    """

    name: str
    predictors: int
    terms: tuple[Term, ...]
    local: bool


@dataclass(frozen=True)
class _Rows:
    """A block's arrays for all rows, or for those of a minibatch.

    Attributes
    ----------
    design
        [m n, D], or [R, m n, D] for minibatches.
    predictors
        m arrays [R, S, n], and functions of them.
    weights
        T arrays that broadcast with [R, S, n].
    scale
        N/B.
    """

    design: Array
    predictors: Sampled
    weights: list[Array]
    scale: float


@dataclass(frozen=True)
class LogJoint(OfRows):
    """log p(x, z). `data` holds the blocks' arrays, `constant`, `units` [N], and `batch` [B] if minibatches are drawn.

    A minibatch sums the local blocks over B units, scaled by N/B; the constant always covers all units.
    """

    rows_of: ClassVar[str] = "units"

    blocks: tuple[Block, ...]

    def width(self, data: Arrays, dimension: int) -> int:
        sizes = [dimension]
        for block in self.blocks:
            count, units, each, _ = data[f"{block.name}.design"].shape
            drawn = block.local and "batch" in data
            units, wide = (data["batch"].shape[0], dimension) if drawn else (units, 1)
            sizes.append(count * units * each * wide)
        return max(sizes)

    def _rows(self, xp: Any, data: Arrays, block: Block, z: Array, noise: Arrays) -> _Rows:
        design, offset, weight = (data[f"{block.name}.{name}"] for name in ("design", "offset", "weight"))
        scale: float = 1.0
        if block.local and "rows" in noise:
            scale = design.shape[1] / noise["rows"].shape[1]
            design, offset, weight = (_drawn(xp, a, noise["rows"]) for a in (design, offset, weight))
            design = xp.reshape(design, (design.shape[0], -1, z.shape[-1]))
        else:
            design = xp.reshape(design, (-1, z.shape[-1]))
        product = times(xp, z, xp.matrix_transpose(design))
        offset, weight = (xp.reshape(a, (*a.shape[: a.ndim - 3], a.shape[-3], -1)) for a in (offset, weight))
        rows = offset.shape[-1]
        across = [product[..., j * rows : (j + 1) * rows] for j in range(block.predictors)]
        predictors = [p + _row(offset, j) for j, p in enumerate(across)]
        return _Rows(design, Sampled(xp, predictors), [_row(weight, t) for t in range(len(block.terms))], scale)

    def _sum(self, xp: Any, rows: _Rows, block: Block, order: int) -> dict[Along, Array]:
        """Return the weighted sums over terms of the partial derivatives of an order [R, S, n]; absent ones are 0."""
        found: dict[Along, Array] = {}
        for term, weight in zip(block.terms, rows.weights, strict=True):
            for key, value in term.sampled(xp, rows.predictors, order).items():
                found[key] = found[key] + weight * value if key in found else weight * value
        return found

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        total = data["constant"] + xp.zeros_like(z[..., 0])
        for block in self.blocks:
            rows = self._rows(xp, data, block, z, noise)
            total = total + rows.scale * xp.sum(self._sum(xp, rows, block, 0)[()], axis=-1)
        return total

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        total = xp.zeros_like(z)
        for block in self.blocks:
            rows = self._rows(xp, data, block, z, noise)
            slopes = self._sum(xp, rows, block, 1)
            total = total + self._pulled(xp, rows, [slopes[(j,)] for j in range(block.predictors)])
        return total

    def _pulled(self, xp: Any, rows: _Rows, slopes: Sequence[Array]) -> Array:
        """Return N/B Σ_n Σ_j slope_jn a_jn [R, S, D] for slopes [R, S, n]."""
        return rows.scale * times(xp, xp.concat(slopes, axis=-1), rows.design)

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        total = xp.zeros_like(z)
        for block in self.blocks:
            rows, count = self._rows(xp, data, block, z, noise), range(block.predictors)
            curvature = self._sum(xp, rows, block, 2)
            moved = times(xp, vector, xp.matrix_transpose(rows.design))
            size = rows.predictors.values[0].shape[-1]
            moves = [moved[..., j * size : (j + 1) * size] for j in count]
            slopes = [xp.zeros_like(move) for move in moves]
            for (i, j), values in curvature.items():
                slopes[i] = slopes[i] + values * moves[j]
                if i != j:
                    slopes[j] = slopes[j] + values * moves[i]
            total = total + self._pulled(xp, rows, slopes)
        return total

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return for each coordinate the sum of the terms and rows in which it has a coefficient [..., D]."""
        total = xp.zeros_like(z)
        for block in self.blocks:
            rows = self._rows(xp, data, block, z, noise)
            size = rows.predictors.values[0].shape[-1]
            present = xp.astype(rows.design != 0.0, z.dtype)
            for term, weight in zip(block.terms, rows.weights, strict=True):
                value = weight * term.sampled(xp, rows.predictors, 0)[()]
                masks = [present[..., j * size : (j + 1) * size, :] for j in term.reads]
                total = total + rows.scale * times(xp, value, functools.reduce(xp.maximum, masks))
        return total


def _drawn(xp: Any, array: Array, rows: Array) -> Array:
    """Return an array [m, U, k, ...] at the units `rows` [R, B], as [R, m, B, k, ...]."""
    taken = xp.take(array, xp.reshape(rows, (-1,)), axis=1)
    return xp.moveaxis(xp.reshape(taken, (array.shape[0], *rows.shape, *array.shape[2:])), 1, 0)


def _row(array: Array, number: int) -> Array:
    """Return one row of [m, n], or of [R, m, n] as [R, 1, n]."""
    return array[number] if array.ndim == 2 else array[:, number, :][:, None, :]


@dataclass(frozen=True)
class Group:
    """Addends over the same rows; rows of a local group belong to units, in order, each unit to as many."""

    addends: Addends
    local: bool = False


@dataclass(frozen=True, eq=False)
class Model:
    """A log joint density with its numbers.

    Attributes
    ----------
    integrand : LogJoint
        Its structure.
    data : {name: array}
        Its numbers, without `batch`.
    """

    integrand: LogJoint
    data: Vectors

    @property
    def source(self) -> str:
        """How the expectations are computed, as in `Exact.source`."""
        sources = {term.source for block in self.integrand.blocks for term in block.terms}
        return "quadrature" if "quadrature" in sources else "closed-form"

    def expected(self, loc: np.ndarray, root: np.ndarray) -> Expected:
        """Return the expectations of log p and its derivatives under N(loc, rootᵀ root), root [K, D]."""
        objective, slope, fourth = float(self.data["constant"]), np.zeros_like(loc), np.zeros_like(loc)
        hessian = np.zeros((len(loc), len(loc)))
        for block in self.integrand.blocks:
            design = np.reshape(self.data[f"{block.name}.design"], (block.predictors, -1, len(loc)))
            offset = np.reshape(self.data[f"{block.name}.offset"], (block.predictors, -1))
            weight = np.reshape(self.data[f"{block.name}.weight"], (len(block.terms), -1))
            across = design @ root.T
            mean, covariance = design @ loc + offset, np.einsum("jnk,lnk->jln", across, across)
            for along, values in _expected(block.terms, weight, mean, covariance).items():
                columns = [design[j] for j in along]
                if len(along) == 4:
                    fourth += _orderings(along) * (values @ math.prod(columns[1:], start=columns[0]))
                elif len(along) == 2:
                    product = (columns[0].T * values) @ columns[1]
                    hessian += product if along[0] == along[1] else product + product.T
                elif len(along) == 1:
                    slope += values @ columns[0]
                else:
                    objective += float(values.sum())
        return Expected(objective, slope, hessian, fourth)


def _expected(
    terms: tuple[Term, ...], weights: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> dict[Along, np.ndarray]:
    """Return the weighted sums over terms of the expectations."""
    found: dict[Along, np.ndarray] = {}
    for term, weight in zip(terms, weights, strict=True):
        for along, values in term.expected(mean, covariance).items():
            found[along] = found.get(along, 0.0) + weight * values
    return found


def _orderings(along: Along) -> int:
    """Return the number of distinct orders of the entries."""
    return math.factorial(len(along)) // math.prod(math.factorial(along.count(j)) for j in set(along))


def build(groups: Sequence[Group], units: int = 1) -> Model:
    """Return the log joint density that is the sum of these groups.

    Parameters
    ----------
    units : int
        Number of units that the rows of local groups belong to.
    """
    constant, blocks, data = 0.0, [], {"units": np.zeros(units)}
    for number, group in enumerate(groups):
        constant += sum(float(np.sum(a.weight)) for a in group.addends if not [*a.named()])
        addends = [a for a in group.addends if [*a.named()]]
        predictors = list({id(p): p for a in addends for p in a.named()}.values())
        rows = max(len(p) for p in predictors)
        places = {id(p): j for j, p in enumerate(predictors)}
        shape, name = (units if group.local else rows, -1), f"block{number}"
        terms = tuple(_term(a, places) for a in addends)
        blocks.append(Block(name, len(predictors), terms, group.local))
        offset = np.stack([np.broadcast_to(p.offset, rows) for p in predictors])
        weight = np.stack([np.broadcast_to(np.asarray(a.weight, dtype=float), rows) for a in addends])
        design = np.stack([np.broadcast_to(p.coefficients, (rows, p.coefficients.shape[1])) for p in predictors])
        data[f"{name}.design"] = np.reshape(design, (len(predictors), shape[0], rows // shape[0], -1))
        data[f"{name}.offset"] = np.reshape(offset, (len(predictors), *shape))
        data[f"{name}.weight"] = np.reshape(weight, (len(terms), *shape))
    return Model(LogJoint(tuple(blocks)), {**data, "constant": np.asarray(constant)})


def _term(addend: Addend, places: dict[int, int]) -> Term:
    def place(p: Predictor | None) -> int | None:
        return None if p is None else places[id(p)]

    if addend.log_scale is not None and addend.argument is not None:
        return ScaledSoftplus(places[id(addend.log_scale)], places[id(addend.argument)])
    factors = tuple(sorted(places[id(p)] for p in addend.factors))
    return Product(factors, place(addend.exponent), place(addend.argument), addend.link)
