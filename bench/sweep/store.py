"""The result store: one SQLite file, one writer, nothing lost at any kill, nothing executed on loading.

Tables: `cells` (what was planned, how often it was started, whether it ended), `rows` (one JSON object each),
`series` (float64 arrays as bytes: group means of Q, timing rounds). WAL with synchronous=FULL.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.rows import COLUMNS, Row
from estimators import UsageError

SCHEMA = 1
DEFAULT = Path(".gradvar") / "store.sqlite"
MOST_SERIES_BYTES = 2**24

_TABLES = """
CREATE TABLE cells (key TEXT PRIMARY KEY, description TEXT NOT NULL, starts INTEGER NOT NULL DEFAULT 0,
                    finished TEXT) WITHOUT ROWID;
CREATE TABLE rows (cell_key TEXT NOT NULL, position INTEGER NOT NULL, row TEXT NOT NULL,
                   PRIMARY KEY (cell_key, position)) WITHOUT ROWID;
CREATE TABLE series (cell_key TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
                     PRIMARY KEY (cell_key, name)) WITHOUT ROWID;
"""


class DiskFull(OSError):
    """No room to write a result."""


class Store:
    """Open with `Store.create` (the one writer) or `Store.read`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: Any = None) -> None:
        self.path = path
        self._db = connection
        self._lock = lock

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open for writing, making the file if it is not there.

        Raises
        ------
        UsageError
            The path cannot be written, is no store, comes from a newer version, or has another writer.
        """
        import filelock

        made = [folder for folder in reversed(path.parents) if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(f"{path}.lock")
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UsageError(f"store {path} is in use by another run; wait for it, or give another --store") from None
        except OSError as error:
            for folder in reversed(made):  # leave nothing behind
                if folder.exists() and not any(folder.iterdir()):
                    folder.rmdir()
            raise UsageError(
                f"store {path} cannot be written: {error.strerror or error}; give another --store"
            ) from None
        try:
            db = sqlite3.connect(path, isolation_level=None)
            version = _version(db, path)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            if version == 0:
                db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
        except sqlite3.Error as error:
            lock.release()
            raise UsageError(f"store {path} cannot be written: {error}; give another --store") from None
        except UsageError:
            lock.release()
            raise
        return cls(db, path, lock)

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open an existing store for reading.

        Raises
        ------
        UsageError
            There is no such file, it is no store, or a newer version wrote it.
        """
        if not path.is_file():
            raise UsageError(f"there is no store at {path}; make one with: gradvar run --store {path}")
        if not os.access(path, os.R_OK):
            raise UsageError(f"store {path} cannot be read: permission denied")
        try:
            db = sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, isolation_level=None)
            if _version(db, path) == 0:
                raise UsageError(f"{path} is an empty database, not a gradvar store; make one with: gradvar run")
        except sqlite3.Error as error:
            raise UsageError(f"{path} is not a gradvar store: {error}") from None
        return cls(db, path)

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if "full" in str(error) or "disk I/O" in str(error):
                raise DiskFull(f"no room to write {self.path}: {error}") from None
            raise

    # Writing

    def start(self, key: str, description: dict[str, Any]) -> int:
        """Note that a cell is about to be measured; how often that has happened without an end before."""
        with self._write():
            self._db.execute(
                "INSERT INTO cells (key, description) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
                (key, json.dumps(description, sort_keys=True)),
            )
            before = self._db.execute("SELECT starts FROM cells WHERE key = ?", (key,)).fetchone()[0]
            self._db.execute("UPDATE cells SET starts = starts + 1 WHERE key = ?", (key,))
        return int(before)

    def abandon(self, key: str) -> None:
        """A cell was interrupted on purpose: it does not count as started."""
        with self._write():
            self._db.execute("UPDATE cells SET starts = 0 WHERE key = ?", (key,))

    def finish(self, key: str, rows: list[Row], series: dict[str, np.ndarray]) -> None:
        """Write a cell's rows and series, in one transaction."""
        with self._write():
            self._db.execute("UPDATE cells SET starts = 0, finished = ? WHERE key = ?", (rows[0]["finished"], key))
            self._put_rows(key, rows)
            self._put_series(key, series)

    def add_timing(self, timed: Iterable[tuple[str, list[Row], dict[str, np.ndarray]]]) -> None:
        """Replace the rows of cells by ones with timing columns, and add the timing rounds."""
        with self._write():
            for key, rows, series in timed:
                self._put_rows(key, rows)
                self._put_series(key, series)

    def put_series(self, key: str, series: dict[str, np.ndarray]) -> None:
        """Add arrays that belong to no cell, such as the reference workload of a timing run."""
        with self._write():
            self._put_series(key, series)

    def _put_rows(self, key: str, rows: list[Row]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?)",
            [(key, i, json.dumps(row, allow_nan=False)) for i, row in enumerate(rows)],
        )

    def _put_series(self, key: str, series: dict[str, np.ndarray]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO series VALUES (?, ?, ?)",
            [(key, name, np.asarray(a, dtype="<f8").tobytes()) for name, a in series.items()],
        )

    # Reading

    def rows(self, keys: Iterable[str] | None = None) -> list[Row]:
        """Rows of the cells named, in that order; of all finished cells, oldest first, if none are named."""
        if keys is None:
            keys = [
                k
                for (k,) in self._db.execute("SELECT key FROM cells WHERE finished IS NOT NULL ORDER BY finished, key")
            ]
        return [row for key in keys for row in self.rows_of(key)]

    def rows_of(self, key: str) -> list[Row]:
        """A cell's rows; empty if it has not been measured."""
        found = self._db.execute("SELECT row FROM rows WHERE cell_key = ? ORDER BY position", (key,))
        return [_checked(json.loads(text)) for (text,) in found]

    def series(self, key: str) -> dict[str, np.ndarray]:
        """A cell's arrays: `squared_norm:<block>` (64 group means of Q), `seconds`, `latency` (timing rounds)."""
        found = self._db.execute(
            "SELECT name, data FROM series WHERE cell_key = ? AND length(data) <= ?", (key, MOST_SERIES_BYTES)
        )
        return {name: np.frombuffer(data, dtype="<f8") for name, data in found}


def _version(db: sqlite3.Connection, path: Path) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if version > SCHEMA:
        raise UsageError(
            f"store {path} was written by a newer gradvar (schema {version}, this one reads {SCHEMA}); upgrade gradvar"
        )
    if version == 0 and tables:
        raise UsageError(f"{path} is a database of something else, not a gradvar store; give another --store")
    return version


def _checked(row: Any) -> Row:
    """A row from a file: exactly the known columns, whatever the file holds."""
    if not isinstance(row, dict):
        raise UsageError("the store holds a row that is no JSON object; it was not written by gradvar")
    return {name: row.get(name) for name in COLUMNS}
