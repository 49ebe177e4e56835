"""Randomised quasi-Monte-Carlo: scrambled Sobol points as a source of noise.

An estimate's S points are a digital net that fills the unit cube evenly, randomised afresh for every replicate: the
replicates are independent scramblings of one net. Each point alone is uniform, so whatever is unbiased for
independent samples one by one stays so; for smooth f the variance falls up to S⁻³ in place of S⁻¹.

The net is the first S points of SciPy's Sobol sequence (direction numbers of Joe & Kuo 2008). The randomisation is
Matoušek's random linear scramble (a random lower-triangular matrix with unit diagonal on the binary digits of every
coordinate) followed by a random digital shift; pairs of points are then distributed as under Owen's nested uniform
scramble, so the variance is the same.

Sources: Owen 1997; Matoušek 1998; Owen 2003 (variance of the alternatives); Buchholz et al. 2018 (for gradients).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

Array = Any


@functools.lru_cache(maxsize=32)
def _basis(levels: int, dimension: int) -> np.ndarray:
    """[levels (k), levels (b), D]: digit b, the most significant first, of the point with index 2ᵏ.

    Digit by digit modulo 2, point i is the sum of those whose k is a digit of i.
    """
    from scipy.stats import qmc  # slow to import

    net = qmc.Sobol(dimension, scramble=False).random_base2(levels)
    whole = np.round(net[2 ** np.arange(levels)] * 2**levels).astype(np.int64)
    places = np.arange(levels - 1, -1, -1)
    return ((whole[:, None, :] >> places[:, None]) & 1).astype(bool)


def draw(backend: Any, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
    """Points [R, S, width] strictly inside the unit cube, each row of R scrambled by itself.

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
