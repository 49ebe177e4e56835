"""The compact table of a measurement: one line a cell."""

from __future__ import annotations

from collections.abc import Sequence

from gradmeter.bench.reading.names import telling_apart
from gradmeter.bench.reading.numbers import bias, interval, seconds, significant, verdict
from gradmeter.bench.rows import ALL, Row
from gradmeter.estimators.errors import printable

HEADINGS = ("problem", "estimator", "backend", "S", "bias", "variance", "seconds")
#: Headings of columns that are ranged right.
RIGHT = ("S", "seconds")


def lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the `all` rows as text."""
    table: list[tuple[str, ...]] = []
    named = telling_apart(rows)
    for row in rows:
        if row["block"] != ALL:
            continue
        known, variance = row["status"], row["reason"] or ""
        if row["status"] == "ok":
            known = f"{verdict(row['verdict'])} {bias(row)}".rstrip()
            variance = f"{significant(row['variance'])}  {interval(row['variance_low'], row['variance_high'])}"
            variance += "" if row["variance_flag"] == "ok" else f" {row['variance_flag']}"
        cell = (*named(row), row["backend"], str(row["num_samples"]))
        table.append(tuple(map(printable, (*cell, known, variance, seconds(row["seconds"])))))
    return table
