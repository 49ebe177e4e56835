"""The output folder of a fit: rows as they are logged, then the table, parameters, page and figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from gradmeter.bench.files import together, writing
from gradmeter.bench.fit import page
from gradmeter.bench.fit.rows import COLUMNS
from gradmeter.bench.fit.run import Fit
from gradmeter.bench.rows import Row, to_export, to_json

ROWS = "rows.jsonl"


class Output:
    """The output of a fit; rows are flushed when logged, so that none is lost however the process ends."""

    def __init__(self, folder: Path, rows: IO[str]) -> None:
        self.folder, self._rows = folder, rows

    def add(self, found: Row) -> None:
        """Append a row."""
        self._rows.write(to_json(found) + "\n")
        self._rows.flush()

    def finish(self, fits: dict[str, Fit], command: str) -> Path:
        """Write everything but the rows, moved into place once complete; return the page's path.

        Parameters are saved as .npz files, one array per parameter block.
        """
        files = _files(fits)
        rows = [r for fit in fits.values() for r in fit.rows]
        composed = page.compose(fits, command, files)
        texts = {
            "rows.csv": to_export(rows, COLUMNS).to_csv(index=False, lineterminator="\n"),
            "index.html": page.render(composed),
            **{f"{name}.svg": svg for name, svg in page.pictures(composed).items()},
        }
        with together(self.folder) as scratch:
            for name, text in texts.items():
                (scratch / name).write_text(text, encoding="utf-8", errors="replace", newline="\n")
            for name, file in files.items():
                with (scratch / file).open("wb") as stream:
                    np.savez(stream, **{block: np.asarray(a) for block, a in fits[name].parameters.items()})  # type: ignore[arg-type]
        return self.folder / "index.html"


def _files(fits: dict[str, Fit]) -> dict[str, str]:
    """Return a file name for the parameters of each fit that has any."""
    found: dict[str, str] = {}
    for name, fit in fits.items():
        if fit.parameters:
            stem = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
            found[name] = f"{stem}.npz" if f"{stem}.npz" not in found.values() else f"{stem}-{len(found)}.npz"
    return found


@contextmanager
def opened(folder: Path) -> Iterator[Output]:
    """Open the output folder, creating it if necessary.

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        rows = (folder / ROWS).open("w", encoding="utf-8", newline="\n")
    with rows:
        yield Output(folder, rows)
