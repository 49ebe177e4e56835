"""The Bayesian Gaussian mixture: the ELBO of a mean-field Normal over the means.

μ_k ~ N(0, τ² I), z_i ~ Cat(π), x_i ~ N(μ_{z_i}, σ² I). With z averaged over the best q(z) the ELBO is that of CAVI, and
closed; with z summed out it is higher, and exact by quadrature where the means are one or two numbers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bench.problems.mixtures import gaussian
from bench.problems.mixtures import points as data
from bench.problems.mixtures.joint import Collapsed, MeanField, MixtureOfMeans
from bench.problems.problem import Exact, Problem, Vectors, exact_elbo, family_option
from estimators import Expectation, Normal, Point, UsageError
from estimators.backends import get
from estimators.options import option

#: More numbers in the means than this, and no grid resolves the collapsed form.
MOST_DIMENSIONS = 2
MOST_SWEEPS = 20_000


@dataclass(frozen=True)
class BayesianGaussianMixture(Problem):
    name: ClassVar[str] = "bayesian-gaussian-mixture"
    summary: ClassVar[str] = "ELBO of a Bayesian Gaussian mixture over its means (closed form, or quadrature if few)"

    dataset: str = option("iris", "synthetic, iris, wine or digits, or an .npy or .csv file of points")
    dim: int = option(2, "P, principal components kept (coordinates drawn, if synthetic)", minimum=1, maximum=1000)
    components: int = option(3, "K", minimum=1, maximum=1000)
    size: int = option(500, "points, if synthetic", minimum=1, maximum=10_000_000)
    tau: float = option(1.0, "prior scale of the means; the data's own is 1", above=0.0)
    sigma: float = option(0.5, "scale of every component", above=0.0)
    bound: str = option(
        "collapsed", "z summed out, or averaged over the best q(z)", choices=("collapsed", "mean-field")
    )
    hyperparameters: str = option("fixed", "tau, sigma and weights: fixed, or parameters", choices=("fixed", "learned"))
    q: Point = family_option("normal")
    at: str = option(
        "given", "λ: loc and scale as given, where CAVI starts, or where it ends", choices=("given", "start", "cavi")
    )
    start: int = option(0, "a seed that chooses where CAVI starts", minimum=0)
    batch: int = option(None, "minibatch size (all points if absent)", minimum=1, optional=True)
    entropy: str = option("sampled", "how the entropy of q enters", choices=("sampled", "analytic"))
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    @property
    def dimension(self) -> int:
        return self.components * self.dim

    @property
    def blocks(self) -> tuple[str, ...]:
        return (*self.family.blocks, *(self._integrand().model_shapes({})))

    def check(self) -> None:
        super().check()
        what = f"problem {self.name}"
        rows = data.rows(self.dataset, self.dim, self.size)
        if self.components > rows:
            raise UsageError(f"{what}: {self.components} components need at least as many points; there are {rows}")
        if self.batch is not None and self.batch > rows:
            raise UsageError(f"{what}: batch is {self.batch}; {self.dataset} has {rows} points")
        if self.at != "given" and self.q != Normal.At():
            raise UsageError(f"{what}: at={self.at} chooses loc and scale itself; leave them out")
        if self.bound == "mean-field" and self.hyperparameters == "learned" and self.differentiate == "autodiff":
            raise UsageError(
                f"{what}: autodiff would differentiate q(z) too, which bound=mean-field holds fixed; use "
                "differentiate=closed-form or bound=collapsed"
            )

    def content(self) -> str | None:
        return data.fingerprint(self.dataset)

    def points(self) -> np.ndarray:
        """[N, P]."""
        return data.load(self.dataset, self.dim, self.components, self.size)

    def _integrand(self) -> MixtureOfMeans:
        kind = Collapsed if self.bound == "collapsed" else MeanField
        return kind(self.components, self.hyperparameters == "learned")

    def _hyperparameters(self) -> Vectors:
        scales = {"log_tau": np.asarray([math.log(self.tau)]), "log_sigma": np.asarray([math.log(self.sigma)])}
        return {**scales, "logits": np.zeros(self.components)}

    def expectation(self) -> Expectation:
        arrays = {"points": self.points(), **self._hyperparameters()}
        if self.batch is not None:
            arrays["batch"] = np.zeros(self.batch)
        return Expectation(self.family, self._integrand(), arrays, self.entropy, self.differentiate)  # type: ignore[arg-type]

    def parameters(self) -> Vectors:
        learned = self.hyperparameters == "learned"
        if self.at == "given":
            return {**super().parameters(), **(self._hyperparameters() if learned else {})}
        settings = {"tau": self.tau, "sigma": self.sigma, "learn": learned, "seed": self.start}
        return by_cavi(self.points().tobytes(), self.dim, self.components, self.at, **settings)

    def exact_at(self, parameters: Vectors) -> Exact | None:
        bound, own = self.expectation().at(parameters)
        if self.bound == "mean-field":
            return self._mean_field(bound.data, own)
        if self.dimension > MOST_DIMENSIONS:
            return None
        return self._quadrature(bound, own)

    def _mean_field(self, given: Vectors, own: Vectors) -> Exact:
        """f is quadratic, Σ_j (b_j z_j − a_j z_j²/2) and a constant."""
        loc, scale = own["loc"], np.exp(own["log_scale"])
        means, spread = loc.reshape(self.components, -1), scale.reshape(self.components, -1)
        tau, sigma = math.exp(given["log_tau"][0]), math.exp(given["log_sigma"][0])
        log_weights = gaussian.log_softmax(given["logits"])
        extra = 0.5 * (spread**2).sum(axis=1) / sigma**2
        found = gaussian.expect(given["points"], means, np.full_like(means, sigma), log_weights - extra)
        size, dimension = given["points"].shape
        slope = (found.first / sigma**2 - means / tau**2).ravel()
        curvature = (found.count[:, None] / sigma**2 + np.full_like(means, tau**-2)).ravel()
        prior = -0.5 * ((loc**2 + scale**2) / tau**2 + math.log(2.0 * math.pi * tau**2)).sum()
        entropy = np.log(scale).sum() + 0.5 * len(loc) * (1.0 + gaussian.LOG_2PI)
        hermite = {
            0: found.log_likelihood + prior + entropy,
            1: scale * slope,
            2: 1.0 - scale**2 * curvature,
            4: np.zeros_like(loc),
        }
        exact = exact_elbo(self.entropy, scale, hermite, "closed-form")
        if self.hyperparameters == "fixed":
            return exact
        squared = found.second.sum() + (found.count[:, None] * spread**2).sum()
        model = {
            "log_tau": np.asarray([((loc**2 + scale**2) / tau**2).sum() - len(loc)]),
            "log_sigma": np.asarray([squared / sigma**2 - size * dimension]),
            "logits": found.count - size * np.exp(log_weights),
        }
        return Exact({**exact.gradient, **model}, exact.source, exact.objective, exact.optimal_baseline)

    def _quadrature(self, bound: Expectation, own: Vectors) -> Exact:
        """The trapezoid rule in ε. In complex ε the log-sum-exp is singular no nearer than where two log joints
        differ by iπ: about πσ²/(scale |x − μ|) away, which sets the step; where |x − μ| is larger than at two
        standard deviations, the weight is smaller by more."""
        backend = get("numpy")
        loc, scale = own["loc"], np.exp(own["log_scale"])
        reach = np.abs(bound.data["points"]).max() + np.abs(loc).max() + 2.0 * scale.max()
        pole = math.pi * math.exp(2.0 * bound.data["log_sigma"][0]) / (scale.max() * reach)
        step = min(0.3, 2.0 * math.pi * pole / 34.0)
        nodes = np.arange(-math.ceil(9.5 / step), math.ceil(9.5 / step) + 1) * step
        axes = np.meshgrid(*[nodes] * len(loc), indexing="ij")
        base = np.stack([axis.ravel() for axis in axes], axis=1)
        weights = np.exp(-0.5 * (base**2).sum(axis=1))
        keep = weights > 1e-18 * weights.max()
        base, weights = base[keep], weights[keep] / weights[keep].sum()
        hermite: dict[int, Any] = {n: np.zeros_like(loc) for n in (1, 2, 4)} | {0: 0.0}
        model = {name: np.zeros_like(bound.data[name]) for name in bound.model_blocks}
        chunk = max(1, 2**16 // len(bound.data["points"]))
        for start in range(0, len(base), chunk):
            e, w = base[start : start + chunk], weights[start : start + chunk]
            z = loc + scale * e
            f = bound.integrand.value(backend.xp, bound.data, z, {})
            f = w * (f + (0.5 * e * e + np.log(scale) + 0.5 * gaussian.LOG_2PI).sum(axis=1))
            hermite[0] += f.sum()
            hermite[1] += f @ e
            hermite[2] += f @ (e**2 - 1.0)
            hermite[4] += f @ (e**4 - 6.0 * e**2 + 3.0)
            if model:
                for name, slope in bound.integrand.model_pullback(backend.xp, bound.data, z, w, {}).items():
                    model[name] += slope.sum(axis=0)
        exact = exact_elbo(self.entropy, scale, hermite, "quadrature")
        return Exact({**exact.gradient, **model}, exact.source, exact.objective, exact.optimal_baseline)


@functools.lru_cache(maxsize=8)
def by_cavi(points: bytes, dimension: int, components: int, where: str, **settings: Any) -> Vectors:
    """λ (and hyperparameters, if learned) where CAVI starts, or at its fixed point."""
    from bench.fit.cavi import CoordinateAscent  # which is made of this package

    method = CoordinateAscent(np.frombuffer(points).reshape(-1, dimension), components, **settings)
    state = method.initial()
    if where == "start":
        return method.parameters(state)
    for t in range(1, MOST_SWEEPS + 1):
        before, state = state, method.step(state, t)
        if method.converged(before, state):
            return method.parameters(state)
    raise UsageError(
        f"at=cavi: CAVI has not converged after {MOST_SWEEPS} sweeps here; use at=start or other components"
    )
