"""Checkpoints: the complete state of a fit in one file, plus the checkpoint before it.

Writing is atomic: a file is written under a temporary name, flushed to disk and then renamed. So a process killed at
any moment leaves a readable checkpoint. Noise depends on the seed and the iteration alone and the state holds all else,
so a resumed fit gives the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.files import writing
from gradmeter.bench.fit.run import Checkpoint, Plan
from gradmeter.bench.identity.content import digest
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.rows import Row, to_json
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import short

FOLDER = "checkpoints"
_ABOUT = "about"


@dataclass(frozen=True)
class Found:
    """A checkpoint that could be read, and a message about a newer one that could not."""

    checkpoint: Checkpoint
    complaint: str | None


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def make(self) -> None:
        """Create the folder before any fit starts.

        Raises
        ------
        UsageError
            The folder cannot be created.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, plan: Plan) -> Path:
        """Return the newest checkpoint's path, which depends on problem, data, method and seed, not on the steps."""
        brought = digest((plan.problem, plan.recipe), "checkpoint of")
        same = [plan.columns(), plan.problem.content(), brought]
        key = hashlib.sha256(json.dumps(same, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
        stem = re.sub(r"[^a-z0-9.]+", "-", plan.recipe.parts()["method"].lower()).strip("-.")
        return self.folder / f"{stem[:80]}-{key}.npz"

    def save(self, plan: Plan, found: Checkpoint) -> None:
        """Write a checkpoint; the newest one before it becomes the previous one."""
        path = self.path(plan)
        scratch = path.with_suffix(".part")
        about = {"iteration": found.iteration, "seconds": found.seconds, "note": found.note, "names": list(found.state)}
        text = json.dumps({**about, "fit": plan.columns(), "rows": [json.loads(to_json(r)) for r in found.rows]})
        arrays = {str(i): values for i, values in enumerate(found.state.values())}
        with scratch.open("wb") as stream:
            np.savez(stream, **{_ABOUT: np.frombuffer(text.encode(), dtype=np.uint8)}, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            path.replace(previous(path))
        scratch.replace(path)

    def load(self, plan: Plan) -> Found | None:
        """Return the newest readable checkpoint, or None if there never was one.

        Raises
        ------
        UsageError
            There are checkpoints, but none can be read.
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

    def difference(self, plan: Plan) -> str:
        """Return in which options the most similar fit that has a checkpoint differs; empty if there is none."""
        wanted, found = _flat(plan.columns()), []
        for path in sorted(self.folder.glob("*.npz")):
            with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                other = _flat(_about(path)["fit"])
                found.append([(name, other.get(name)) for name, value in wanted.items() if other.get(name) != value])
        if not found or not min(found, key=len):
            return ""
        said = (f"{name.replace('_', ' ')} {short(value)}" for name, value in min(found, key=len))
        return f", but of one with {' and '.join(said)}"


def _flat(columns: dict[str, Any]) -> dict[str, Any]:
    """Return columns with the options of each as entries of their own."""
    found: dict[str, Any] = {}
    for name, value in columns.items():
        options = value if isinstance(value, dict) else {"": value}
        found |= {f"{name.removesuffix('_options')} {option}".strip(): each for option, each in options.items()}
    return found


def _about(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        about: dict[str, Any] = json.loads(bytes(file[_ABOUT]).decode())
    return about


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the newest one."""
    return path.with_suffix(".previous.npz")


def _complaint(broken: Sequence[Path]) -> str | None:
    return f"{broken[0]} cannot be read (cut short or damaged); the one before it is used" if broken else None


def _read(path: Path) -> Checkpoint:
    """Read a checkpoint; reading an array also verifies its checksum."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        about = json.loads(bytes(file[_ABOUT]).decode())
        state: Vectors = {name: file[str(i)] for i, name in enumerate(about["names"])}
    rows: list[Row] = about["rows"]
    return Checkpoint(about["iteration"], state, rows, about["seconds"], about["note"])
