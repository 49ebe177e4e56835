"""Reading of data matrices: scikit-learn's bundled data sets, or a file of the user's."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import types
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.estimators import UsageError

#: Shapes [rows, columns] of the bundled data sets for models without a response.
BUNDLED = {"iris": (150, 4), "wine": (178, 13), "digits": (1797, 64)}
#: scikit-learn's files of plain numbers with the target in the last column; all but the digits have one header line.
TABLES = {"breast_cancer": "breast_cancer.csv", "iris": "iris.csv", "wine": "wine_data.csv", "digits": "digits.csv.gz"}
FILES = (".npy", ".csv")
#: Largest magnitude accepted in the user's data.
LARGEST = 1e100
#: Largest grey level of the digits; grey level above which a binarised pixel is 1.
GREY, THRESHOLD = 16.0, 7.0


def bundled(dataset: str) -> Any:
    """Return a bundled data set of scikit-learn, with attributes `data` [N, P] and `target` [N].

    Plain tables are read without importing scikit-learn, which takes over a second.
    """
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.submodule_search_locations and dataset in TABLES:
        path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / TABLES[dataset]
        if path.exists():
            table = np.loadtxt(path, delimiter=",", skiprows=0 if path.suffix == ".gz" else 1)
            return types.SimpleNamespace(data=np.ascontiguousarray(table[:, :-1]), target=table[:, -1].astype(int))
    from sklearn import datasets

    return getattr(datasets, f"load_{dataset}")()


def binary(pixels: np.ndarray) -> np.ndarray:
    """Binarise pixels of the digits to 0.0 or 1.0."""
    return (pixels > THRESHOLD).astype(np.float64)


def checked(rows: Any, what: str = "the data") -> np.ndarray:
    """Return the rows as float64 [N, P], checked; `what` names them in error messages.

    Raises
    ------
    UsageError
        The rows are not a non-empty matrix of finite real numbers, or are so large that sums of their squares overflow.
    """
    if np.iscomplexobj(rows):
        raise UsageError(f"{what} holds complex numbers; they must be real")
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{what} must be numbers in rows and columns") from None
    if values.ndim != 2 or 0 in values.shape:
        flat = "; flatten each image: a.reshape(len(a), -1)" if values.ndim > 2 else ""
        raise UsageError(f"{what} has shape {list(values.shape)}; it must be [rows, columns], none of them 0{flat}")
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = (int(i[0]) for i in np.nonzero(wrong))
        raise UsageError(
            f"{what} holds {values[row, column]} at row {row}, column {column}; every number must be finite"
        )
    if (largest := float(np.abs(values).max())) > LARGEST:
        raise UsageError(f"{what} holds a number of size {largest:.3g}; give units in which none is above {LARGEST:g}")
    return values


def fingerprint(path: str) -> str:
    """Return a hash of a file's content."""
    return hashlib.sha256(_content(Path(path))).hexdigest()


def read(path: Path) -> np.ndarray:
    """Read numbers from an `.npy` file or a comma-separated `.csv` file, whose first line may be a header.

    Raises
    ------
    UsageError
        The file cannot be read, or does not hold rows of numbers of equal length.
    """
    try:
        content = _content(path)
        if path.suffix == ".npy":
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
        lines = [line for line in content.decode().splitlines() if line.strip()]
        header = bool(lines) and not all(_is_number(word) for word in lines[0].split(","))
        found = [[float(word) for word in line.split(",")] for line in lines[header:]]
        if len({len(row) for row in found}) > 1:
            odd = next(i for i, row in enumerate(found) if len(row) != len(found[0]))
            raise ValueError(f"row {odd} has {len(found[odd])} of them, row 0 has {len(found[0])}")
        return np.asarray(found)
    except ValueError as error:
        raise UsageError(f"cannot read numbers from '{path}': {' '.join(str(error).split())}") from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
