"""Kill runs, fits and merges at random moments: `python -m tests.sweep.torture --kills 1000`; exit status 1 on a loss.

A process, one of its workers or both die by SIGKILL, SIGTERM and then SIGKILL, or SIGHUP. After every death the store
must open, hold every row that was printed, and blame no cell; what is resumed to its end must equal what nobody
interrupted, bit by bit. A quarter of the kills come while a process starts; the others wait until it has begun to
write, for most of the time of a process is its start.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradmeter.bench.sweep.store import Store
from tests.cli.running import command, environment, measured, process

CELLS = 24
RUN = (
    *("run", "--problem", "square", "--estimator", "score-function", "--precision", "1e-9", "--max-replicates", "2^16"),
    *("--no-timing", "--json", "--workers", "2", *(f"--seed={seed}" for seed in range(CELLS))),
)
FIT = ("fit", "square[dim=3]", "--estimator", "pathwise", "--steps", "600", "--checkpoint", "20", "--json")
#: Share of kills that come while a process starts, and the longest time until them in seconds.
EARLY, LONGEST_EARLY = 0.25, 1.0
#: By command, the longest time in seconds from the first thing that is written to a kill.
LONGEST = {"run": 0.7, "fit": 0.7, "merge": 0.03}


class Lost(AssertionError):
    """Something that had ended is gone, or differs."""


def require(truth: bool, said: str) -> None:
    if not truth:
        raise Lost(said)


def ordered(rows: list[dict[str, Any]]) -> list[str]:
    """Rows without what two measurements may differ in, in the order of cells."""
    return sorted(json.dumps(row, sort_keys=True) for row in measured(rows))


def children(pid: int) -> list[int]:
    """Return the processes below a process, the deepest last."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found, level = [], [pid]
    while level := [child for each in level for child in below.get(each, [])]:
        found += level
    return found


def changed(folder: Path, pattern: str) -> Callable[[], bool]:
    """Return a function that says whether any of these files was written since now."""

    def state() -> set[tuple[str, int, int]]:
        found = set()
        for path in folder.glob(pattern):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.add((path.name, status.st_ino, status.st_mtime_ns))
        return found

    before = state()
    return lambda: bool(state() - before)


class Killer:
    """Starts processes and kills them at random moments."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()

    def once(
        self, arguments: tuple[str, ...], folder: Path, begun: Callable[[], bool] | None = None
    ) -> tuple[int | None, str]:
        """Run a command and kill it, or one of its workers first; return its status, None if killed, and output.

        Parameters
        ----------
        begun
            Whether it has begun to write; if absent, whether it has printed something.
        """
        path = folder / "out"
        with path.open("w+", encoding="utf-8") as out:
            running = subprocess.Popen(
                command(*arguments), cwd=folder, env=environment(), stdout=out, stderr=subprocess.DEVNULL
            )
            worker = 3 if arguments[0] == "run" else 0  # the others have none
            way = self.random.choices(("kill", "worker", "term", "hup"), (6, worker, 2, 1))[0]
            if self._lives(running, LONGEST[arguments[0]], begun or (lambda: path.stat().st_size > 0)):
                if way == "worker":
                    workers = children(running.pid)
                    if workers:  # the last ones measure; the server and its helpers come first
                        self._signal(workers[self.random.randrange(len(workers))], signal.SIGKILL, "worker")
                    self._ends(running, 60.0)
                elif way == "hup":
                    self._signal(running.pid, signal.SIGHUP, "hup")
                    self._ends(running, 10.0)
                elif way == "term":
                    self._signal(running.pid, signal.SIGTERM, "term")
                    self._ends(running, self.random.uniform(0.0, 0.3))
                if running.poll() is None:
                    self._signal(running.pid, signal.SIGKILL, "kill")
            status = running.wait(timeout=120)
            out.seek(0)
            return (None if status < 0 else status), out.read()

    def _lives(self, running: subprocess.Popen[Any], longest: float, begun: Callable[[], bool]) -> bool:
        """Wait until a random moment; return whether the process is still there."""
        if self.random.random() < EARLY:
            return self._ends(running, self.random.uniform(0.05, LONGEST_EARLY))
        while not begun():
            if not self._ends(running, 0.002):
                return False
        return self._ends(running, self.random.uniform(0.0, longest))

    def _ends(self, running: subprocess.Popen[Any], seconds: float) -> bool:
        """Wait; return whether the process is still there."""
        try:
            running.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _signal(self, pid: int, number: int, name: str) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        self.kills[name] += 1


def run(killer: Killer, folder: Path, whole: list[str]) -> None:
    """Kill a run until it has come to its end."""
    printed: set[str] = set()
    while True:
        status, out = killer.once(RUN, folder)
        printed |= {line for line in out.splitlines(keepends=True) if line.endswith("\n")}
        path = folder / ".gradmeter" / "store.sqlite"
        if not path.exists():
            require(not printed, "rows were printed, and there is no store")
            continue
        try:
            with Store.read(path) as store:
                rows = store.rows()
        except Exception as error:
            if "empty database" in str(error) and not printed:
                continue  # killed before anything was stored
            raise
        stored = {json.dumps(row, sort_keys=True) for row in rows}
        gone = [line for line in printed if json.dumps(json.loads(line), sort_keys=True) not in stored]
        require(not gone, f"{len(gone)} printed rows are not in the store")
        require({row["status"] for row in rows} <= {"ok"}, f"statuses {Counter(row['status'] for row in rows)}")
        if status == 0:
            require(ordered(rows) == whole, "the resumed run differs from the uninterrupted one")
            return


def fit(killer: Killer, folder: Path, whole: list[dict[str, Any]]) -> None:
    """Kill a fit until it has come to its end."""
    checkpoints = folder / "fit" / "checkpoints"
    while True:
        resumable = any(checkpoints.glob("*.npz"))
        status, out = killer.once((*FIT, "--resume") if resumable else FIT, folder, changed(checkpoints, "*.npz"))
        if status == 0:
            require(_fitted(out) == whole, "the resumed fit differs from the uninterrupted one")
            return
        require(status in (None, 130), f"exit status {status}")


def _fitted(out: str) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in json.loads(line).items() if "second" not in k and k != "started"} for line in out.splitlines()
    ]


def merge(killer: Killer, folder: Path, inputs: tuple[Path, Path], whole: list[str]) -> None:
    """Kill a merge until it has come to its end; its inputs stay as they are, and there is no half of an output."""
    output = folder / "merged.sqlite"
    before = [path.read_bytes() for path in inputs]
    while not output.exists():
        killer.once(
            ("merge", *map(str, inputs), "--output", str(output)), folder, changed(folder, f".{output.name}.merging")
        )
        require([path.read_bytes() for path in inputs] == before, "an input of the merge has changed")
    with Store.read(output) as store:
        require(ordered(store.rows()) == whole, "the merged store differs from its inputs")


def torture(
    kills: int, seed: int, parts: tuple[str, ...] = ("run", "fit", "merge"), say: Callable[[str], None] = print
) -> int:
    """Kill until so many processes were killed; return how many losses there were."""
    killer, losses = Killer(seed), 0
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "whole").mkdir()
        result = process(*RUN, cwd=top / "whole")
        require(result.status == 0, result.err)
        whole = ordered(result.rows)
        fitted = _fitted(process(*FIT, cwd=top / "whole").out) if "fit" in parts else []
        store = top / "whole" / ".gradmeter" / "store.sqlite"
        halves = (top / "a.sqlite", top / "b.sqlite")
        for path in halves if "merge" in parts else ():
            shutil.copy(store, path)
        lives: dict[str, Callable[[Path], None]] = {
            "run": lambda folder: run(killer, folder, whole),
            "fit": lambda folder: fit(killer, folder, fitted),
            "merge": lambda folder: merge(killer, folder, halves, whole),
        }
        begun = time.monotonic()
        told = 0
        for number in itertools.count():
            if killer.kills.total() >= kills:
                break
            if killer.kills.total() // 100 > told:
                told = killer.kills.total() // 100
                say(f"{killer.kills.total():,} kills, {losses} losses")
            part = parts[number % len(parts)]
            folder = top / f"{number}"
            folder.mkdir()
            try:
                lives[part](folder)
            except Lost as lost:
                losses += 1
                say(f"{part}: {lost}")
            shutil.rmtree(folder, ignore_errors=True)
    counts = ", ".join(f"{count:,} by {name}" for name, count in killer.kills.most_common())
    say(f"{killer.kills.total():,} kills ({counts}), {losses} losses, {time.monotonic() - begun:.0f} s")
    return losses


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="run,fit,merge")
    given = parser.parse_args()
    return 1 if torture(given.kills, given.seed, tuple(given.only.split(","))) else 0


if __name__ == "__main__":
    sys.exit(main())
