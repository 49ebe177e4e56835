"""The lock of a store's one writer, which follows the file and not its name."""

from __future__ import annotations

import errno
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

import filelock

#: A byte of the database file beyond all that SQLite locks, which end at 1 GiB + 512.
_BYTE = 2**62
#: Device and number of the files whose byte this process has locked.
_held: set[tuple[int, int]] = set()


class InUse(Exception):
    """Another run has the lock."""


class Lock:
    """A lock on a file by all its names.

    A lock file beside the file that the path leads to works everywhere, for symbolic links and relative paths too. A
    hard link in another folder has another lock file there, so on Linux a byte of the file itself is locked as well, by
    a lock of the open file. A lock of the process would not do, for SQLite unlocks all bytes of a file at once; nor
    would flock, which over NFS locks all of them.

    Parameters
    ----------
    path
        The file, with symbolic links resolved; it is made if it does not exist.
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
            raise PermissionError(errno.EACCES, "no lock file can be made beside it") from None
        try:
            self._lock_byte()
        except BaseException:
            self.release()
            raise

    def _lock_byte(self) -> None:
        if sys.platform != "linux" or sys.maxsize < 2**32:
            return
        import fcntl

        # Not opened then, since closing it would give up the locks that SQLite has on the file in this process.
        if self._path.exists() and _identity(self._path.stat()) in _held:
            raise InUse
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)  # struct flock
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, asked)
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise InUse from None
            return  # a file system without such locks
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
