"""Streaming moments of estimates: block sums merged in float64 in block order, in memory proportional to λ.

All sums are centred at a fixed pilot mean c: with d = ĝ − c, sums are additive and do not cancel. The replicates always
form 64 groups of equally many blocks; when their number doubles, neighbouring groups are merged.
"""

from __future__ import annotations

import math

import numpy as np

GROUPS = 64


def kurtosis_of(sums: np.ndarray, count: int) -> float:
    """Return κ = E Q²/(E Q)² ≥ 1 from ΣQ and ΣQ²; 1 where nothing varies, infinite where the squares overflow."""
    mean, square = float(sums[0]) / count, float(sums[1]) / count
    if mean <= 0.0 or (scaled := math.sqrt(square) / mean) == 0.0:
        return 1.0
    return max(1.0, scaled) ** 2 if math.isfinite(scaled) else math.inf


def squared_distances(estimates: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return Q = ‖ĝ − c‖² [R] of estimates [R, D] and a centre [D], in float64."""
    d = estimates.astype(np.float64, copy=False) - centre
    found: np.ndarray = np.einsum("ij,ij->i", d, d)
    return found


class Moments:
    """Streaming moments of one parameter block.

    Parameters
    ----------
    dimension
        D.
    replicates
        Replicates in a block.
    cubed
        Replicates of a block that Σd³ sums over; all if absent.
    """

    def __init__(self, dimension: int, replicates: int, cubed: int | None = None) -> None:
        self.block_replicates = replicates
        self._cubed = cubed or replicates
        self.blocks_per_group = 1
        self.blocks = 0
        self.sums = np.zeros((GROUPS, 3, dimension))  # Σd, Σd², Σd³
        self.norms = np.zeros((GROUPS, 2))  # ΣQ, ΣQ²
        self._pieces = [np.zeros(0)]
        self._kept = 0
        self._floor = -math.inf

    @property
    def count(self) -> int:
        """Number of replicates, n."""
        return self.blocks * self.block_replicates

    def double(self) -> None:
        """Merge neighbouring groups, which makes room for as many blocks again."""
        for name in ("sums", "norms"):
            old = getattr(self, name)
            new = np.zeros_like(old)
            new[: GROUPS // 2] = old[0::2] + old[1::2]
            setattr(self, name, new)
        self.blocks_per_group *= 2

    def add(self, first: np.ndarray, second: np.ndarray, third: np.ndarray, norms: np.ndarray) -> None:
        """Add consecutive blocks, given Σd, Σd², Σd³ [blocks, D] and (ΣQ, ΣQ²) [blocks, 2]."""
        power = first, second, third
        start = 0
        while start < len(norms):
            group, within = divmod(self.blocks, self.blocks_per_group)
            some = slice(start, min(len(norms), start + self.blocks_per_group - within))
            for order in range(3):
                self.sums[group, order] += power[order][some].sum(axis=0, dtype=np.float64)
            self.norms[group] += norms[some].sum(axis=0)
            self.blocks += some.stop - start
            start = some.stop

    def keep_largest(self, q: np.ndarray) -> None:
        """Keep the largest Q of some blocks, given in any shape, for the tail index."""
        # Keep twice what a full set of groups needs, so that no value dropped now is missing after later doublings.
        room = GROUPS * self.blocks_per_group * self.block_replicates
        keep = 2 * math.ceil(3.0 * math.sqrt(room)) + 1
        q = q.reshape(-1)
        self._pieces.append(q[q >= self._floor].astype(np.float64, copy=False))
        self._kept += len(self._pieces[-1])
        # Trim only when well above the limit, since a partition costs as much as a block.
        if self._kept > keep + keep // 4:
            self._pieces = [np.partition(self.largest, self._kept - keep)[-keep:]]
            self._kept, self._floor = keep, float(self._pieces[0].min())

    @property
    def largest(self) -> np.ndarray:
        """Largest Q, unordered; at least as many as the tail index needs."""
        return np.concatenate(self._pieces)

    def share_beyond(self, q: float) -> float:
        """Return the share of ΣQ in values above q, of those that are kept."""
        total = float(self.norms[:, 0].sum())
        largest = self.largest
        return float(largest[largest > q].sum()) / total if total > 0.0 else 0.0

    @property
    def largest_norm(self) -> float:
        """Largest Q."""
        return float(self.largest.max(initial=0.0))

    # Moments about the mean, from moments about the centre.

    def _raw(self, order: int) -> np.ndarray:
        per_block = self._cubed if order == 2 else self.block_replicates
        return self.sums[:, order].sum(axis=0) / (self.blocks * per_block)

    def shift(self) -> np.ndarray:
        """Return ḡ − c [D]."""
        return self._raw(0)

    def variances(self) -> np.ndarray:
        """Return Var ĝ_j [D], with the factor n/(n − 1)."""
        centred = self._raw(1) - self._raw(0) ** 2
        return np.maximum(centred, 0.0) * (self.count / (self.count - 1))

    def mean_squares(self, centre: np.ndarray) -> np.ndarray:
        """Return E ĝ_j² [D], given the centre c."""
        return np.maximum(0.0, self._raw(1) + 2.0 * centre * self._raw(0) + centre**2)

    def skewness(self) -> np.ndarray:
        """Return the skewness of each coordinate [D]; 0 where it does not vary."""
        m1, m2, m3 = self._raw(0), self._raw(1), self._raw(2)
        variance = m2 - m1**2
        third = m3 - 3.0 * m1 * m2 + 2.0 * m1**3
        scale = np.maximum(variance, 0.0) ** 1.5  # 0 also where it underflows
        return np.where(scale > 0.0, third / np.where(scale > 0.0, scale, 1.0), 0.0)

    def kurtosis(self) -> float:
        """Return κ = E Q²/(E Q)², at least 1; 1 where nothing varies."""
        return kurtosis_of(self.norms.sum(axis=0), self.count)

    def group_means(self) -> np.ndarray:
        """Return ḡ − c of each group [groups, D]."""
        return self.sums[:, 0] / (self.blocks_per_group * self.block_replicates)

    def group_squared_norms(self) -> np.ndarray:
        """Return the mean of Q about the overall mean in each group [groups]."""
        per_group = self.blocks_per_group * self.block_replicates
        shift = self.shift()
        about_mean = self.norms[:, 0] / per_group - 2.0 * self.group_means() @ shift + shift @ shift
        return np.maximum(about_mean, 0.0)
