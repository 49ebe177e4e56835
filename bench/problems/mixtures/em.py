"""Expectation maximisation for a Gaussian mixture with diagonal covariances.

E-step: responsibilities r_ik = p(z_i = k | x_i). M-step: weights Σ_i r_ik/N, and means and variances weighted by r. The
log-likelihood never decreases (Dempster, Laird & Rubin 1977). Every step checks this.
"""

from __future__ import annotations

import numpy as np

from gradmeter.bench.optimisation.method import Method, Objective, Vectors, unchanged
from gradmeter.bench.optimisation.monotone import check_monotone
from gradmeter.bench.problems.mixtures import gaussian
from gradmeter.bench.problems.mixtures.points import checked
from gradmeter.estimators import UsageError

#: Variances below this fraction of the data's are rounding: the component has collapsed, and the likelihood is
#: unbounded.
COLLAPSED = 1e-12


class ExpectationMaximisation(Method):
    """EM on points [N, P].

    Parameters
    ----------
    points : [N, P]
        The data.
    components : int
        K.
    seed : int
        Seed of the initial means (`gaussian.start`). Initial variances are the data's, initial weights are equal.
    floor : float
        Lower bound on variances, in units of the data's. The M-step maximises under this constraint, so the
        log-likelihood still never decreases. With 0, a component that collapses onto a point is an error.
    begin : {block: array}, optional
        Initial `weights` [K], `means` [K, P] and `variances` [K, P] to use instead.

    Raises
    ------
    UsageError
        From the constructor, `initial` or `step`: the data is not a finite matrix, has a constant coordinate or fewer
        points than components, or a component lost its points or its variance.
    """

    def __init__(
        self, points: np.ndarray, components: int, seed: int = 0, floor: float = 0.0, begin: Vectors | None = None
    ) -> None:
        self.points = checked(points, components)
        self.components, self.seed, self.begin = components, seed, begin
        self.spread = self.points.var(axis=0)
        self.floor = floor * self.spread
        if np.any(self.spread <= 0.0):
            raise UsageError(f"every point has the same coordinate {int(np.argmin(self.spread))}: leave it out")

    def initial(self) -> Vectors:
        """Return {weights [K], means [K, P], variances [K, P]} and the log-likelihood there."""
        given = self.begin or {
            "weights": np.full(self.components, 1.0 / self.components),
            "means": gaussian.start(self.points, self.components, self.seed),
            "variances": np.tile(self.spread, (self.components, 1)),
        }
        state = {name: np.array(given[name], dtype=np.float64) for name in ("weights", "means", "variances")}
        return {**state, "log_likelihood": np.asarray(self._expect(state).log_likelihood)}

    def _expect(self, state: Vectors) -> gaussian.Pass:
        return gaussian.expect(self.points, state["means"], np.sqrt(state["variances"]), np.log(state["weights"]))

    def step(self, state: Vectors, t: int) -> Vectors:
        """Return the state after one E-step and M-step; its `log_likelihood` is that of the state passed in."""
        found = self._expect(state)
        reached, before = found.log_likelihood, float(state["log_likelihood"])
        check_monotone("EM", "log-likelihood", t, before, reached, len(self.points))
        empty = found.count < 1e-10
        if empty.any():
            raise UsageError(
                f"EM: component {int(np.argmax(empty))} is responsible for no point at iteration {t}; use fewer "
                "components or another seed"
            )
        shift = found.first / found.count[:, None]
        variances = np.maximum(found.second / found.count[:, None] - shift**2, self.floor)
        collapsed = variances <= COLLAPSED * self.spread
        if collapsed.any():
            component, coordinate = (int(i[0]) for i in np.nonzero(collapsed))
            raise UsageError(
                f"EM: component {component} has no variance left in coordinate {coordinate} at iteration {t}, so the "
                "likelihood has no maximum; set floor, use fewer components or another seed"
            )
        return {
            "weights": found.count / found.count.sum(),
            "means": state["means"] + shift,
            "variances": variances,
            "log_likelihood": np.asarray(reached),
        }

    def objective(self, state: Vectors) -> Objective:
        """Return log p(x)."""
        return Objective(self._expect(state).log_likelihood, "closed-form")

    def parameters(self, state: Vectors) -> Vectors:
        """Return the blocks `means`, `log_scales` [K, P] and `weight_logits` [K]."""
        return {
            "means": state["means"],
            "log_scales": 0.5 * np.log(state["variances"]),
            "weight_logits": np.log(state["weights"]),
        }

    def converged(self, before: Vectors, after: Vectors) -> bool:
        return unchanged(before, after)
