"""Designs and responses of scikit-learn's bundled data."""

from __future__ import annotations

import functools

import numpy as np

from gradmeter.bench.problems.data import bundled


@functools.cache
def load(dataset: str, counts: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return a design [N, D] and a response [N] from scikit-learn's bundled data.

    Columns are standardised to mean 0 and population standard deviation 1, and a column of ones is appended. A
    continuous response is standardised too, unless `counts` asks for the original whole numbers.
    """
    bunch = bundled(dataset)
    design, response = np.asarray(bunch.data, dtype=float), np.asarray(bunch.target, dtype=float)
    if dataset == "linnerud":  # scikit-learn has the exercises as data; here they are the response
        design, response = response, design[:, 0]
    design = (design - design.mean(axis=0)) / design.std(axis=0)
    if dataset == "diabetes" and not counts:
        response = (response - response.mean()) / response.std()
    return np.column_stack([design, np.ones(len(design))]), response
