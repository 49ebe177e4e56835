"""The result row: one per cell and parameter block, and one for `all`. These columns are a promise to users."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

#: The `block` of the row for all parameter blocks together.
ALL = "all"

COLUMNS: dict[str, str] = {
    # the cell
    "problem": "string",
    "problem_options": "json",
    "dimension": "integer",
    "family": "string",
    "estimator": "string",
    "estimator_options": "json",
    "backend": "string",
    "device": "string",
    "dtype": "string",
    "num_samples": "integer",
    "block": "string",
    "seed": "integer",
    "noise": "string",
    "replicates": "integer",
    # its outcome
    "status": "string",
    "reason": "string",
    # bias
    "exact_norm": "number",
    "exact_source": "string",
    "mean_norm": "number",
    "bias_norm": "number",
    "bias_z": "number",
    "bias": "number",
    "bias_low": "number",
    "bias_high": "number",
    "bias_bound": "number",
    "bias_max": "number",
    "bias_scale": "string",
    "certificate": "string",
    "control_gain": "number",
    "assumption": "string",
    "verdict": "string",
    # variance
    "variance": "number",
    "variance_low": "number",
    "variance_high": "number",
    "variance_flag": "string",
    "skewness": "number",
    "kurtosis": "number",
    "tail_k": "number",
    "snr": "number",
    # cost
    "seconds": "number",
    "seconds_low": "number",
    "seconds_high": "number",
    "latency": "number",
    "latency_low": "number",
    "latency_high": "number",
    "compile_seconds": "number",
    "evaluations": "integer",
    "work_normalised_variance": "number",
    # where and when
    "versions": "json",
    "threads": "integer",
    "machine": "string",
    "code_version": "string",
    "content": "json",  # {"problem" or "estimator": digest} of a user's own objects
    "cell_key": "string",
    "started": "string",
    "finished": "string",
}

#: Columns that are never null.
ALWAYS = ("problem", "problem_options", "estimator", "estimator_options", "backend", "num_samples", "block", "status")

Row = dict[str, Any]


def row(**values: Any) -> Row:
    """Return a complete row in column order; columns not given, and numbers that are not finite, are null."""
    return complete(values, COLUMNS)


def complete(values: dict[str, Any], columns: dict[str, str]) -> Row:
    """Complete a row for any columns, {name: kind}, as `row` does.

    Raises
    ------
    KeyError
        A value belongs to no column.
    """
    unexpected = set(values) - set(columns)
    if unexpected:
        raise KeyError(f"not columns of a row: {sorted(unexpected)}")
    return {name: _plain(values.get(name), kind) for name, kind in columns.items()}


def _plain(value: Any, kind: str) -> Any:
    if value is None or kind in ("string", "json"):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if kind == "integer" else float(value)


def to_json(values: Row) -> str:
    """Return a row as one line of JSON."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> Row:
    """Return a row that `to_json` wrote.

    Raises
    ------
    ValueError
        The text is anything else, since a file may hold anything.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("a row nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("a row that is no JSON object")
    for name, kind in COLUMNS.items():
        value = values.get(name)
        absent = value is None and name not in ALWAYS
        if not absent and not _is(value, kind):
            raise ValueError(f"a row whose {name} is no {kind}")
    return {name: values.get(name) for name in COLUMNS}


def _is(value: Any, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "json":
        return isinstance(value, dict)
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**63
    return kind == "number" and isinstance(value, float) and math.isfinite(value)


def to_frame(rows: Iterable[Row], columns: dict[str, str] = COLUMNS) -> Any:
    """Return a data frame with the row's columns.

    Numbers are floats with NaN for null, whole numbers are nullable `Int64`, and options stay JSON text.
    """
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name, kind in columns.items():
        if kind == "number":
            frame[name] = pd.to_numeric(frame[name]).astype("float64")
        elif kind == "integer":
            frame[name] = pd.array(frame[name].tolist(), dtype="Int64")
        elif kind == "json":
            frame[name] = [json.dumps(v, sort_keys=True) if isinstance(v, dict) else v for v in frame[name]]
    return frame
