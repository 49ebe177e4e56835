"""Measure every peer's bias and variance with gradmeter's own statistics, then time each task in interleaved rounds."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell, StoppingCriteria
from gradmeter.bench.measurement import cost
from gradmeter.bench.measurement.analyses import NOT_OURS, Measurement, measure_source
from gradmeter.bench.measurement.stream import NonFinite
from gradmeter.bench.measurement.verdict import Evidence
from gradmeter.bench.performance.peers.harness import contender
from gradmeter.bench.performance.peers.harness.process import PeerFailure, PeerProcess
from gradmeter.bench.performance.peers.harness.tasks import Task
from gradmeter.bench.reading.peers import PEERS, Peer
from gradmeter.bench.rows import ALL, Row, row
from gradmeter.bench.sources import source_hash
from gradmeter.bench.sweep import environment
from gradmeter.bench.sweep.measuring import now
from gradmeter.bench.sweep.run import run as run_cells
from gradmeter.bench.sweep.store import Store

#: Returns the interpreter of a peer; raises PeerFailure where its environment cannot be made.
Python = Callable[[Peer], Path]


@dataclass(frozen=True)
class PeerCell:
    """A cell whose estimates come from another library."""

    task: Task
    peer: Peer

    @functools.cached_property
    def ours(self) -> Cell:
        """The cell of gradmeter that it is compared with."""
        return self.task.cell(self.peer.framework)

    @functools.cached_property
    def replicates(self) -> int:
        return contender.most_replicates(self.task, self.peer, self.ours.problem.dimension)

    def description(self) -> dict[str, Any]:
        return {**self.ours.description(), "backend": self.peer.name}

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of the description, the replicates, the measuring sources, the adapter and its requirements."""
        files = [self.peer.path, *Path(__file__).parent.glob("*.py"), *filter(None, [self.peer.requirements])]
        sources = [source_hash(), *(hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files))]
        described = {**self.description(), "replicates": self.replicates, "sources": sources}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def measure(cell: PeerCell, process: PeerProcess) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Return a peer's rows and series, untimed. Only interrupts are raised: a failure becomes a row with its status."""
    started, ours = now(), cell.ours
    versions: dict[str, str] = {}
    try:
        versions = process.ask("prepare", task=contender.message(ours, cell.peer))["versions"]
        found: Measurement = measure_source(
            contender.source(process, ours, cell.replicates),
            ours.problem.exact(),
            StoppingCriteria(max_replicates=cell.replicates),
            Evidence(rare=ours.problem.family.discrete, assumption=NOT_OURS),
        )
    except PeerFailure as error:
        return failed(cell, error.status, error.reason, started, versions), {}
    except NonFinite as error:
        return failed(cell, "nonfinite", str(error), started, versions), {}
    except Exception as error:  # a faulty peer must not stop the others
        return failed(cell, "exception", f"{type(error).__name__}: {error}", started, versions), {}
    common = {**_common(cell, started, versions), "replicates": found.replicates, "status": "ok", "threads": 1}
    rows = [row(**common, **columns, block=block) for block, columns in found.blocks.items()]
    return rows, {f"squared_norm:{block}": values for block, values in found.squared_norms.items()}


def failed(cell: PeerCell, status: str, reason: str, started: str, versions: dict[str, str]) -> list[Row]:
    """Return the rows of a peer that could not be measured."""
    common = _common(cell, started, versions)
    blocks = (*cell.ours.problem.blocks, ALL)
    return [row(**common, block=block, status=status, reason=reason) for block in blocks]


def _common(cell: PeerCell, started: str, versions: dict[str, str]) -> dict[str, Any]:
    return {
        **cell.description(),
        "versions": versions,
        "machine": environment.machine(),
        "code_version": environment.code_version(),
        "cell_key": cell.key,
        "started": started,
        "finished": now(),
    }


def run(
    tasks: Iterable[Task],
    store: Store,
    python: Python,
    peers: Mapping[str, Peer] = PEERS,
    say: Callable[[str], None] = lambda text: print(f"peers: {text}", file=sys.stderr, flush=True),
    deadline: float = 120.0,
) -> list[Row]:
    """Measure and time what the store does not have yet; return the rows of the peers and of gradmeter.

    Parameters
    ----------
    tasks
        Tasks, each timed by itself with all of its contenders in the same rounds.
    store
        Where results are kept.
    python
        Finds or makes the environment of a peer.
    peers
        The peers by name.
    say
        Called with each line of progress.
    deadline
        Seconds that a peer may take for one answer.
    """
    processes: dict[str, PeerProcess] = {}
    refused: dict[str, PeerFailure] = {}
    found: list[Row] = []
    try:
        for task in tasks:
            for name in task.peers:
                if name in processes or name in refused:
                    continue
                try:
                    processes[name] = PeerProcess(python(peers[name]), peers[name].path, deadline)
                except PeerFailure as error:
                    refused[name] = error
                    say(f"{name}: {error.reason}")
            cells = [PeerCell(task, peers[name]) for name in task.peers]
            found += _run_task(task, cells, store, processes, refused, say)
    finally:
        for process in processes.values():
            process.close()
    return found


def _run_task(
    task: Task,
    cells: list[PeerCell],
    store: Store,
    processes: dict[str, PeerProcess],
    refused: dict[str, PeerFailure],
    say: Callable[[str], None],
) -> list[Row]:
    ours = list(dict.fromkeys(cell.ours for cell in cells))
    run_cells(ours, store, timing=False)
    rows = {own.key: store.rows_of(own.key) for own in ours}
    for cell in cells:
        known = store.rows_of(cell.key)
        if not known or known[0]["status"] != "ok":  # a failure may have been that of the environment
            series: dict[str, np.ndarray] = {}
            if cell.peer.name in refused:
                error = refused[cell.peer.name]
                known = failed(cell, error.status, error.reason, now(), {})
            else:
                known, series = measure(cell, processes[cell.peer.name])
            store.finish(cell.key, known, series, cell.description())
            last = known[-1]
            say(f"{task.name}: {cell.peer.name}: {last['verdict'] or last['status']} {last['reason'] or ''}".rstrip())
        rows[cell.key] = known
    timed = {key: r for key, r in rows.items() if r[0]["status"] == "ok"}
    if any(r[0]["seconds"] is None for r in timed.values()):
        rows |= _time(task, cells, ours, timed, store, processes)
        say(f"{task.name}: timed {len(timed)} in interleaved rounds")
    return [r for each in rows.values() for r in each]


def _time(
    task: Task,
    cells: list[PeerCell],
    ours: list[Cell],
    rows: dict[str, list[Row]],
    store: Store,
    processes: dict[str, PeerProcess],
) -> dict[str, list[Row]]:
    """Time all contenders, even if only one lacks its time: ratios need the same rounds."""
    contenders = cost.Contenders()
    for own in ours:
        if own.key in rows:
            contenders.add(own.key, cost.contender(own))
    for cell in cells:
        if cell.key in rows:
            calls = functools.partial(contender.timed_calls, processes[cell.peer.name], cell.ours, task, cell.peer)
            contenders.add(cell.key, cost.Contender(lambda calls=calls: [calls()]))  # type: ignore[misc]
    costs, shared = cost.time_calls(contenders)
    new: list[tuple[str, list[Row], dict[str, np.ndarray]]] = []
    for key, found in costs.items():
        if isinstance(found, str):
            rows[key] = [{**r, "reason": found} for r in rows[key]]
            new.append((key, rows[key], {}))
            continue
        rows[key] = [{**r, **found.columns(r["variance"])} for r in rows[key]]
        new.append((key, rows[key], found.series))
    store.add_timing(new)
    store.put_series(f"timing {now()}", shared)
    return rows
