"""Data for autoencoders: scikit-learn's data sets, or the user's file.

Bundled rows are sorted by class or by writer. Here they are in a fixed shuffled order in which any contiguous range has
about the same share of every class, so that the first rows, which are fitted, resemble the test rows after them. A
file's rows stay in order: the user has chosen the split.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gradmeter.bench.problems.data import BUNDLED, FILES, GREY, binary, bundled, checked, fingerprint, read
from gradmeter.estimators import UsageError
from gradmeter.estimators.noise import stream_root


def standardised(dataset: str, rows: int) -> np.ndarray:
    """Return rows [N, P] with each column standardised by its mean and standard deviation over the first `rows`.

    Columns that are constant there are only centred.
    """
    raw = _raw(dataset)
    mean, deviation = raw[:rows].mean(axis=0), raw[:rows].std(axis=0)
    return (raw - mean) / np.where(deviation > 0.0, deviation, 1.0)


def images(dataset: str, likelihood: str) -> np.ndarray:
    """Return images [N, pixels]: binary for a Bernoulli likelihood, on [0, 1] for a Gaussian.

    A file's values stay unchanged.

    Raises
    ------
    UsageError
        The likelihood is Bernoulli and the file has pixels other than 0 and 1.
    """
    raw = _raw(dataset)
    if dataset in BUNDLED:
        return binary(raw) if likelihood == "bernoulli" else raw / GREY
    if likelihood == "bernoulli" and not np.all((raw == 0.0) | (raw == 1.0)):
        raise UsageError(f"{dataset}: likelihood=bernoulli is of pixels 0 or 1; binarise the images, or use gaussian")
    return raw


def known(dataset: str, names: Iterable[str]) -> bool:
    """Return whether the data set is one of the bundled `names`, or has the suffix of a data file."""
    return dataset in names or Path(dataset).suffix in FILES


def check(dataset: str, names: Iterable[str], what: str) -> None:
    """Check that the data set is one of the bundled `names` or a file; raise UsageError otherwise."""
    if not known(dataset, names):
        raise UsageError(f"{what}: dataset is '{dataset}'; it must be {', '.join(names)}, or an .npy or .csv file")


def rows(dataset: str) -> tuple[int, int]:
    """Return N and P, without loading bundled data."""
    return BUNDLED[dataset] if dataset in BUNDLED else _raw(dataset).shape


def labels(dataset: str) -> np.ndarray | None:
    """Return the class of every row [N] of bundled data, for figures only; None for a file."""
    if dataset not in BUNDLED:
        return None
    return np.asarray(bundled(dataset).target)[order(dataset)]


@functools.cache
def order(dataset: str) -> np.ndarray:
    """Return the order of bundled rows [N]: shuffled within each class, with the classes evenly interleaved."""
    classes = np.asarray(bundled(dataset).target)
    shuffled = np.random.Generator(np.random.PCG64(stream_root("order", dataset))).permutation(len(classes))
    places = np.empty(len(classes))
    for each in np.unique(classes):
        members = shuffled[classes[shuffled] == each]
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((classes, places))


def _raw(dataset: str) -> np.ndarray:
    return _loaded(dataset, None if dataset in BUNDLED else fingerprint(dataset))


@functools.lru_cache(maxsize=32)
def _loaded(dataset: str, content: str | None) -> np.ndarray:
    """Load the data; `content` is a file's fingerprint, so that a changed file is loaded again."""
    if dataset not in BUNDLED:
        return checked(read(Path(dataset)), what=dataset)
    return np.asarray(bundled(dataset).data, dtype=np.float64)[order(dataset)]
