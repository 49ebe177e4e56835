"""Reading and writing a store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.rows import Row, from_json, to_json
from gradmeter.bench.sweep.store import opening, schema
from gradmeter.bench.sweep.store.entries import (
    MOST_ROW_CHARACTERS,
    MOST_SERIES_BYTES,
    Contents,
    Entry,
    Totals,
    checksum,
    checksum_of_series,
    damaged,
    entry_of,
    stored_rows,
    stored_series,
)
from gradmeter.bench.sweep.store.locking import Lock
from gradmeter.estimators import UsageError

Arrays = Mapping[str, np.ndarray]


class TooLong(ValueError):
    """A row is longer than those that are read."""


class Store:
    """A result store, opened with `Store.create` (the one writer) or `Store.read`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, version: int, lock: Lock | None = None) -> None:
        self.path = path
        self._db = connection
        self._version = version
        self._lock = lock

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open a store for writing, and create the file if it does not exist. A failure leaves no new files.

        A store of an older version is upgraded.

        Raises
        ------
        UsageError
            The path cannot be written, is no store, is damaged, comes from a newer version, or has another writer.
        DiskFull
            There is no room for the file.
        """
        db, lock = opening.to_write(path)
        return cls(db, path, schema.SCHEMA, lock)

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open an existing store for reading, as it is at this moment: what a run writes later is not seen.

        Raises
        ------
        UsageError
            There is no such file, it is no store, it lacks cells that were stored, or a newer version wrote it.
        """
        db, version = opening.to_read(path)
        return cls(db, path, version)

    def close(self) -> None:
        if self._lock is not None:
            with suppress(sqlite3.Error):  # leave a single file, which can be read in a read-only folder too
                self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[Totals]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            totals = Totals(self._db)
            yield totals
            totals.save()
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if opening.is_full(error):
                raise opening.DiskFull(self.path) from None
            if isinstance(error, sqlite3.Error):
                raise UsageError(f"store {self.path} cannot be written: {error}") from None
            raise

    # Writing

    def finish(self, key: str, rows: list[Row], series: Arrays, description: dict[str, Any] | None = None) -> None:
        """Write a cell's rows and series, and a description of it, in one transaction.

        Raises
        ------
        UsageError
            A row would be too long to be read.
        """
        for reason in self.finish_many([(key, rows, series, description or {})]).values():
            raise UsageError(f"a result cannot be stored in {self.path}: {reason}; give shorter options")

    def finish_many(self, cells: Iterable[tuple[str, list[Row], Arrays, dict[str, Any]]]) -> dict[str, str]:
        """Write several cells, with their descriptions, in one transaction: all of them or, if it fails, none.

        Returns
        -------
        By key of the cells that were left out, the reason: a row would be too long to be read.
        """
        left_out = {}
        with self._write() as totals:
            for key, rows, series, description in cells:
                about = json.dumps(description, sort_keys=True)
                try:
                    self._put(totals, key, rows, series, description=about, finished=rows[0]["finished"])
                except TooLong as error:
                    left_out[key] = str(error)
        return left_out

    def forget(self, key: str) -> None:
        """Remove what the store holds of a cell."""
        with self._write() as totals:
            known = self._entry(key)
            if known is not None:
                totals.drop(known)
            for table in ("rows", "series"):
                self._db.execute(f"DELETE FROM {table} WHERE cell_key = ?", (key,))

    def add_timing(self, timed: Iterable[tuple[str, list[Row], Arrays]]) -> None:
        """Replace the rows of cells by rows with timing columns, and add the timing rounds."""
        with self._write() as totals:
            for key, rows, series in timed:
                with suppress(TooLong):  # by a few characters, and it is stored without times
                    self._put(totals, key, rows, series)

    def put_series(self, key: str, series: Arrays) -> None:
        """Add arrays to a cell, or under a key of their own, such as the reference workload of a timing run."""
        with self._write() as totals:
            self._put(totals, key, None, series)

    def add(self, contents: Iterable[Contents]) -> None:
        """Write what another store holds of keys that this one does not have, in one transaction."""
        with self._write() as totals:
            for entry, rows, series in contents:
                self._put_rows(entry.key, rows, 0)
                self._put_series(entry.key, series)
                totals.put(None, entry.holding(rows, series))

    def _put(self, totals: Totals, key: str, rows: list[Row] | None, series: Arrays, **columns: Any) -> None:
        known = self._entry(key)
        entry = (known or Entry(key))._replace(**columns)
        if rows is not None:
            texts = [to_json(row) for row in rows]
            longest = max(map(len, texts), default=0)
            if longest > MOST_ROW_CHARACTERS:
                raise TooLong(f"its row has {longest:,} characters, more than {MOST_ROW_CHARACTERS:,}")
            self._put_rows(key, texts, entry.rows)
            entry = entry.holding(rows=texts)
        if series:
            earlier = self._series(entry) if entry.series else {}
            data = {name: np.asarray(a, dtype="<f8").tobytes() for name, a in series.items()}
            self._put_series(key, data)
            entry = entry.holding(series=earlier | data)
        totals.put(known, entry)

    def _put_rows(self, key: str, texts: list[str], before: int) -> None:
        self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", [(key, *row) for row in enumerate(texts)])
        if before > len(texts):
            self._db.execute("DELETE FROM rows WHERE cell_key = ? AND position >= ?", (key, len(texts)))

    def _put_series(self, key: str, series: Mapping[str, bytes]) -> None:
        found = [(key, name, data) for name, data in series.items()]
        self._db.executemany("INSERT OR REPLACE INTO series VALUES (?, ?, ?)", found)

    # Reading

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written."""
        return not self._db.execute("SELECT 1 FROM cells").fetchone()

    def rows(self, keys: Iterable[str] | None = None) -> list[Row]:
        """Return the rows of the given cells in that order; without keys, of all finished cells, oldest first."""
        if keys is None:
            with opening.refusing(self.path):
                found = self._db.execute("SELECT key FROM cells WHERE finished IS NOT NULL ORDER BY finished, key")
                keys = [key for (key,) in found]
        return [row for key in keys for row in self.rows_of(key)]

    def rows_of(self, key: str) -> list[Row]:
        """Return a cell's rows; empty if it has not been measured.

        Raises
        ------
        UsageError
            They are not as they were written.
        """
        with opening.refusing(self.path):
            entry = self._entry(key)
            return [] if entry is None else [from_json(text) for text in self._rows(entry)]

    def series(self, key: str) -> dict[str, np.ndarray]:
        """Return a cell's arrays, such as `squared_norm:<block>` (64 group means of Q), `seconds` and `latency`.

        Raises
        ------
        UsageError
            They are not as they were written.
        """
        with opening.refusing(self.path):
            entry = self._entry(key)
            found = {} if entry is None else self._series(entry)
            usable = {n: d for n, d in found.items() if len(d) <= MOST_SERIES_BYTES and len(d) % 8 == 0}
            return {name: np.frombuffer(data, dtype="<f8") for name, data in usable.items()}

    def timing_runs(self) -> list[dict[str, np.ndarray]]:
        """Return the shared rounds of every timing run.

        They are the rounds of the reference workload and, per backend, of one cell timed as two (`a:numpy`,
        `again:numpy`).
        """
        with opening.refusing(self.path):
            found = self._db.execute(f"SELECT key FROM ({self._all_keys}) WHERE key LIKE 'timing %'")
            return [self.series(key) for (key,) in found.fetchall()]

    def contents(self) -> Iterator[Contents]:
        """Yield all that the store holds, in the order of keys."""
        with opening.refusing(self.path):
            for (key,) in self._db.execute(f"SELECT key FROM ({self._all_keys}) ORDER BY key"):
                entry = self._entry(key)
                assert entry is not None
                yield Contents(entry, self._rows(entry), self._series(entry))

    @property
    def _all_keys(self) -> str:
        return schema.KEYS_1 if self._version == 1 else "SELECT key FROM cells"

    def _entry(self, key: str) -> Entry | None:
        """Return the entry of a key; in a store of version 1, which has no checksums, as if they agreed."""
        if self._version > 1:
            return entry_of(self._db, self.path, key)
        found = self._db.execute("SELECT key, description, finished FROM cells WHERE key = ?", (key,)).fetchone()
        return Entry(key) if found is None else Entry(*found)

    def _rows(self, entry: Entry) -> list[str]:
        rows = stored_rows(self._db, entry.key)
        if not all(isinstance(text, str) and len(text) <= MOST_ROW_CHARACTERS for text in rows):
            raise ValueError("a row that is no text, or a huge one")
        if self._version > 1 and (len(rows), checksum(rows)) != (entry.rows, entry.rows_checksum):
            raise damaged(self.path, _not_agreeing("rows", len(rows), entry.rows), entry)
        return rows

    def _series(self, entry: Entry) -> dict[str, Any]:
        series = stored_series(self._db, entry.key)
        known = (entry.series, entry.series_checksum)
        if self._version > 1 and (len(series), checksum_of_series(series)) != known:
            raise damaged(self.path, _not_agreeing("series", len(series), entry.series), entry)
        return series


def _not_agreeing(what: str, found: int, stored: int) -> str:
    if found == stored:
        return f"its {what} do not agree with their checksum"
    return f"of its {stored} {what}, {found} are left" if found < stored else f"it has more than its {stored} {what}"
