"""Coordinate-ascent variational inference for the Bayesian Gaussian mixture.

μ_k ~ N(0, τ² I), z_i ~ Cat(π), x_i ~ N(μ_{z_i}, σ² I), and q(μ, z) = Π_k N(μ_k; m_k, s_k² I) Π_i Cat(z_i; r_i). A sweep
updates all r_i, then every q(μ_k), then, if they are learned, π, σ² and τ² by maximising the ELBO (empirical Bayes).
Each update maximises the ELBO over its block, so the ELBO never decreases. Every sweep checks this.

Source: Blei, Kucukelbir & McAuliffe 2017, section 3.
"""

from __future__ import annotations

import numpy as np

from gradmeter.bench.optimisation.method import Method, Objective, Vectors, unchanged
from gradmeter.bench.optimisation.monotone import check_monotone
from gradmeter.bench.problems.mixtures import gaussian
from gradmeter.bench.problems.mixtures.points import checked


class MeanFieldMixture(Method):
    """State, ELBO and updates common to CAVI and SVI, on points [N, P].

    A state holds the natural parameters of every q(μ_k), `precision` 1/s_k² [K] and `weighted_mean` m_k/s_k² [K, P],
    and the hyperparameters `weights` [K], `sigma` and `tau`.

    Parameters
    ----------
    points : [N, P]
        The data.
    components : int
        K.
    tau, sigma : float
        Standard deviations τ of the prior and σ of the components.
    weights : [K], optional
        π; equal if absent.
    learn : bool
        Whether π, σ and τ are updated too.
    seed : int
        Seed of the initial means (`gaussian.start`).
    begin : [K, P], optional
        Initial means to use instead.
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
        """Return the initial state: means at data points, with the precision of an equal share of the data."""
        means = gaussian.start(self.points, self.components, self.seed) if self.begin is None else self.begin
        tau, sigma = float(self.hyperparameters["tau"]), float(self.hyperparameters["sigma"])
        precision = np.full(self.components, tau**-2 + len(self.points) / self.components * sigma**-2)
        return {"precision": precision, "weighted_mean": precision[:, None] * means, **self.hyperparameters}

    def locals(self, state: Vectors, points: np.ndarray) -> gaussian.Pass:
        """Return the moments of the points under the optimal r_i, as the global updates need them."""
        return gaussian.expect(points, *components(state))

    def globals(self, state: Vectors, found: gaussian.Pass, share: float) -> Vectors:
        """Return the q(μ_k) that maximises the ELBO at the given r_i, with each point counted `share` times.

        A component without points returns to its prior.
        """
        weight = share * float(state["sigma"]) ** -2
        means = state["weighted_mean"] / state["precision"][:, None]
        return {
            "precision": float(state["tau"]) ** -2 + weight * found.count,
            "weighted_mean": weight * (found.first + found.count[:, None] * means),
        }

    def learned(self, before: Vectors, after: Vectors, found: gaussian.Pass) -> Vectors:
        """Return π, σ and τ that maximise the ELBO at `found` (from the r_i at `before`) and the q(μ_k) of `after`.

        σ² is the expected squared distance of a point's coordinate from its mean, τ² that of a mean's coordinate from
        0.
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
        """Return the ELBO at the optimal r_i, given the `log_likelihood` that a pass over the points computed."""
        dimension, tau = state["weighted_mean"].shape[1], float(state["tau"])
        means, variance = state["weighted_mean"] / state["precision"][:, None], 1.0 / state["precision"]
        ratio = variance / tau**2
        prior = -0.5 * float((means**2).sum()) / tau**2
        entropy = 0.5 * dimension * float((np.log(ratio) + 1.0 - ratio).sum())
        return log_likelihood + prior + entropy

    def objective(self, state: Vectors) -> Objective:
        """Return the ELBO at the optimal q(z)."""
        return Objective(self.elbo(state, self.locals(state, self.points).log_likelihood), "closed-form")

    def parameters(self, state: Vectors) -> Vectors:
        """Return λ of the mean-field Normal over the means (`loc`, `log_scale` [K P]), and learned hyperparameters."""
        means = state["weighted_mean"] / state["precision"][:, None]
        scales = np.repeat(-0.5 * np.log(state["precision"]), means.shape[1])
        fitted = {"loc": means.ravel(), "log_scale": scales}
        if not self.learn:
            return fitted
        hyper = {"log_tau": np.log(state["tau"])[None], "log_sigma": np.log(state["sigma"])[None]}
        return {**fitted, **hyper, "weight_logits": log_weights(state)}


def components(state: Vectors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the means, scales and log weights for which `gaussian.expect` gives expectations under q(μ).

    E log N(x | μ_k, σ²) is the log density at m_k minus P s_k²/(2σ²), which enters through the log weights.
    """
    dimension, sigma = state["weighted_mean"].shape[1], float(state["sigma"])
    variance = 1.0 / state["precision"]
    means = state["weighted_mean"] * variance[:, None]
    return means, np.full_like(means, sigma), log_weights(state) - 0.5 * dimension * variance / sigma**2


def log_weights(state: Vectors) -> np.ndarray:
    """Return log π [K]; −∞ for a component that lost all its points while the weights were learned."""
    with np.errstate(divide="ignore"):
        return np.log(state["weights"])


class CoordinateAscent(MeanFieldMixture):
    """CAVI; `step` is one sweep, with all local updates first."""

    def initial(self) -> Vectors:
        state = super().initial()
        return {**state, "elbo": np.asarray(self.objective(state).value)}

    def step(self, state: Vectors, t: int) -> Vectors:
        """Return the next state; its `elbo` is the ELBO of the state passed in, a by-product of the local update."""
        found = self.locals(state, self.points)
        reached, before = self.elbo(state, found.log_likelihood), float(state["elbo"])
        check_monotone("CAVI", "ELBO", t, before, reached, len(self.points))
        after = {**state, **self.globals(state, found, 1.0), "elbo": np.asarray(reached)}
        return {**after, **self.learned(state, after, found)} if self.learn else after

    def converged(self, before: Vectors, after: Vectors) -> bool:
        return unchanged(before, after)
