"""Bayesian Gaussian mixture: the ELBO of a mean-field Normal over the component means.

μ_k ~ N(0, τ² I), z_i ~ Cat(π), x_i ~ N(μ_{z_i}, σ² I). There are three ways to treat z. Averaged over the optimal q(z),
the ELBO is that of CAVI, in closed form. Summed out, the ELBO is higher, and exact by quadrature if the means hold one
or two numbers. Or q(z) has free parameters and z is sampled along with the means.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.mixtures import exact
from gradmeter.bench.problems.mixtures.cavi import CoordinateAscent
from gradmeter.bench.problems.mixtures.joint import Averaged, Collapsed, Joint, MixtureOfMeans
from gradmeter.bench.problems.mixtures.mixture import Mixture, reached
from gradmeter.bench.problems.options import batch_option, differentiate_option, entropy_option, family_option
from gradmeter.bench.problems.problem import Exact
from gradmeter.bench.problems.rqmc import exact_by_rqmc
from gradmeter.estimators import Family, FamilyConfig, Normal, UsageError
from gradmeter.estimators.families.normal_categorical import NormalCategorical
from gradmeter.estimators.options import option

#: Largest K P for which a grid resolves the collapsed form.
MOST_DIMENSIONS = 2


@dataclass(frozen=True)
class MeansAndChoices(FamilyConfig):
    """q of the means, as given by its options, beside a uniform q(z); `numbers` is K P, `categories` K."""

    means: FamilyConfig
    numbers: int
    categories: int

    @property
    def family(self) -> Family:
        return NormalCategorical(self.numbers, self.categories)

    def check(self, dimension: int) -> None:
        self.means.check(self.numbers)

    def parameters(self, dimension: int) -> Vectors:
        points = (dimension - self.numbers) // self.categories
        return {**self.means.parameters(self.numbers), "logits": np.zeros((points, self.categories))}


@dataclass(frozen=True)
class BayesianGaussianMixture(Mixture):
    """ELBO of the Bayesian Gaussian mixture.

    λ is `loc` and `log_scale` [K P], for `bound=joint` also `logits` [N, K]. With `hyperparameters=learned`, θ is
    `log_tau`, `log_sigma` [1] and `weight_logits` [K].
    """

    name: ClassVar[str] = "bayesian-gaussian-mixture"
    summary: ClassVar[str] = (
        "ELBO of a Bayesian Gaussian mixture over its means (exact in closed form, or by quadrature if few)"
    )

    dataset: str = option("iris", "synthetic, iris, wine or digits, or an .npy or .csv file of points")
    dim: int = option(2, "P, principal components kept (coordinates drawn, if synthetic)", minimum=1, maximum=1000)
    components: int = option(3, "K", minimum=1, maximum=1000)
    size: int = option(500, "points, if synthetic", minimum=1, maximum=10_000_000)
    tau: float = option(1.0, "prior scale of the means; the data's own is 1", above=0.0)
    sigma: float = option(0.5, "scale of every component", above=0.0)
    bound: str = option(
        "collapsed",
        "z summed out, averaged over the best q(z), or sampled",
        choices=("collapsed", "mean-field", "joint"),
    )
    hyperparameters: str = option("fixed", "tau, sigma and weights: fixed, or parameters", choices=("fixed", "learned"))
    means: FamilyConfig = family_option("normal")
    at: str = option(
        "given", "λ: loc and scale as given, where CAVI starts, or where it ends", choices=("given", "start", "cavi")
    )
    start: int = option(0, "a seed that chooses where CAVI starts", minimum=0)
    batch: int | None = batch_option("points")
    entropy: str = entropy_option()
    differentiate: str = differentiate_option()

    @property
    def numbers(self) -> int:
        """The number of coordinates of all means, K P."""
        return self.components * self.dim

    @property
    def dimension(self) -> int:
        return self.numbers + (self.components * self.rows if self.bound == "joint" else 0)

    @property
    def q(self) -> FamilyConfig:  # type: ignore[override]
        return MeansAndChoices(self.means, self.numbers, self.components) if self.bound == "joint" else self.means

    @property
    def integrand(self) -> MixtureOfMeans:
        kinds: dict[str, Any] = {"collapsed": Collapsed, "mean-field": Averaged, "joint": Joint}
        made: MixtureOfMeans = kinds[self.bound](self.components, self.hyperparameters == "learned")
        return made

    def check(self) -> None:
        super().check()
        what = f"problem {self.name}"
        if self.at != "given" and self.means != Normal.Config():
            raise UsageError(f"{what}: at={self.at} chooses loc and scale itself; leave them out")
        if self.bound == "mean-field" and self.hyperparameters == "learned" and self.differentiate == "autodiff":
            raise UsageError(
                f"{what}: autodiff would differentiate q(z) too, which bound=mean-field holds fixed; use "
                "differentiate=closed-form or bound=collapsed"
            )

    def _hyperparameters(self) -> Vectors:
        scales = {"log_tau": np.asarray([math.log(self.tau)]), "log_sigma": np.asarray([math.log(self.sigma)])}
        return {**scales, "weight_logits": np.zeros(self.components)}

    def data(self) -> Vectors:
        return {**super().data(), **self._hyperparameters()}

    def parameters(self) -> Vectors:
        learned = self.hyperparameters == "learned"
        if self.at == "given":
            numbers = self.means.parameters(self.numbers)
            return self.complete({**numbers, **(self._hyperparameters() if learned else {})})
        settings = {"tau": self.tau, "sigma": self.sigma, "learn": learned, "seed": self.start}
        return self.complete(by_cavi(self.points().tobytes(), self.dim, self.components, self.at, **settings))

    def complete(self, parameters: Vectors) -> Vectors:
        """Return parameters with the logits of the optimal q(z) given q(μ), if q(z) has any; given logits are kept."""
        if self.bound != "joint":
            return parameters
        given = {"points": self.points(), **self._hyperparameters(), **parameters}
        best = exact.expected_log_joint(given, parameters)
        numbers = {name: parameters[name] for name in Normal.blocks}
        return {**numbers, "logits": best - best.max(axis=1, keepdims=True), **parameters}

    def exact(self) -> Exact | None:
        """Return the exact values at λ; a reference by randomised quasi-Monte Carlo where there is no quadrature."""
        found = super().exact()
        if found is None and self.hyperparameters == "fixed":
            return exact_by_rqmc(self, self.parameters())
        return found

    def exact_at(self, parameters: Vectors) -> Exact | None:
        bound, own = self.expectation().at(parameters)
        if self.bound != "collapsed":
            return exact.closed_form(bound, own, self.entropy)
        if self.dimension > MOST_DIMENSIONS:
            return None
        return exact.by_quadrature(bound, own, self.entropy)


@functools.lru_cache(maxsize=8)
def by_cavi(points: bytes, dimension: int, components: int, where: str, **settings: Any) -> Vectors:
    """Return λ (and hyperparameters, if learned) at CAVI's starting point or fixed point."""
    method = CoordinateAscent(np.frombuffer(points).reshape(-1, dimension), components, **settings)
    return reached(method, where)
