"""The result store: one SQLite file with one writer; a kill loses nothing, and loading executes nothing.

Tables: `cells` (what was planned, how often it was started, whether it ended), `rows` (one JSON object each), `series`
(float64 arrays as bytes: group means of Q, timing rounds). WAL with synchronous=FULL while a run writes; one plain file
at rest.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.rows import Row, from_json, to_json
from gradmeter.estimators import UsageError

SCHEMA = 1
DEFAULT = Path(".gradmeter") / "store.sqlite"
MOST_SERIES_BYTES = 2**24
MOST_ROW_CHARACTERS = 2**20

_TABLES = """
CREATE TABLE cells (key TEXT PRIMARY KEY, description TEXT NOT NULL, starts INTEGER NOT NULL DEFAULT 0,
                    finished TEXT) WITHOUT ROWID;
CREATE TABLE rows (cell_key TEXT NOT NULL, position INTEGER NOT NULL, row TEXT NOT NULL,
                   PRIMARY KEY (cell_key, position)) WITHOUT ROWID;
CREATE TABLE series (cell_key TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
                     PRIMARY KEY (cell_key, name)) WITHOUT ROWID;
"""


class DiskFull(OSError):
    """The disk has no room for a result."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOSPC, f"the disk of {path} is full; what was stored before is kept")


class Store:
    """A result store, opened with `Store.create` (the one writer) or `Store.read`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: Any = None) -> None:
        self.path = path
        self._db = connection
        self._lock = lock

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open a store for writing, and create the file if it does not exist. A failure leaves no new files.

        Raises
        ------
        UsageError
            The path cannot be written, is no store, comes from a newer version, or has another writer.
        DiskFull
            There is no room for the file.
        """
        import filelock

        lock = filelock.FileLock(f"{path}.lock")
        with ExitStack() as undo:
            try:
                if path.parent.is_file():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                if path.is_dir():
                    raise UsageError(f"store {path} is a folder; give a file, such as --store {path / DEFAULT.name}")
                for folder in reversed([p for p in path.parents if not p.exists()]):
                    folder.mkdir(exist_ok=True)
                    undo.callback(_remove, folder.rmdir)
                for file in (path, Path(lock.lock_file)):
                    if not file.exists():
                        undo.callback(_remove, file.unlink)
                lock.acquire(timeout=0)
                undo.callback(lock.release)
                db = sqlite3.connect(path, isolation_level=None)
                undo.callback(db.close)
                if _version(db, path) == 0:
                    db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
            except filelock.Timeout:
                if Path(lock.lock_file).exists():
                    undo.pop_all()  # the files belong to the other run
                    raise UsageError(
                        f"store {path} is in use by another run; wait for it, or give another --store"
                    ) from None
                raise UsageError(f"store {path} cannot be written; give another --store") from None
            except (OSError, sqlite3.Error) as error:
                if _is_full(error):
                    raise DiskFull(path) from None
                reason = getattr(error, "strerror", None) or error
                raise UsageError(f"store {path} cannot be written: {reason}; give another --store") from None
            undo.pop_all()
        return cls(db, path, lock)

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open an existing store for reading.

        Raises
        ------
        UsageError
            There is no such file, it is no store, or a newer version wrote it.
        """
        with _refusing(path):
            if path.is_dir():
                raise UsageError(f"{path} is a folder, not a gradmeter store")
            if not path.exists():
                raise UsageError(f"there is no store at {path}; make one with: gradmeter run --store {path}")
            with path.open("rb"):  # raises a clearer error than SQLite: permission denied
                pass
            db = _connect_to_read(path)
            try:
                if _version(db, path) == 0:
                    raise UsageError(
                        f"{path} is an empty database, not a gradmeter store; make one with: gradmeter run"
                    )
            except BaseException:
                db.close()
                raise
        return cls(db, path)

    def close(self) -> None:
        if self._lock is not None:
            with suppress(sqlite3.Error):  # leave a single file, which can be read in a read-only folder too
                self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()
        if self._lock is not None:
            with suppress(OSError):  # before the release: the next writer makes a new lock file
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

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
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if _is_full(error):
                raise DiskFull(self.path) from None
            if isinstance(error, sqlite3.Error):
                raise UsageError(f"store {self.path} cannot be written: {error}") from None
            raise

    # Writing

    def start(self, key: str, description: dict[str, Any]) -> int:
        """Record that a cell is about to be measured; return how often it was started before without an end."""
        with self._write():
            self._db.execute(
                "INSERT INTO cells (key, description) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
                (key, json.dumps(description, sort_keys=True)),
            )
            before = self._db.execute("SELECT starts FROM cells WHERE key = ?", (key,)).fetchone()[0]
            self._db.execute("UPDATE cells SET starts = starts + 1 WHERE key = ?", (key,))
        return int(before)

    def abandon(self, key: str) -> None:
        """Record a deliberate interruption, which does not count as a start."""
        with self._write():
            self._db.execute("UPDATE cells SET starts = 0 WHERE key = ?", (key,))

    def finish(self, key: str, rows: list[Row], series: dict[str, np.ndarray]) -> None:
        """Write a cell's rows and series in one transaction."""
        with self._write():
            self._db.execute("UPDATE cells SET starts = 0, finished = ? WHERE key = ?", (rows[0]["finished"], key))
            self._put_rows(key, rows)
            self._put_series(key, series)

    def finish_many(self, ended: Iterable[tuple[str, dict[str, Any], list[Row], dict[str, np.ndarray]]]) -> None:
        """Write the rows and series of cells, with their descriptions, in one transaction."""
        with self._write():
            for key, description, rows, series in ended:
                self._db.execute(
                    "INSERT INTO cells (key, description, finished) VALUES (?, ?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET finished = excluded.finished",
                    (key, json.dumps(description, sort_keys=True), rows[0]["finished"]),
                )
                self._put_rows(key, rows)
                self._put_series(key, series)

    def forget(self, key: str) -> None:
        """Remove a cell with its rows and series."""
        with self._write():
            for table, column in (("cells", "key"), ("rows", "cell_key"), ("series", "cell_key")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))

    def add_timing(self, timed: Iterable[tuple[str, list[Row], dict[str, np.ndarray]]]) -> None:
        """Replace the rows of cells by rows with timing columns, and add the timing rounds."""
        with self._write():
            for key, rows, series in timed:
                self._put_rows(key, rows)
                self._put_series(key, series)

    def put_series(self, key: str, series: dict[str, np.ndarray]) -> None:
        """Add arrays to a cell, or under a key of their own, such as the reference workload of a timing run."""
        with self._write():
            self._put_series(key, series)

    def _put_rows(self, key: str, rows: list[Row]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?)",
            [(key, i, to_json(row)) for i, row in enumerate(rows)],
        )

    def _put_series(self, key: str, series: dict[str, np.ndarray]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO series VALUES (?, ?, ?)",
            [(key, name, np.asarray(a, dtype="<f8").tobytes()) for name, a in series.items()],
        )

    # Reading

    def rows(self, keys: Iterable[str] | None = None) -> list[Row]:
        """Return the rows of the given cells in that order; without keys, of all finished cells, oldest first."""
        if keys is None:
            with _refusing(self.path):
                found = self._db.execute("SELECT key FROM cells WHERE finished IS NOT NULL ORDER BY finished, key")
                keys = [key for (key,) in found]
        return [row for key in keys for row in self.rows_of(key)]

    def rows_of(self, key: str) -> list[Row]:
        """Return a cell's rows; empty if it has not been measured."""
        with _refusing(self.path):
            found = self._db.execute(
                "SELECT substr(row, 1, ?) FROM rows WHERE cell_key = ? ORDER BY position",
                (MOST_ROW_CHARACTERS + 1, key),
            )
            return [_parsed(text) for (text,) in found]

    def series(self, key: str) -> dict[str, np.ndarray]:
        """Return a cell's arrays, such as `squared_norm:<block>` (64 group means of Q), `seconds` and `latency`."""
        with _refusing(self.path):
            found = self._db.execute(
                "SELECT name, data FROM series WHERE cell_key = ? AND length(data) <= ? AND length(data) % 8 = 0",
                (key, MOST_SERIES_BYTES),
            )
            return {name: np.frombuffer(data, dtype="<f8") for name, data in found}

    def timing_runs(self) -> list[dict[str, np.ndarray]]:
        """Return the shared rounds of every timing run.

        They are the rounds of the reference workload and, per backend, of one cell timed as two (`a:numpy`,
        `again:numpy`).
        """
        with _refusing(self.path):
            found = self._db.execute("SELECT DISTINCT cell_key FROM series WHERE cell_key LIKE 'timing %'")
            return [self.series(key) for (key,) in found.fetchall()]


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn every error about a file that the user named into one line that says what is wrong."""
    try:
        yield
    except UsageError:
        raise
    except sqlite3.Error as error:
        if _is_full(error):
            raise DiskFull(path) from None
        raise UsageError(f"{path} cannot be read as a gradmeter store: {error}") from None
    except OSError as error:
        raise UsageError(f"store {path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"store {path} holds what gradmeter did not write: {error}") from None


def _parsed(text: Any) -> Row:
    if not isinstance(text, str) or len(text) > MOST_ROW_CHARACTERS:
        raise ValueError("a row that is no text, or a huge one")
    return from_json(text)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a database for reading, in a read-only folder too.

    A running or killed run leaves a store in WAL mode, and SQLite then creates files beside it, which a read-only
    folder does not allow. If no rows are left unmerged, the store can be opened without these files.
    """
    address = path.absolute().as_uri() + "?mode=ro"
    db = sqlite3.connect(address, uri=True, isolation_level=None)
    try:
        db.execute("PRAGMA user_version")
        return db
    except sqlite3.OperationalError:
        db.close()
        left = Path(f"{path}-wal")
        if os.access(path.parent, os.W_OK) or (left.exists() and left.stat().st_size > 0):
            raise
    return sqlite3.connect(address + "&immutable=1", uri=True, isolation_level=None)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        return name == "SQLITE_FULL" or name.startswith(("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM"))
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def _remove(remove: Callable[[], None]) -> None:
    with suppress(OSError):  # never created, or by now in use by another process
        remove()


def _version(db: sqlite3.Connection, path: Path) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    found = set(db.execute("SELECT type, name FROM sqlite_master"))
    if version == 0 and not found:
        return 0
    if version > SCHEMA and ("table", "rows") in found:
        raise UsageError(
            f"store {path} was written by a newer gradmeter (schema {version}, this one reads {SCHEMA}); "
            "upgrade gradmeter"
        )
    if version != SCHEMA or found != {("table", name) for name in ("cells", "rows", "series")}:
        raise UsageError(f"{path} is a database of something else, not a gradmeter store; give another --store")
    return version
