"""Stores with contents that gradmeter would not write, and checksums that agree with them."""

from __future__ import annotations

from pathlib import Path

from gradmeter.bench.sweep.store import Store


def forge(path: Path, key: str, rows: list[str] | None = None, series: dict[str, bytes] | None = None) -> None:
    """Replace a cell's rows, given as text, and some of its series."""
    with Store.create(path) as store, store._write() as totals:
        known = store._entry(key)
        assert known is not None
        if rows is not None:
            store._put_rows(key, rows, known.rows)
        if series is not None:
            store._put_series(key, series)
        totals.put(known, known.holding(rows, series))
