"""A/A pairs: every call of the small suite is timed as two in the same rounds; the ratio of a pair should be 1."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.measurement.timing import calibrate, interleave, paired_ratio
from gradmeter.bench.performance.calibration.cells import cells

COLUMNS = ("process", "timing", "backend", "problem", "estimator", "what", "ratio", "low", "high")


def path(folder: Path, process: int) -> Path:
    return folder / f"aa-{process:02d}.csv"


def measure(folder: Path, process: int, timings: int) -> None:
    """Time all calls as two, `timings` times, and write one row per pair."""
    from gradmeter.bench.measurement.cost import timed_calls
    from gradmeter.bench.measurement.prepared import prepare

    calls: dict[Any, Any] = {}
    for cell in cells():
        for what, call in zip(("bulk", "latency"), timed_calls(prepare(cell)), strict=True):
            key = (cell.backend, cell.problem.name, cell.estimator.name, what)
            calls[*key, 0] = calls[*key, 1] = (call.run, calibrate(call.run)[0])
    rows = []
    for timing in range(timings):
        rounds = {key: np.asarray(seconds) for key, seconds in interleave(calls).items()}
        for key in (k[:-1] for k in calls if k[-1] == 0):
            rows.append((process, timing, *key, *paired_ratio(rounds[*key, 1], rounds[*key, 0])))
    with path(folder, process).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def measure_apart(folder: Path, process: int, timings: int) -> None:
    """Run `measure` in a new process, unless its file exists."""
    if not path(folder, process).exists():
        arguments = ["pairs", str(process), "--timings", str(timings), "--folder", str(folder)]
        subprocess.run([sys.executable, "-m", "gradmeter.bench.performance.calibration", *arguments], check=True)


def load(folder: Path) -> list[dict[str, str]]:
    """Return all pairs of all processes."""
    found = []
    for each in sorted(folder.glob("aa-*.csv")):
        with each.open(newline="") as file:
            found += list(csv.DictReader(file))
    return found
