"""Checkpoints: all that a fit needs to go on as if it had never stopped, in one file a fit and the one before it.

A file is whole or not there: it is written under another name, brought to disk, and only then put in place. So a
process that is killed at any moment leaves one that can be read. Noise depends on the seed and the iteration alone,
and everything else is in the state, so that what is resumed gives the numbers of what was not interrupted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradmeter.bench import identity
from gradmeter.bench.files import writing
from gradmeter.bench.fit.run import Checkpoint, Plan
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.rows import Row, to_json
from gradmeter.estimators import UsageError

FOLDER = "checkpoints"
_ABOUT = "about"


@dataclass(frozen=True)
class Found:
    """A checkpoint that could be read, and what is to be said of one that could not."""

    checkpoint: Checkpoint
    complaint: str | None


class Checkpoints:
    """Those in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def make(self) -> None:
        """Make the folder, before anything is fitted that could not be kept.

        Raises
        ------
        UsageError
            It cannot be made.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, plan: Plan) -> Path:
        """Of the newest; the same for the same problem, data, method and seed, whatever the number of steps."""
        brought = identity.digest((plan.problem, plan.recipe), "checkpoint of")
        same = [plan.columns(), plan.problem.content(), brought]
        key = hashlib.sha256(json.dumps(same, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
        stem = re.sub(r"[^a-z0-9.]+", "-", plan.recipe.parts()["method"].lower()).strip("-.")
        return self.folder / f"{stem[:80]}-{key}.npz"

    def save(self, plan: Plan, found: Checkpoint) -> None:
        """Write one; the newest before it becomes the previous one."""
        path = self.path(plan)
        scratch = path.with_suffix(".part")
        about = {"iteration": found.iteration, "seconds": found.seconds, "note": found.note, "names": list(found.state)}
        text = json.dumps({**about, "rows": [json.loads(to_json(r)) for r in found.rows]})
        arrays = {str(i): values for i, values in enumerate(found.state.values())}
        with scratch.open("wb") as stream:
            np.savez(stream, **{_ABOUT: np.frombuffer(text.encode(), dtype=np.uint8)}, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            path.replace(previous(path))
        scratch.replace(path)

    def load(self, plan: Plan) -> Found | None:
        """The newest that can be read; None where there never was one.

        Raises
        ------
        UsageError
            There are some, and none can be read.
        """
        path = self.path(plan)
        there = [p for p in (path, previous(path)) if p.exists()]
        broken: list[Path] = []
        for each in there:
            try:
                return Found(_read(each), _complaint(broken))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                broken.append(each)
        if broken:
            what = " and ".join(str(p) for p in broken)
            raise UsageError(f"{what} cannot be read (cut short or damaged); leave out --resume to begin anew")
        return None


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest is."""
    return path.with_suffix(".previous.npz")


def _complaint(broken: Sequence[Path]) -> str | None:
    return f"{broken[0]} cannot be read (cut short or damaged); the one before it is used" if broken else None


def _read(path: Path) -> Checkpoint:
    """Every array's checksum is checked by reading it."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        about = json.loads(bytes(file[_ABOUT]).decode())
        state: Vectors = {name: file[str(i)] for i, name in enumerate(about["names"])}
    rows: list[Row] = about["rows"]
    return Checkpoint(about["iteration"], state, rows, about["seconds"], about["note"])
