"""What autoencoders are fitted to: scikit-learn's data, or a file of a user's own.

Bundled rows come by class, or by writer; here they are in a shuffled order, the same everywhere, in which any stretch
has about the same share of every class. So the first of them are like those that come after, which a fit is tested by.
A file's rows stay in its order: who splits them has done so.
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
    """[N, P], every column of the first `rows` to mean 0, and to deviation 1 unless it is constant there."""
    raw = _raw(dataset)
    mean, deviation = raw[:rows].mean(axis=0), raw[:rows].std(axis=0)
    return (raw - mean) / np.where(deviation > 0.0, deviation, 1.0)


def images(dataset: str, likelihood: str) -> np.ndarray:
    """Images [N, pixels]: on [0, 1] for a Gaussian likelihood (a file's as they are), 0 or 1 for a Bernoulli.

    Raises
    ------
    UsageError
        A file whose numbers are not such.
    """
    raw = _raw(dataset)
    if dataset in BUNDLED:
        return binary(raw) if likelihood == "bernoulli" else raw / GREY
    if likelihood == "bernoulli" and not np.all((raw == 0.0) | (raw == 1.0)):
        raise UsageError(f"{dataset}: likelihood=bernoulli is of pixels 0 or 1; binarise the images, or use gaussian")
    return raw


def known(dataset: str, names: Iterable[str]) -> bool:
    """Whether it is one of the bundled names, or called as a file is."""
    return dataset in names or Path(dataset).suffix in FILES


def check(dataset: str, names: Iterable[str], what: str) -> None:
    """Raise UsageError where it is neither one of the bundled names nor a file."""
    if not known(dataset, names):
        raise UsageError(f"{what}: dataset is '{dataset}'; it must be {', '.join(names)}, or an .npy or .csv file")


def rows(dataset: str) -> tuple[int, int]:
    """N and P, without loading what is bundled."""
    return BUNDLED[dataset] if dataset in BUNDLED else _raw(dataset).shape


def labels(dataset: str) -> np.ndarray | None:
    """The class of every row [N], for pictures alone; None of a file's."""
    if dataset not in BUNDLED:
        return None
    return np.asarray(bundled(dataset).target)[order(dataset)]


@functools.cache
def order(dataset: str) -> np.ndarray:
    """Row numbers of bundled data [N]: shuffled within each class, and the classes spread evenly over all places."""
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
    """A file whose content is another is another file."""
    if dataset not in BUNDLED:
        return checked(read(Path(dataset)), what=dataset)
    return np.asarray(bundled(dataset).data, dtype=np.float64)[order(dataset)]
