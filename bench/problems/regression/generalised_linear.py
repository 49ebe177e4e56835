"""Integrand of a generalised linear model: the log joint density with prior N(0, I), for a given likelihood."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from gradmeter.bench.problems.arrays import Array, Arrays, gathered, times
from gradmeter.bench.problems.minibatch import OfRows
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.estimators.backends.backend import Backend


class GeneralisedLinear(OfRows):
    """log p(x, z) of a generalised linear model.

    `data` holds design [N, D], response [N], `batch` [B] (any values) if minibatches are drawn, the likelihood's
    parameters by name, and `constant`, the sum of the likelihood's terms without z, if there are any. A minibatch sums
    over its B rows, scaled by N/B; the constant always covers all rows.
    """

    rows_of = "design"

    @abstractmethod
    def log_likelihood(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        """Return h elementwise, without the constant."""

    @abstractmethod
    def residual(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        """Return ∂h/∂predictor elementwise."""

    @abstractmethod
    def curvature(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        """Return ∂²h/∂predictor² elementwise."""

    def width(self, data: Arrays, dimension: int) -> int:
        if "batch" in data:
            return dimension * data["batch"].shape[0]
        return max(dimension, data["design"].shape[0])

    def _rows(self, xp: Any, data: Arrays, noise: Arrays) -> tuple[Array, Array, float]:
        """Return the design, the response and N/B.

        The design is [rows, D], or [R, rows, D] for minibatches; the response broadcasts with [R, S, rows].
        """
        design, response = data["design"], data["response"]
        if "rows" not in noise:
            return design, response, 1.0
        replicates, batch = noise["rows"].shape
        taken = xp.take(response, xp.reshape(noise["rows"], (-1,)), axis=0)
        return gathered(xp, design, noise["rows"]), xp.reshape(taken, (replicates, 1, batch)), design.shape[0] / batch

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        return self._likelihood(xp, data, z, noise) + xp.sum(self._log_prior(z), axis=-1)

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return for each coordinate the likelihood, of which every row contains it, plus its own term of the prior."""
        return self._likelihood(xp, data, z, noise)[..., None] + self._log_prior(z)

    def _likelihood(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        design, response, scale = self._rows(xp, data, noise)
        predictor = times(xp, z, xp.matrix_transpose(design))
        return scale * xp.sum(self.log_likelihood(xp, data, predictor, response), axis=-1) + data.get("constant", 0.0)

    def _log_prior(self, z: Array) -> Array:
        return -0.5 * z * z - 0.5 * LOG_2PI

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        design, response, scale = self._rows(xp, data, noise)
        predictor = times(xp, z, xp.matrix_transpose(design))
        return scale * times(xp, self.residual(xp, data, predictor, response), design) - z

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        design, response, scale = self._rows(xp, data, noise)
        across = xp.matrix_transpose(design)
        bent = self.curvature(xp, data, times(xp, z, across), response) * times(xp, vector, across)
        return scale * times(xp, bent, design) - vector

    def hessian(self, backend: Backend, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return Σ_n c_n x_n x_nᵀ − I; without minibatches, all samples share the products x_n x_nᵀ."""
        xp, dimension = backend.xp, z.shape[-1]
        design, response, scale = self._rows(xp, data, noise)
        predictor = times(xp, z, xp.matrix_transpose(design))
        bent = scale * self.curvature(xp, data, predictor, response)
        if design.ndim == 2:
            outer = xp.reshape(design[:, :, None] * design[:, None, :], (-1, dimension * dimension))
            found = xp.reshape(times(xp, bent, outer), (*z.shape, dimension))
        else:
            rows = design[:, None, :, :]
            found = xp.matmul(xp.matrix_transpose(rows) * bent[..., None, :], rows)
        places = backend.asarray(range(dimension), None)
        return found - xp.astype(places[:, None] == places, z.dtype)

    def replaced(self, backend: Backend, data: Arrays, z: Array, replacement: Array, noise: Arrays) -> Array:
        """Update the linear predictor instead of recomputing it: O(N D) for all coordinates instead of O(N D²)."""
        xp = backend.xp
        design, response, scale = self._rows(xp, data, noise)
        predictor = times(xp, z, xp.matrix_transpose(design))
        likelihood = self.replaced_likelihood(backend, data, design, response, predictor, replacement - z)
        prior = self._log_prior(z)
        others = xp.sum(prior, axis=-1, keepdims=True) - prior
        return scale * likelihood + data.get("constant", 0.0) + others + self._log_prior(replacement)

    def replaced_likelihood(
        self,
        backend: Backend,
        data: Arrays,
        design: Array,
        response: Array,
        predictor: Array,
        change: Array,
    ) -> Array:
        """Return Σ_n h at predictor + x_ni change_i for every i [..., D], one coordinate at a time to bound memory."""
        xp = backend.xp
        columns = xp.moveaxis(design, -1, 0)  # [D, rows] or [D, R, rows]
        if design.ndim == 3:
            columns = columns[:, :, None, :]

        def evaluate(pair: Array) -> Array:
            column, step = pair
            moved = predictor + step[..., None] * column
            return xp.sum(self.log_likelihood(xp, data, moved, response), axis=-1)

        return xp.moveaxis(backend.map(evaluate, (columns, xp.moveaxis(change, -1, 0))), 0, -1)
