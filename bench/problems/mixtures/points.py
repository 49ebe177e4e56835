"""The points that mixtures are fitted to: synthetic ones whose truth is known, scikit-learn's, a user's own.

All are centred and share one unit, the root mean square of a coordinate, so that scales mean the same everywhere.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.problems import data
from gradmeter.estimators import UsageError
from gradmeter.estimators.noise import stream_root

DATASETS = ("synthetic", *data.BUNDLED)


@dataclass(frozen=True)
class Truth:
    """What synthetic points were drawn from: means [K, P], one scale, weights [K], and each point's component [N]."""

    means: np.ndarray
    scale: float
    weights: np.ndarray
    components: np.ndarray


def checked(points: Any, components: int = 1, what: str = "the data") -> np.ndarray:
    """Points [N, P] as float64; UsageError as well where they are fewer than the components."""
    values = data.checked(points, what)
    if components > len(values):
        raise UsageError(f"{components} components need at least as many points; {what} has {len(values)}")
    return values


def synthetic(size: int, dimension: int, components: int) -> tuple[np.ndarray, Truth]:
    """Points [N, P] of K components of equal scale, and what they were drawn from.

    μ_k ~ N(0, I), weights from 1 to 2 before they are normalised, x_i ~ N(μ_{z_i}, σ² I) with σ = 0.3; then centred
    and scaled, the truth likewise. The truth before that does not depend on N.
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
    largest = float(np.abs(away).max()) or 1.0  # whose square may be 0
    unit = largest * float(np.sqrt(np.mean((away / largest) ** 2)))
    return centre, unit if unit > 0.0 else 1.0


def principal_components(points: np.ndarray, dimension: int) -> np.ndarray:
    """The points on their first principal axes [N, P], by a singular value decomposition.

    An axis points where its largest loading is positive, so that every machine sees the same points.
    """
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:dimension]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return centred @ (axes * np.where(largest < 0.0, -1.0, 1.0)).T


def load(dataset: str, dimension: int, components: int, size: int = 500) -> np.ndarray:
    """Points [N, P] by name: `synthetic`, bundled data on P principal components, or a file (`.npy`, `.csv`)."""
    return _loaded(dataset, fingerprint(dataset), dimension, components, size)


@functools.lru_cache(maxsize=32)
def _loaded(dataset: str, content: str | None, dimension: int, components: int, size: int) -> np.ndarray:
    """A file whose content is another is another file."""
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
    """N, without loading what is bundled."""
    if dataset == "synthetic":
        return size
    return data.BUNDLED[dataset][0] if dataset in data.BUNDLED else len(load(dataset, dimension, 1))


def fingerprint(dataset: str) -> str | None:
    """A hash of a user's file; None for data that has a name.

    Raises
    ------
    UsageError
        It is neither.
    """
    if dataset in DATASETS:
        return None
    if Path(dataset).suffix not in data.FILES:
        raise UsageError(f"unknown dataset '{dataset}'; give {', '.join(DATASETS)}, or an .npy or .csv file")
    return data.fingerprint(dataset)


def _bundled(dataset: str) -> np.ndarray:
    """A column of wine has a unit of its own; those of the others share one."""
    raw = np.asarray(data.bundled(dataset).data, dtype=np.float64)
    return raw / raw.std(axis=0) if dataset == "wine" else raw
