"""Randomised quasi-Monte-Carlo: scrambled Sobol points as a source of noise.

The S points of an estimate are a digital net that fills the unit cube evenly. Every replicate is an independent
scrambling of the same net. Each point alone is uniform, so an estimator that is unbiased for each sample stays
unbiased; for smooth f the variance falls up to S⁻³ instead of S⁻¹.

The net is the first S points of SciPy's Sobol sequence (direction numbers of Joe & Kuo 2008). The randomisation is
Matoušek's random linear scramble (a random lower-triangular matrix with unit diagonal on the binary digits of every
coordinate) followed by a random digital shift. Pairs of points then have the same distribution as under Owen's nested
uniform scramble, so the variance is the same.

Sources: Owen 1997; Matoušek 1998; Owen 2003 (variance of the alternatives); Buchholz et al. 2018 (for gradients).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradmeter.estimators.backends.backend import Backend

Array = Any


@functools.lru_cache(maxsize=32)
def _basis(levels: int, dimension: int) -> np.ndarray:
    """Return the binary digits of the points with index 2ᵏ, as [levels (k), levels (digit b), D].

    The most significant digit comes first. Point i is the sum, digit by digit modulo 2, of those points whose k is a
    binary digit of i.
    """
    from scipy.stats import qmc  # slow to import

    net = qmc.Sobol(dimension, scramble=False).random_base2(levels)
    whole = np.round(net[2 ** np.arange(levels)] * 2**levels).astype(np.int64)
    places = np.arange(levels - 1, -1, -1)
    return ((whole[:, None, :] >> places[:, None]) & 1).astype(bool)


def draw(backend: Backend, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw points [R, S, width] strictly inside the unit cube, with an independent scrambling for each of the R nets.

    Every number is a multiple of 2⁻⁵² (float32: 2⁻²³) plus half of that.
    """
    xp = backend.xp
    replicates, num_samples, width = shape
    levels, digits = num_samples.bit_length() - 1, 52 if dtype == "float64" else 23
    uniform = backend.uniform(stream, (replicates, levels + 1, width), dtype)
    random = xp.astype(xp.floor(uniform * 2.0**digits), xp.int64)
    basis = backend.asarray(_basis(levels, width), None)
    scrambled = xp.zeros_like(random[:, :levels])
    for b in range(levels):  # column b of the matrix: digit b itself, and random digits below it
        top = 1 << (digits - 1 - b)
        column = random[:, b : b + 1] % top + top
        scrambled = xp.bitwise_xor(scrambled, xp.where(basis[:, b], column, xp.zeros_like(column)))
    points = random[:, levels:]  # the shift
    for k in range(levels):
        points = xp.concat([points, xp.bitwise_xor(points, scrambled[:, k : k + 1])], axis=1)
    return (xp.astype(points, getattr(xp, dtype)) + 0.5) / 2.0**digits
