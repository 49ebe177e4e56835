"""Data for mixtures: synthetic points of known truth, scikit-learn's data sets, or the user's file.

All points are centred and divided by one unit, the root mean square of a coordinate, so that scales are comparable
between data sets.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.problems import data
from gradmeter.bench.problems.arrays import oriented
from gradmeter.estimators import UsageError
from gradmeter.estimators.noise import stream_root

DATASETS = ("synthetic", *data.BUNDLED)


@dataclass(frozen=True)
class Truth:
    """The parameters of synthetic points: means [K, P], one scale, weights [K], and each point's component [N]."""

    means: np.ndarray
    scale: float
    weights: np.ndarray
    components: np.ndarray


def checked(points: Any, components: int = 1, what: str = "the data") -> np.ndarray:
    """Return points [N, P] as float64, checked.

    Parameters
    ----------
    points
        The data.
    components
        Least number of points.
    what
        What messages call the data.

    Raises
    ------
    UsageError
        The points are not a finite matrix, or there are fewer points than components.
    """
    values = data.checked(points, what)
    if components > len(values):
        raise UsageError(f"{components} components need at least as many points; {what} has {len(values)}")
    return values


def synthetic(size: int, dimension: int, components: int) -> tuple[np.ndarray, Truth]:
    """Draw points [N, P] from K components of equal scale; return the points and their true parameters.

    μ_k ~ N(0, I), weights uniform on [1, 2] and normalised, x_i ~ N(μ_{z_i}, σ² I) with σ = 0.3. Then points and truth
    are centred and scaled. Before that, means and weights do not depend on N.

    Parameters
    ----------
    size
        N.
    dimension
        P.
    components
        K.
    """
    generator = np.random.Generator(np.random.PCG64(stream_root("mixture", dimension, components)))
    means = generator.standard_normal((components, dimension))
    weights = generator.uniform(1.0, 2.0, components)
    weights /= weights.sum()
    chosen = generator.choice(components, size=size, p=weights)
    points = means[chosen] + 0.3 * generator.standard_normal((size, dimension))
    centre, unit = _centre_and_unit(points)
    return (points - centre) / unit, Truth((means - centre) / unit, 0.3 / unit, weights, chosen)


def _centre_and_unit(points: np.ndarray) -> tuple[np.ndarray, float]:
    centre = points.mean(axis=0)
    away = points - centre
    largest = float(np.abs(away).max()) or 1.0  # avoids underflow of the squares
    unit = largest * float(np.sqrt(np.mean((away / largest) ** 2)))
    return centre, unit if unit > 0.0 else 1.0


def principal_components(points: np.ndarray, dimension: int) -> np.ndarray:
    """Project the points on their first `dimension` principal axes [N, P], by singular value decomposition."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ oriented(axes[:dimension]).T


def load(dataset: str, dimension: int, components: int, size: int = 500) -> np.ndarray:
    """Return points [N, P]: `synthetic`, a bundled data set on P principal components, or a file (`.npy`, `.csv`)."""
    return _loaded(dataset, fingerprint(dataset), dimension, components, size)


@functools.lru_cache(maxsize=32)
def _loaded(dataset: str, content: str | None, dimension: int, components: int, size: int) -> np.ndarray:
    """Load points; `content` is the file's fingerprint, so that a changed file is loaded again."""
    if dataset == "synthetic":
        return checked(synthetic(size, dimension, components)[0], components, "synthetic data")
    raw = _bundled(dataset) if dataset in data.BUNDLED else data.read(Path(dataset))
    raw = checked(raw, components, dataset)
    if dimension > min(raw.shape):
        raise UsageError(f"dim is {dimension}; {dataset} has {raw.shape[0]} points of {raw.shape[1]} coordinates")
    points = principal_components(raw, dimension)
    centre, unit = _centre_and_unit(points)
    return (points - centre) / unit


def rows(dataset: str, dimension: int, size: int) -> int:
    """Return N, without loading bundled data."""
    if dataset == "synthetic":
        return size
    return data.BUNDLED[dataset][0] if dataset in data.BUNDLED else len(load(dataset, dimension, 1))


def fingerprint(dataset: str) -> str | None:
    """Return a hash of a user's file, or None for a named data set.

    Raises
    ------
    UsageError
        `dataset` is neither a known name nor an .npy or .csv file.
    """
    if dataset in DATASETS:
        return None
    if Path(dataset).suffix not in data.FILES:
        raise UsageError(f"unknown dataset '{dataset}'; give {', '.join(DATASETS)}, or an .npy or .csv file")
    return data.fingerprint(dataset)


def _bundled(dataset: str) -> np.ndarray:
    """Return bundled data; the columns of wine, whose units differ, are divided by their standard deviations."""
    raw = np.asarray(data.bundled(dataset).data, dtype=np.float64)
    return raw / raw.std(axis=0) if dataset == "wine" else raw
