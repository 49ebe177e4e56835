"""Designs and responses of the data that scikit-learn brings along."""

from __future__ import annotations

import functools

import numpy as np

from gradmeter.bench.problems.data import bundled


@functools.cache
def load(dataset: str, counts: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A design [N, D] and a response [N] of scikit-learn's bundled data.

    Columns are standardised to mean 0 and population s.d. 1, a column of ones is appended last; a continuous
    response is standardised as well, unless it is asked for as `counts`: the whole numbers that were noted down.
    """
    bunch = bundled(dataset)
    design, response = np.asarray(bunch.data, dtype=float), np.asarray(bunch.target, dtype=float)
    if dataset == "linnerud":  # there the exercises are the data; here they are what is explained
        design, response = response, design[:, 0]
    design = (design - design.mean(axis=0)) / design.std(axis=0)
    if dataset == "diabetes" and not counts:
        response = (response - response.mean()) / response.std()
    return np.column_stack([design, np.ones(len(design))]), response
