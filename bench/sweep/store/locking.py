"""The lock of a store's one writer, which follows the file and not its name."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import filelock

if sys.platform != "win32":
    import fcntl

#: A byte of the database file beyond all that SQLite locks, which end at 1 GiB + 512.
_BYTE = 2**62
#: Device and number of the files that this process has locked; locks of POSIX do not exclude their own process.
_held: set[tuple[int, int]] = set()


class InUse(Exception):
    """Another run has the lock."""


class Lock:
    """A lock on a file by all its names.

    A lock file beside the file that the path leads to works everywhere, and for symbolic and relative names. A hard
    link in another folder has another lock file there, so a byte of the file itself is locked, too. flock would not
    do: over NFS it locks all bytes of the file, which include those that SQLite locks.

    Parameters
    ----------
    path : the file, with symbolic links resolved; it is made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.beside = Path(f"{path}.lock")
        self._lock = filelock.FileLock(self.beside)
        self._file: int | None = None
        self._identity = (0, 0)

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        InUse
            Another run has it.
        OSError
            The file, or the lock file, cannot be written.
        """
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            if self.beside.exists():
                raise InUse from None
            raise PermissionError("its folder takes no lock file") from None
        try:
            self._lock_byte()
        except BaseException:
            self.release()
            raise

    def _lock_byte(self) -> None:
        if sys.platform == "win32":  # where a hard link in another folder has a lock of its own
            return
        # First, since closing any handle of a file gives up all locks that this process has on it.
        if self._path.exists() and _identity(self._path.stat()) in _held:
            raise InUse
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _BYTE)
        except OSError as error:
            os.close(file)
            raise InUse from error
        self._file, self._identity = file, _identity(os.fstat(file))
        _held.add(self._identity)

    def release(self) -> None:
        """Give the lock up, after the database was closed."""
        if self._file is not None:
            os.close(self._file)
            _held.discard(self._identity)
            self._file = None
        if self._lock.is_locked:
            with suppress(OSError):  # before the release: the next writer makes a new lock file
                self.beside.unlink(missing_ok=True)
            self._lock.release()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
