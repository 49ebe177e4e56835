"""Bayesian regressions on real data: the ELBO of a mean-field Normal, with exact gradients.

log p(x, z) = Σ_n h(x_nᵀ z, y_n) + log N(z; 0, I), for a prior N(0, I) and a log-likelihood h of the linear
predictor. Under q, x_nᵀz ~ N(m_n, s_n²), so every expectation is a one-dimensional integral per row; for the
linear regression they are closed.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bench.problems.problem import Exact, Problem, Vectors, exact_normal, family_option
from estimators import Expectation, Integrand, Noise, Normal, Point, UsageError
from estimators.options import option

Array = Any
LOG_2PI = math.log(2.0 * math.pi)


class GeneralisedLinear(Integrand):
    """log p(x, z); `data`: design [N, D], response [N], `batch` [B] (any values) where minibatches are drawn.

    A minibatch sums over its B rows, scaled by N/B.
    """

    @abstractmethod
    def log_likelihood(self, xp: Any, predictor: Array, response: Array) -> Array:
        """h elementwise."""

    @abstractmethod
    def residual(self, xp: Any, predictor: Array, response: Array) -> Array:
        """∂h/∂predictor elementwise."""

    @abstractmethod
    def curvature(self, xp: Any, predictor: Array) -> Array:
        """∂²h/∂predictor² elementwise."""

    def noise_specs(self, data: dict[str, Array]) -> dict[str, Noise]:
        if "batch" not in data:
            return {}
        return {"rows": Noise("rows", (data["batch"].shape[0],), population=data["design"].shape[0])}

    def width(self, data: dict[str, Array], dimension: int) -> int:
        if "batch" in data:
            return dimension * data["batch"].shape[0]
        return max(dimension, data["design"].shape[0])

    def _rows(self, xp: Any, data: dict[str, Array], noise: dict[str, Array], z: Array) -> tuple[Array, Array, float]:
        """Design [rows, D] or, of minibatches, [R, rows, D]; response that broadcasts with [..., rows]; and N/B."""
        design, response = data["design"], data["response"]
        if "rows" not in noise:
            return design, response, 1.0
        replicates, batch = noise["rows"].shape
        flat = xp.reshape(noise["rows"], (-1,))
        chosen = xp.reshape(xp.take(design, flat, axis=0), (replicates, batch, design.shape[1]))
        shape = (replicates, batch) if z.ndim == 2 else (replicates, 1, batch)
        return chosen, xp.reshape(xp.take(response, flat, axis=0), shape), design.shape[0] / batch

    def _times(self, xp: Any, left: Array, right: Array) -> Array:
        """left [..., K] times right [K, M] or [R, K, M]: [..., M]."""
        if right.ndim == left.ndim == 2:
            return xp.matmul(left, right)
        if right.ndim == 2:  # one large product, whatever the batch axes
            flat = xp.matmul(xp.reshape(left, (-1, left.shape[-1])), right)
            return xp.reshape(flat, (*left.shape[:-1], right.shape[-1]))
        if left.ndim == 2:
            return xp.matmul(left[:, None, :], right)[:, 0, :]
        return xp.matmul(left, right)

    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        return self._likelihood(xp, data, z, noise) + xp.sum(self._log_prior(z), axis=-1)

    def local_terms(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        """Every row of the data holds every coordinate; of the prior each has its own term."""
        return self._likelihood(xp, data, z, noise)[..., None] + self._log_prior(z)

    def _likelihood(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        design, response, scale = self._rows(xp, data, noise, z)
        predictor = self._times(xp, z, xp.matrix_transpose(design))
        return scale * xp.sum(self.log_likelihood(xp, predictor, response), axis=-1)

    def _log_prior(self, z: Array) -> Array:
        return -0.5 * z * z - 0.5 * LOG_2PI

    def gradient(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        design, response, scale = self._rows(xp, data, noise, z)
        predictor = self._times(xp, z, xp.matrix_transpose(design))
        return scale * self._times(xp, self.residual(xp, predictor, response), design) - z

    def hessian_product(
        self, xp: Any, data: dict[str, Array], z: Array, vector: Array, noise: dict[str, Array]
    ) -> Array:
        design, _, scale = self._rows(xp, data, noise, z)
        across = xp.matrix_transpose(design)
        bent = self.curvature(xp, self._times(xp, z, across)) * self._times(xp, vector, across)
        return scale * self._times(xp, bent, design) - vector

    def replaced(
        self, backend: Any, data: dict[str, Array], z: Array, replacement: Array, noise: dict[str, Array]
    ) -> Array:
        """By updating the linear predictor: O(N D) for all coordinates, against O(N D²)."""
        xp = backend.xp
        design, response, scale = self._rows(xp, data, noise, z)
        predictor = self._times(xp, z, xp.matrix_transpose(design))
        likelihood = self.replaced_likelihood(backend, design, response, predictor, replacement - z)
        prior = self._log_prior(z)
        others = xp.sum(prior, axis=-1, keepdims=True) - prior
        return scale * likelihood + others + self._log_prior(replacement)

    def replaced_likelihood(
        self, backend: Any, design: Array, response: Array, predictor: Array, change: Array
    ) -> Array:
        """Σ_n h at predictor + x_ni change_i, for every i [..., D]; one coordinate at a time bounds memory."""
        xp = backend.xp
        columns = xp.moveaxis(design, -1, 0)  # [D, rows] or [D, R, rows]
        if design.ndim == 3 and predictor.ndim == 3:
            columns = columns[:, :, None, :]

        def evaluate(pair: Array) -> Array:
            column, step = pair
            moved = predictor + step[..., None] * column
            return xp.sum(self.log_likelihood(xp, moved, response), axis=-1)

        return xp.moveaxis(backend.map(evaluate, (columns, xp.moveaxis(change, -1, 0))), 0, -1)


class LinearIntegrand(GeneralisedLinear):
    """Unit noise: h = log N(y; predictor, 1)."""

    def log_likelihood(self, xp: Any, predictor: Array, response: Array) -> Array:
        error = response - predictor
        return -0.5 * error * error - 0.5 * LOG_2PI

    def residual(self, xp: Any, predictor: Array, response: Array) -> Array:
        return response - predictor

    def curvature(self, xp: Any, predictor: Array) -> Array:
        return -xp.ones_like(predictor)

    def replaced_likelihood(
        self, backend: Any, design: Array, response: Array, predictor: Array, change: Array
    ) -> Array:
        """Quadratic in the change, so two products serve every coordinate."""
        xp = backend.xp
        now = xp.sum(self.log_likelihood(xp, predictor, response), axis=-1)[..., None]
        slope = self._times(xp, self.residual(xp, predictor, response), design)
        curvature = xp.sum(design * design, axis=-2)
        if curvature.ndim == 2 and change.ndim == 3:
            curvature = curvature[:, None, :]
        return now + change * slope - 0.5 * change * change * curvature


class LogisticIntegrand(GeneralisedLinear):
    """y in {0, 1}: h = y·predictor − log(1 + exp(predictor))."""

    def log_likelihood(self, xp: Any, predictor: Array, response: Array) -> Array:
        softplus = xp.maximum(predictor, xp.zeros_like(predictor)) + xp.log1p(xp.exp(-xp.abs(predictor)))
        return response * predictor - softplus

    def residual(self, xp: Any, predictor: Array, response: Array) -> Array:
        return response - 0.5 - 0.5 * xp.tanh(0.5 * predictor)  # y less the sigmoid, which overflows nowhere

    def curvature(self, xp: Any, predictor: Array) -> Array:
        small = xp.exp(-xp.abs(predictor))
        return -small / ((1.0 + small) * (1.0 + small))


@functools.cache
def load(dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """A design [N, D] and a response [N] of scikit-learn's bundled data.

    Columns are standardised to mean 0 and population s.d. 1, a column of ones is appended last; a continuous
    response is standardised as well.
    """
    from sklearn import datasets  # slow to import

    bunch = getattr(datasets, f"load_{dataset}")()
    design, response = np.asarray(bunch.data, dtype=float), np.asarray(bunch.target, dtype=float)
    design = (design - design.mean(axis=0)) / design.std(axis=0)
    if dataset == "diabetes":
        response = (response - response.mean()) / response.std()
    return np.column_stack([design, np.ones(len(design))]), response


@dataclass(frozen=True)
class Regression(Problem):
    """Options shared by both; the batch is drawn afresh, without replacement, for every estimate."""

    integrand: ClassVar[GeneralisedLinear]
    source: ClassVar[str]
    shapes: ClassVar[dict[str, tuple[int, int]]]
    fewest: ClassVar[int] = 1

    dataset: str
    q: Point = family_option("normal")
    at: str = option(
        "given", "λ: loc and scale as given, or the maximum of the exact ELBO", choices=("given", "fitted")
    )
    batch: int = option(None, "minibatch size (all rows if absent)", minimum=1, optional=True)
    entropy: str = option("sampled", "how the entropy of q enters", choices=("sampled", "analytic"))
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    @property
    def dimension(self) -> int:
        return self.shapes[self.dataset][1] + 1

    def check(self) -> None:
        super().check()
        rows = self.shapes[self.dataset][0]
        if self.batch is not None and self.batch > rows:
            raise UsageError(f"problem {self.name}: batch is {self.batch}; {self.dataset} has {rows} rows")
        if self.at == "fitted" and self.q != Normal.At():
            raise UsageError(f"problem {self.name}: at=fitted chooses loc and scale itself; leave them out")

    def expectation(self) -> Expectation:
        design, response = load(self.dataset)
        data = {"design": design, "response": response}
        if self.batch is not None:
            data["batch"] = np.zeros(self.batch)
        return Expectation(self.family, self.integrand, data, self.entropy, self.differentiate)  # type: ignore[arg-type]

    def parameters(self) -> Vectors:
        if self.at == "fitted":
            return fitted(type(self), self.dataset)
        return super().parameters()

    def exact_at(self, parameters: Vectors) -> Exact:
        """The exact ELBO, its gradient and optimal baselines at any λ."""
        design, response = load(self.dataset)
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        mean, deviation = design @ loc, np.sqrt(design**2 @ scale**2)
        fit = self.likelihood_moments(mean, deviation, response)
        # Prior: −(z² + log 2π)/2. Entropy of q as −log q: (ε² + log 2π)/2 + log σ. In Hermite moments:
        dimension = len(loc)
        hermite: dict[int, np.ndarray | float] = {
            0: float(fit[0].sum() - 0.5 * (loc @ loc + scale @ scale) + 0.5 * dimension + np.log(scale).sum()),
            1: scale * (design.T @ fit[1] - loc),
            2: scale**2 * ((design**2).T @ fit[2] - 1.0) + 1.0,
            4: scale**4 * ((design**4).T @ fit[4]),
        }
        if self.entropy == "sampled":
            return exact_normal(scale, hermite, self.source)
        # f is then log p alone; the entropy's gradient is added to every estimate.
        entropy = float(np.log(scale).sum() + 0.5 * dimension * (1.0 + LOG_2PI))
        alone = {**hermite, 0: float(hermite[0]) - entropy, 2: hermite[2] - 1.0}
        exact = exact_normal(scale, alone, self.source)
        gradient = {**exact.gradient, "log_scale": exact.gradient["log_scale"] + 1.0}
        return Exact(gradient, exact.source, exact.objective, exact.optimal_baseline)

    @abstractmethod
    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        """E of h and of its derivatives of order 1, 2, 4 in the predictor, under N(mean, deviation²), per row."""


@functools.cache
def fitted(problem: type[Regression], dataset: str) -> Vectors:
    """The λ that maximises the exact ELBO, by L-BFGS, to ‖gradient‖ about 1e-8."""
    from scipy.optimize import minimize  # slow to import

    at = problem(dataset=dataset)
    dimension = at.dimension

    def negative(flat: np.ndarray) -> tuple[float, np.ndarray]:
        exact = at.exact_at({"loc": flat[:dimension], "log_scale": flat[dimension:]})
        assert exact.objective is not None
        return -exact.objective, -np.concatenate([exact.gradient["loc"], exact.gradient["log_scale"]])

    flat = np.concatenate([np.zeros(dimension), np.full(dimension, -1.0)])
    for _ in range(3):  # a restart forgets curvature from far away, which is what stalls it near the maximum
        options: Any = {"maxiter": 5000, "maxfun": 20000, "ftol": 0.0, "gtol": 1e-10, "maxcor": 30}
        flat = minimize(negative, flat, jac=True, method="L-BFGS-B", options=options).x
    return {"loc": flat[:dimension], "log_scale": flat[dimension:]}


@dataclass(frozen=True)
class LinearRegression(Regression):
    name: ClassVar[str] = "linear-regression"
    summary: ClassVar[str] = "ELBO of a Bayesian linear regression, unit noise (conjugate; exact in closed form)"
    integrand: ClassVar[GeneralisedLinear] = LinearIntegrand()
    source: ClassVar[str] = "closed-form"
    shapes: ClassVar[dict[str, tuple[int, int]]] = {"diabetes": (442, 10)}

    dataset: str = option("diabetes", "scikit-learn's bundled data", choices=("diabetes",))

    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        error = response - mean
        return {
            0: -0.5 * (error**2 + deviation**2) - 0.5 * LOG_2PI,
            1: error,
            2: np.full_like(error, -1.0),
            4: np.zeros_like(error),
        }


@dataclass(frozen=True)
class LogisticRegression(Regression):
    name: ClassVar[str] = "logistic-regression"
    summary: ClassVar[str] = "ELBO of a Bayesian logistic regression (exact by one-dimensional quadrature)"
    integrand: ClassVar[GeneralisedLinear] = LogisticIntegrand()
    source: ClassVar[str] = "quadrature"
    shapes: ClassVar[dict[str, tuple[int, int]]] = {"breast_cancer": (569, 30)}

    dataset: str = option("breast_cancer", "scikit-learn's bundled data", choices=("breast_cancer",))

    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        """Trapezoid rule on ±9.5 standard deviations; its step resolves the poles of the sigmoid at ±iπ/s."""
        step = 0.45 / max(1.0, float(deviation.max()))
        nodes = np.arange(-math.ceil(9.5 / step), math.ceil(9.5 / step) + 1) * step
        weights = np.exp(-0.5 * nodes**2)
        weights /= weights.sum()
        predictor = mean[:, None] + deviation[:, None] * nodes
        small = np.exp(-np.abs(predictor))
        softplus = np.maximum(predictor, 0.0) + np.log1p(small)
        sigmoid = np.where(predictor >= 0.0, 1.0, small) / (1.0 + small)
        slope = small / (1.0 + small) ** 2  # σ' = σ(1 − σ); σ''' = σ'(1 − 6σ')
        return {
            0: response * mean - softplus @ weights,
            1: response - sigmoid @ weights,
            2: -(slope @ weights),
            4: -((slope * (1.0 - 6.0 * slope)) @ weights),
        }
