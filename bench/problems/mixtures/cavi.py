"""Coordinate-ascent variational inference for the Bayesian Gaussian mixture.

μ_k ~ N(0, τ² I), z_i ~ Cat(π), x_i ~ N(μ_{z_i}, σ² I), and q(μ, z) = Π_k N(μ_k; m_k, s_k² I) Π_i Cat(z_i; r_i). A sweep
updates all r_i, then every q(μ_k), then, where they are learned, π, σ² and τ² by the ELBO's own maximum (empirical
Bayes). Each of them maximises the ELBO over its part, so the ELBO never falls, which every sweep checks.

Source: Blei, Kucukelbir & McAuliffe 2017, section 3.
"""

from __future__ import annotations

import numpy as np

from gradmeter.bench.optimisation.method import Method, Objective, Vectors, unchanged
from gradmeter.bench.optimisation.monotone import check_monotone
from gradmeter.bench.problems.mixtures import gaussian
from gradmeter.bench.problems.mixtures.points import checked


class MeanFieldMixture(Method):
    """What CAVI and SVI share: the state, the ELBO and the updates, on points [N, P].

    A state holds, of every q(μ_k), the natural parameters `precision` 1/s_k² [K] and `weighted_mean` m_k/s_k² [K, P];
    and the hyperparameters `weights` [K], `sigma` and `tau`.

    Parameters
    ----------
    points, components : the data, and K.
    tau, sigma, weights : τ, σ and π (equal, if absent).
    learn : whether π, σ and τ are updated too.
    seed : chooses the means to start from (`gaussian.start`).
    begin : means [K, P] to start from instead.
    """

    def __init__(
        self,
        points: np.ndarray,
        components: int,
        tau: float = 1.0,
        sigma: float = 0.5,
        weights: np.ndarray | None = None,
        learn: bool = False,
        seed: int = 0,
        begin: np.ndarray | None = None,
    ) -> None:
        self.points = checked(points, components)
        self.components, self.learn, self.seed, self.begin = components, learn, seed, begin
        equal = np.full(components, 1.0 / components)
        self.hyperparameters = {
            "weights": equal if weights is None else np.asarray(weights, dtype=np.float64),
            "sigma": np.asarray(sigma, dtype=np.float64),
            "tau": np.asarray(tau, dtype=np.float64),
        }

    def initial(self) -> Vectors:
        """Means at points of the data, each as certain as if it had an equal share of them."""
        means = gaussian.start(self.points, self.components, self.seed) if self.begin is None else self.begin
        tau, sigma = float(self.hyperparameters["tau"]), float(self.hyperparameters["sigma"])
        precision = np.full(self.components, tau**-2 + len(self.points) / self.components * sigma**-2)
        return {"precision": precision, "weighted_mean": precision[:, None] * means, **self.hyperparameters}

    def locals(self, state: Vectors, points: np.ndarray) -> gaussian.Pass:
        """The update of r_i for these points, as the moments that everything else needs."""
        return gaussian.expect(points, *components(state))

    def globals(self, state: Vectors, found: gaussian.Pass, share: float) -> Vectors:
        """The q(μ_k) that maximises the ELBO at those r_i, each point standing for `share` of them.

        A component without points is back at its prior.
        """
        weight = share * float(state["sigma"]) ** -2
        means = state["weighted_mean"] / state["precision"][:, None]
        return {
            "precision": float(state["tau"]) ** -2 + weight * found.count,
            "weighted_mean": weight * (found.first + found.count[:, None] * means),
        }

    def learned(self, before: Vectors, after: Vectors, found: gaussian.Pass) -> Vectors:
        """π, σ² and τ² that maximise the ELBO at the r_i of `found` (made at `before`) and the q(μ_k) of `after`.

        σ² is the mean squared distance of a point's coordinate from μ, τ² that of a mean's coordinate from 0.
        """
        dimension, total = before["weighted_mean"].shape[1], found.count.sum()
        old, new = (state["weighted_mean"] / state["precision"][:, None] for state in (before, after))
        moved, variance = new - old, 1.0 / after["precision"]
        squared = found.second - 2.0 * moved * found.first + found.count[:, None] * moved**2
        return {
            "weights": found.count / total,
            "sigma": np.sqrt((squared.sum() + dimension * found.count @ variance) / (total * dimension)),
            "tau": np.sqrt(np.mean(new**2 + variance[:, None])),
        }

    def elbo(self, state: Vectors, log_likelihood: float) -> float:
        """The ELBO at the best r_i, for which `log_likelihood` is the sum over the points that a pass found."""
        dimension, tau = state["weighted_mean"].shape[1], float(state["tau"])
        means, variance = state["weighted_mean"] / state["precision"][:, None], 1.0 / state["precision"]
        ratio = variance / tau**2
        prior = -0.5 * float((means**2).sum()) / tau**2
        entropy = 0.5 * dimension * float((np.log(ratio) + 1.0 - ratio).sum())
        return log_likelihood + prior + entropy

    def objective(self, state: Vectors) -> Objective:
        """The ELBO, with q(z) at its maximum."""
        return Objective(self.elbo(state, self.locals(state, self.points).log_likelihood), "closed-form")

    def parameters(self, state: Vectors) -> Vectors:
        """λ of the mean-field Normal over all means, `loc` and `log_scale` [K P]; what was learned beside it."""
        means = state["weighted_mean"] / state["precision"][:, None]
        scales = np.repeat(-0.5 * np.log(state["precision"]), means.shape[1])
        fitted = {"loc": means.ravel(), "log_scale": scales}
        if not self.learn:
            return fitted
        hyper = {"log_tau": np.log(state["tau"])[None], "log_sigma": np.log(state["sigma"])[None]}
        return {**fitted, **hyper, "weight_logits": log_weights(state)}


def components(state: Vectors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, scales and log-weights for `gaussian.expect`: E log N(x | μ_k, σ²) is that at m_k less P s_k²/(2σ²)."""
    dimension, sigma = state["weighted_mean"].shape[1], float(state["sigma"])
    variance = 1.0 / state["precision"]
    means = state["weighted_mean"] * variance[:, None]
    return means, np.full_like(means, sigma), log_weights(state) - 0.5 * dimension * variance / sigma**2


def log_weights(state: Vectors) -> np.ndarray:
    """log π [K]: −∞ for a component that lost all its points while weights were learned."""
    with np.errstate(divide="ignore"):
        return np.log(state["weights"])


class CoordinateAscent(MeanFieldMixture):
    """CAVI: `step` is one sweep, all local updates first."""

    def initial(self) -> Vectors:
        state = super().initial()
        return {**state, "elbo": np.asarray(self.objective(state).value)}

    def step(self, state: Vectors, t: int) -> Vectors:
        """The next state; its `elbo` is that of the state given, which the local update finds."""
        found = self.locals(state, self.points)
        reached, before = self.elbo(state, found.log_likelihood), float(state["elbo"])
        check_monotone("CAVI", "ELBO", t, before, reached, len(self.points))
        after = {**state, **self.globals(state, found, 1.0), "elbo": np.asarray(reached)}
        return {**after, **self.learned(state, after, found)} if self.learn else after

    def converged(self, before: Vectors, after: Vectors) -> bool:
        return unchanged(before, after)
