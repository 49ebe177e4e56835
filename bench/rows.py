"""The result row: one per cell and parameter block, and one for `all`. These columns are a promise to users."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from gradmeter.estimators.errors import acts, printable

#: Digits of a whole number in a row, which Python takes quadratic time to read.
MOST_DIGITS = 100
#: What a spreadsheet takes for a formula, or would take for one with the apostrophes before it removed.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
#: The `block` of the row for all parameter blocks together.
ALL = "all"

#: Kind of every column, and its meaning in one line.
_COLUMNS = {
    # the cell
    "problem": ("string", "name of the problem"),
    "problem_options": ("json", "every option of the problem in effect, as a JSON object"),
    "dimension": ("integer", "D, the coordinates of z"),
    "family": ("string", "name of the distribution q_λ(z)"),
    "estimator": ("string", "name of the estimator"),
    "estimator_options": ("json", "every option of the estimator in effect, as a JSON object"),
    "backend": ("string", "numpy, torch or jax"),
    "device": ("string", "cpu or cuda"),
    "dtype": ("string", "precision of the arithmetic: float64 or float32"),
    "num_samples": ("integer", "S, the samples in one estimate; every draw counts"),
    "block": ("string", "parameter block that the row is about, or `all` for all together"),
    "seed": ("integer", "seed of the noise"),
    "noise": ("string", "source of the noise: native (of the framework) or shared (drawn by NumPy)"),
    "replicates": ("integer", "independent estimates that bias and variance are measured by"),
    # its outcome
    "status": ("string", "ok, n/a, nonfinite, exception, out-of-memory, timeout or crashed"),
    "reason": ("string", "why there are no numbers, or what to know about them"),
    # bias
    "exact_norm": ("number", "‖g‖₂, the norm of the exact gradient"),
    "exact_source": (
        "string",
        "how g is known: closed-form, quadrature, enumeration, rqmc, none, or what your problem says",
    ),
    "exact_error": ("number", "bound on the relative error of g; null where it is rounding, or not known"),
    "mean_norm": ("number", "‖ḡ‖₂, the norm of the mean estimate"),
    "bias_norm": ("number", "‖ḡ − g‖₂, sampling noise included"),
    "bias_z": ("number", "largest |z| of a coordinate of ḡ − g"),
    "bias": ("number", "‖E ĝ − g‖₂ / ‖g‖₂ with sampling noise taken off"),
    "bias_low": ("number", "lower end of the 95 % interval of `bias`"),
    "bias_high": ("number", "upper end of the 95 % interval of `bias`"),
    "bias_bound": ("number", "upper bound on ‖E ĝ − g‖₂ / ‖g‖₂ at 99.9 % confidence"),
    "bias_max": ("number", "the same bound for the coordinate with the largest bias"),
    "bias_scale": (
        "string",
        "what bias is relative to: `gradient`, or `deviation` (the standard deviation) where g is about 0",
    ),
    "certificate": ("string", "how the bound was obtained: integration over the noise, or sampling"),
    "control_gain": ("number", "factor by which control variates cut the variance of the mean"),
    "cosine": ("number", "cosine of E ĝ to g, sampling noise taken off; null where one of them is about 0"),
    "scale_factor": ("number", "the factor a with which a g is nearest to E ĝ; null where g is about 0"),
    "scale_low": ("number", "lower end of the 95 % interval of `scale_factor`"),
    "scale_high": ("number", "upper end of the 95 % interval of `scale_factor`"),
    "assumption": (
        "string",
        "what the verdict assumes and could not check; it begins with `defensive` where defensive draws were used",
    ),
    "verdict": ("string", "unbiased, biased, inconclusive or no-reference"),
    # variance
    "variance": ("number", "trace of the covariance of one estimate"),
    "variance_low": ("number", "lower end of the 95 % interval of `variance`"),
    "variance_high": (
        "number",
        "upper end of the 95 % interval of `variance`; 1.798e308 where it has none",
    ),
    "variance_flag": ("string", "ok, unreliable, not-estimable or dependent"),
    "skewness": ("number", "largest skewness of a coordinate of the estimates"),
    "kurtosis": ("number", "kurtosis of Q = ‖ĝ − ḡ‖²"),
    "tail_k": ("number", "tail index of Q; 0.5 and more means that the variance of Q is infinite"),
    "snr": ("number", "signal-to-noise ratio ‖g‖₂ / √variance"),
    # cost
    "seconds": ("number", "seconds an estimate, made in bulk, noise included"),
    "seconds_low": ("number", "lower end of the 95 % interval of `seconds`"),
    "seconds_high": ("number", "upper end of the 95 % interval of `seconds`"),
    "latency": ("number", "seconds of one estimate alone"),
    "latency_low": ("number", "lower end of the 95 % interval of `latency`"),
    "latency_high": ("number", "upper end of the 95 % interval of `latency`"),
    "compile_seconds": ("number", "seconds of compilation, in neither `seconds` nor `latency`"),
    "device_seconds": ("number", "seconds an estimate by the clock of a device of its own, made in bulk"),
    "peak_memory": ("integer", "bytes that one call in bulk takes on a device of its own"),
    "evaluations": ("integer", "evaluations of f an estimate"),
    "work_normalised_variance": ("number", "variance × seconds"),
    # where and when
    "versions": ("json", "versions of Python and of the packages, as a JSON object"),
    "threads": ("integer", "threads that an estimate was computed with"),
    "machine": ("string", "where it was measured: processor, and graphics card with driver, CUDA and power limit"),
    "device_state": (
        "json",
        "clocks, temperature and reasons for low clocks of a graphics card, before and after, as a JSON object",
    ),
    "code_version": ("string", "commit of gradmeter, or its version"),
    "content": ("json", "digests of the problem and the estimator where a user brought them, as a JSON object"),
    "cell_key": ("string", "digest of all that the cell's numbers depend on"),
    "started": ("string", "when the measurement started"),
    "finished": ("string", "when the measurement was finished"),
}
COLUMNS = {name: kind for name, (kind, _) in _COLUMNS.items()}
MEANINGS = {name: meaning for name, (_, meaning) in _COLUMNS.items()}

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
    """Return a row as one line of JSON, in which characters that act on a terminal are escaped."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return text if text.isprintable() else "".join(json.dumps(c)[1:-1] if acts(c) else c for c in text)


def from_json(text: str) -> Row:
    """Return a row that `to_json` wrote.

    Raises
    ------
    ValueError
        The text is anything else, since a file may hold anything.
    """
    try:
        values = json.loads(text, parse_int=_parsed_integer)
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


def _parsed_integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


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

    rows, found = list(rows), {}
    for name, kind in columns.items():
        values: Any = [row.get(name) for row in rows]
        if kind == "number":
            values = np.asarray(values, dtype=np.float64)
        elif kind == "integer":
            values = pd.array(values, dtype="Int64")
        elif kind == "json":
            values = [json.dumps(v, sort_keys=True) if isinstance(v, dict) else v for v in values]
        found[name] = values
    return pd.DataFrame(found)


def to_export(rows: Iterable[Row], columns: dict[str, str] = COLUMNS, spreadsheet: bool = True) -> Any:
    """Return the data frame to write to a file for others, whose strings hold no character that acts on a terminal.

    Parameters
    ----------
    rows
        Result rows.
    columns
        Names of the columns, with their types.
    spreadsheet
        Whether a spreadsheet may read the file. A string that it would take for a formula then begins with an
        apostrophe, one more if it begins with some already, so that one taken off gives the string back.
    """

    def inert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return ("'" if spreadsheet and _FORMULA.match(value) else "") + printable(value)

    return to_frame(({name: inert(value) for name, value in row.items()} for row in rows), columns)
