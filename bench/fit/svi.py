"""Stochastic variational inference for the Bayesian Gaussian mixture: natural gradients from minibatches.

The natural gradient of the ELBO in the natural parameters η of q(μ_k) is η̂ − η, where η̂ is CAVI's update (Hoffman,
Blei, Wang & Paisley 2013, section 2.3). A minibatch of B rows, each weighted by N/B, gives an unbiased estimate of η̂,
and a step of size ρ is η ← (1 − ρ) η + ρ η̂. With all rows and ρ = 1 it is a sweep of CAVI.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.problems.mixtures.cavi import MeanFieldMixture
from gradmeter.estimators import UsageError
from gradmeter.estimators.noise import stream_root


class StochasticVariational(MeanFieldMixture):
    """SVI with step sizes ρ_t = (t + delay)^(−decay), a Robbins-Monro sequence for 0.5 < decay ≤ 1.

    Learned hyperparameters take the same steps: π, σ² and τ² move towards their optimal values on the minibatch.

    Parameters
    ----------
    batch : int
        B, the number of rows drawn without replacement per step; all rows if B = N.
    delay, decay : float
        Options of the step size; decay 0 is a constant step of 1.
    **more
        Further arguments of `MeanFieldMixture`.
    """

    def __init__(
        self,
        points: np.ndarray,
        components: int,
        batch: int = 100,
        delay: float = 1.0,
        decay: float = 0.7,
        **more: Any,
    ) -> None:
        super().__init__(points, components, **more)
        if not 1 <= batch <= len(self.points):
            raise UsageError(f"SVI: batch is {batch}; it must be from 1 to {len(self.points)}, the number of points")
        check_steps(delay, decay)
        self.batch, self.delay, self.decay = batch, delay, decay
        self.evaluations = batch / len(self.points)
        self._root = stream_root("svi", self.seed)

    def step(self, state: Vectors, t: int) -> Vectors:
        rows = self.rows(t)
        found = self.locals(state, self.points if rows is None else self.points[rows])
        rate = (t + self.delay) ** -self.decay
        target = self.globals(state, found, len(self.points) / self.batch)
        after = {**state, **{name: (1.0 - rate) * state[name] + rate * target[name] for name in target}}
        if not self.learn:
            return after
        target = self.learned(state, after, found)
        squared = {name: (1.0 - rate) * state[name] ** 2 + rate * target[name] ** 2 for name in ("sigma", "tau")}
        weights = (1.0 - rate) * state["weights"] + rate * target["weights"]
        return {**after, "weights": weights, **{name: np.sqrt(value) for name, value in squared.items()}}

    def rows(self, t: int) -> np.ndarray | None:
        """Return the minibatch of iteration t, a function of the seed and t alone; None if it is all rows."""
        if self.batch == len(self.points):
            return None
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._root, spawn_key=(t,))))
        return generator.choice(len(self.points), size=self.batch, replace=False, shuffle=False)


def check_steps(delay: float, decay: float) -> None:
    """Check that the step sizes converge; raise UsageError otherwise."""
    if delay < 0.0 or not (decay == 0.0 or 0.5 < decay <= 1.0):
        raise UsageError(
            f"SVI: delay is {delay:g} and decay {decay:g}; delay must be at least 0, and decay above 0.5 and at "
            "most 1, or the steps do not converge (0 is a constant step of 1)"
        )
