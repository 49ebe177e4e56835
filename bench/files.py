"""Output files: all of them or none, and a plain one-line error where they cannot be written."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradmeter.estimators import UsageError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Enclose code that writes to `path`.

    Raises
    ------
    UsageError
        The path cannot be written. A full disk stays an OSError, since another path may be no better.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; give another --output") from None


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """Provide a scratch folder whose files move to `folder` once all are written; none do if anything fails."""
    with tempfile.TemporaryDirectory(prefix=".gradmeter-", dir=folder) as scratch:
        yield Path(scratch)
        for file in sorted(Path(scratch).iterdir()):
            file.replace(folder / file.name)
