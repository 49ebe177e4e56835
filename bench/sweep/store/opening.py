"""Opening a store's file to write or to read it, in one line if it cannot be."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gradmeter.bench.sweep.store import log, schema
from gradmeter.bench.sweep.store.entries import check_totals, damaged
from gradmeter.bench.sweep.store.locking import InUse, Lock
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import one_line

DEFAULT = Path(".gradmeter") / "store.sqlite"
#: Seconds that a writer waits for readers of the whole file, such as a report.
PATIENCE = 60.0


class DiskFull(OSError):
    """The disk has no room for a result."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOSPC, f"the disk of {path} is full; what was stored before is kept")


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk is full."""
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        return name == "SQLITE_FULL" or name.startswith(("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHM"))
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn every error about a file that the user named into one line that says what is wrong."""
    try:
        yield
    except UsageError:
        raise
    except sqlite3.Error as error:
        if is_full(error):
            raise DiskFull(path) from None
        raise UsageError(f"{path} cannot be read as a gradmeter store: {one_line(error)}") from None
    except OSError as error:
        raise UsageError(f"store {path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise UsageError(f"store {path} cannot be read: not enough memory; give the process more") from None
    except (ValueError, OverflowError) as error:
        raise UsageError(f"store {path} holds what gradmeter did not write: {one_line(error)}") from None


def to_write(path: Path) -> tuple[sqlite3.Connection, Lock]:
    """Open a store for writing, and create the file if it does not exist. A failure leaves no new files.

    An older store is upgraded, and what a killed run left beside the file is brought into it.
    """
    file = Path(os.path.realpath(path))
    lock = Lock(file)
    with ExitStack() as undo:
        try:
            if file.parent.is_file():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if file.is_dir():
                raise UsageError(f"store {path} is a folder; give a file, such as --store {path / DEFAULT.name}")
            for folder in reversed([p for p in file.parents if not p.exists()]):
                folder.mkdir(exist_ok=True)
                undo.callback(_remove, folder.rmdir)
            for new in (file, lock.beside):
                if not new.exists():
                    undo.callback(_remove, new.unlink)
            lock.acquire()
            undo.callback(lock.release)
            _check_log(file, path)
            db = sqlite3.connect(file, isolation_level=None, timeout=PATIENCE)
            undo.callback(db.close)
            version = schema.version_of(db, path)
            if version == 0:
                schema.create(db)
            else:
                _check_structure(db, path)
            if version == schema.SCHEMA:
                check_totals(db, path)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            if 0 < version < schema.SCHEMA:
                schema.upgrade(db)
        except InUse:
            undo.pop_all()  # the files belong to the other run
            raise UsageError(f"store {path} is in use by another run; wait for it, or give another --store") from None
        except MemoryError:
            raise UsageError(f"store {path} cannot be written: not enough memory") from None
        except (OSError, sqlite3.Error) as error:
            if is_full(error):
                raise DiskFull(path) from None
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise UsageError(f"store {path} is being read by another program; wait for it to end") from None
            reason = getattr(error, "strerror", None) or one_line(error)
            raise UsageError(f"store {path} cannot be written: {reason}; give another --store") from None
        undo.pop_all()
    return db, lock


def _check_structure(db: sqlite3.Connection, path: Path) -> None:
    """Check that pages are used once and as what they are, since a writer would spread the damage."""
    said = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    if said != "ok":
        raise damaged(path, " ".join(said.split()))


def _check_log(file: Path, path: Path) -> None:
    """Check what a killed run left beside a store: SQLite would leave out damaged results, or all, without a word."""
    if _size(log.of(file)) == 0:
        return
    if _size(file) == 0:
        raise damaged(path, f"it is empty, and results that belong to it are in {log.of(path).name}")
    if log.lost(file):
        raise damaged(path, f"results in {log.of(path).name} are not as they were written")


def to_read(path: Path) -> tuple[sqlite3.Connection, int]:
    """Open an existing store for reading, as it is at this moment whatever is written meanwhile; and its version."""
    with refusing(path):
        if path.is_dir():
            raise UsageError(f"{path} is a folder, not a gradmeter store")
        if not path.exists():
            raise UsageError(f"there is no store at {path}; make one with: gradmeter run --store {path}")
        if not os.access(path, os.R_OK):  # a clearer error than SQLite's
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _check_log(Path(os.path.realpath(path)), path)
        db = _connect_to_read(path)
        try:
            version = schema.version_of(db, path)
            if version == 0:
                raise UsageError(f"{path} is an empty database, not a gradmeter store; make one with: gradmeter run")
            if version == schema.SCHEMA:
                check_totals(db, path)
        except BaseException:
            db.close()
            raise
    return db, version


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a database for reading, in a read-only folder too, and begin a transaction there.

    A running or killed run leaves a store in WAL mode, and SQLite then creates files beside it, which a read-only
    folder does not allow. If no rows are left unmerged, the store can be opened without these files. A run that was
    killed while it created or upgraded a store may leave a journal instead, which has to be rolled back in the file.
    """
    file = Path(os.path.realpath(path))
    address = file.as_uri()
    try:
        return _beginning(f"{address}?mode=ro")
    except sqlite3.OperationalError:
        left = [name for suffix in ("-wal", "-journal") if _size(name := Path(f"{file}{suffix}")) > 0]
        if os.access(file.parent, os.W_OK):
            if not left or not os.access(file, os.W_OK):
                raise
            _beginning(f"{address}?mode=rw").close()
            return _beginning(f"{address}?mode=ro")
        if left:
            raise UsageError(
                f"{path} cannot be read: a run that was killed, or still runs, left results in {left[0].name} beside "
                "it, and its folder is read-only; copy both files to a folder of your own"
            ) from None
    return _beginning(f"{address}?mode=ro&immutable=1")


def _beginning(address: str) -> sqlite3.Connection:
    db = sqlite3.connect(address, uri=True, isolation_level=None)
    try:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _remove(remove: Callable[[], None]) -> None:
    with suppress(OSError):  # never created, or by now in use by another process
        remove()
