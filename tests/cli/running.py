"""Running the command line: inside this process, and as a process of its own that can be signalled and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gradmeter
from gradmeter.bench import cli

#: The cheapest cell there is, and what it takes to leave it at that.
CHEAP = ("--max-replicates", "4096", "--no-timing")
CELL = ("--problem", "square", "--estimator", "pathwise", *CHEAP)

#: Options that say where cells are measured.
PLACES = {"--workers", "--scheduler", "--dask-local", "--in-process", "--cell-timeout", "--cell-memory", "--help"}

#: Columns that tell when a row was measured, and at which commit, not what.
WHEN = ("started", "finished", "code_version")


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run_cli(*arguments)` runs `gradmeter` in an empty folder, in this process; also the cells, to save time."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        capfd.readouterr()
        if arguments[:1] == ("run",) and not PLACES.intersection(arguments):
            arguments = ("run", "--in-process", *arguments[1:])
        status = cli.main(arguments)
        return Result(status, *capfd.readouterr())

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gradmeter", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(gradmeter.__file__).parents[1]), "TERM": "xterm"}


def process(*arguments: str, cwd: Path, **options: Any) -> Result:
    """`gradmeter` as a process of its own, to its end."""
    done = subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, encoding="utf-8", timeout=120, **options
    )
    return Result(done.returncode, done.stdout, done.stderr)


def measured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what two measurements of the same cell may differ in."""
    return [{name: value for name, value in row.items() if name not in WHEN} for row in rows]
