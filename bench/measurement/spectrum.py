"""The spectrum of the covariance of a mean of D coordinates, estimated from 64 groups of replicates.

The group means give the largest eigenvalue λ and the sum of squared eigenvalues τ²; all replicates give the trace v.
Together they bound how a squared norm ‖ȳ‖² varies, whatever the correlation between coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Spectrum:
    """Summaries of the covariance C of a mean ȳ.

    Attributes
    ----------
    trace
        V = tr C.
    largest
        λ, the largest eigenvalue.
    squares
        τ² = tr C².
    """

    trace: float
    largest: float
    squares: float

    @classmethod
    def of(cls, groups: np.ndarray, variances: np.ndarray) -> Spectrum:
        """Estimate the spectrum from group means [G, D] and the variance of each coordinate's mean [D].

        With ν = G − 1 degrees of freedom, ν²/((ν − 1)(ν + 2)) (tr Ĉ² − (tr Ĉ)²/ν) is unbiased for tr C² of a Normal.
        The largest eigenvalue ℓ of Ĉ is too large by the noise in the others, estimated by (tr Ĉ − ℓ)/(ν − 1).
        """
        freedom = len(groups) - 1
        if not np.all(np.isfinite(groups)):
            return cls(math.inf, math.inf, math.inf)
        centred = groups - groups.mean(axis=0)
        scale = float(np.abs(centred).max(initial=0.0)) or 1.0  # keeps squares of very small numbers from underflow
        centred = centred / scale
        eigenvalues = np.linalg.eigvalsh(centred @ centred.T) * (scale / (freedom * len(groups))) * scale
        total, square = float(eigenvalues.sum()), float((eigenvalues**2).sum())
        trace = float(variances.sum())
        unbiased = freedom**2 / ((freedom - 1) * (freedom + 2)) * (square - total**2 / freedom)
        squares = float(np.clip(unbiased, (variances**2).sum(), trace**2))
        largest = float(eigenvalues[-1])
        largest -= (total - largest) / (freedom - 1)
        highest = min(trace, math.sqrt(squares))
        return cls(trace, float(np.clip(largest, min(variances.max(initial=0.0), highest), highest)), squares)

    def chance_of(self, squared_norm: float) -> float:
        """Return P(‖ȳ‖² ≥ squared_norm) if E ȳ = 0, by a scaled χ² with the same mean and variance."""
        if self.trace <= 0.0:
            return 1.0 if squared_norm <= 0.0 else 0.0
        if not math.isfinite(self.trace):
            return 1.0
        freedom = self.trace**2 / self.squares if self.squares > 0.0 else 1.0
        return float(special.chdtrc(freedom, freedom * squared_norm / self.trace))

    def upper(self, squared_norm: float, quantile: float) -> float:
        """Return an upper confidence limit for ‖E ȳ‖ from the estimate U = ‖ȳ‖² − v.

        Parameters
        ----------
        squared_norm
            ‖ȳ‖².
        quantile
            Of Student's t with 63 degrees of freedom.
        """
        if not math.isfinite(self.trace):
            return math.inf
        above, q2 = max(squared_norm - self.trace, 0.0), quantile**2
        spread = math.sqrt(self.largest * above + q2 * self.largest**2 + 0.5 * self.squares)
        return math.sqrt(above + 2.0 * q2 * self.largest + 2.0 * quantile * spread)

    def lower(self, squared_norm: float, quantile: float) -> float:
        """Return a lower confidence limit for ‖E ȳ‖; parameters as for `upper`."""
        if not math.isfinite(self.trace):
            return 0.0
        q2 = quantile**2
        less = squared_norm - self.trace - 2.0 / 3.0 * (q2 - 1.0) * self.largest
        if less <= quantile * math.sqrt(2.0 * self.squares):
            return 0.0
        spread = math.sqrt(self.largest * less + q2 * self.largest**2 + 0.5 * self.squares)
        return math.sqrt(max(0.0, less + 2.0 * q2 * self.largest - 2.0 * quantile * spread))
