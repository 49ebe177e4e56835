"""What autoencoders are fitted to: scikit-learn's data, or a file of a user's own."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from bench.problems.mixtures.points import BUNDLED, checked, read
from estimators import UsageError

#: Grey levels of scikit-learn's digits, and the one above which a pixel of a binarised one is 1.
LEVELS, THRESHOLD = 16.0, 7.0


@functools.cache
def standardised(dataset: str) -> np.ndarray:
    """[N, P], every column to mean 0, and to deviation 1 unless it is constant."""
    raw = _raw(dataset)
    deviation = raw.std(axis=0)
    return (raw - raw.mean(axis=0)) / np.where(deviation > 0.0, deviation, 1.0)


@functools.cache
def images(dataset: str, likelihood: str) -> np.ndarray:
    """Images [N, pixels]: on [0, 1] for a Gaussian likelihood, 0 or 1 for a Bernoulli.

    Raises
    ------
    UsageError
        A file whose numbers are not such.
    """
    raw = _raw(dataset)
    if dataset in BUNDLED:
        return (raw > THRESHOLD).astype(np.float64) if likelihood == "bernoulli" else raw / LEVELS
    if likelihood == "bernoulli" and not np.all((raw == 0.0) | (raw == 1.0)):
        raise UsageError(f"{dataset}: likelihood=bernoulli is of pixels 0 or 1; binarise the images")
    return raw


def rows(dataset: str) -> tuple[int, int]:
    """N and P, without loading what is bundled."""
    return BUNDLED[dataset] if dataset in BUNDLED else _raw(dataset).shape


def labels(dataset: str) -> np.ndarray | None:
    """The class of every row [N], for pictures alone; None of a file's."""
    if dataset not in BUNDLED:
        return None
    from sklearn import datasets  # slow to import

    return np.asarray(getattr(datasets, f"load_{dataset}")().target)


@functools.cache
def _raw(dataset: str) -> np.ndarray:
    if dataset not in BUNDLED:
        return checked(read(Path(dataset)), what=dataset)
    from sklearn import datasets  # slow to import

    return np.asarray(getattr(datasets, f"load_{dataset}")().data, dtype=np.float64)
