"""Merging stores: the cells of several, in a new file that appears whole or not at all."""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradmeter.bench.files import writing
from gradmeter.bench.rows import COLUMNS, Row, from_json, to_json
from gradmeter.bench.sweep.store import opening
from gradmeter.bench.sweep.store.entries import Contents, Entry
from gradmeter.bench.sweep.store.store import Store
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import short

#: Cells that are written in one transaction, and held in memory.
BATCH = 200
#: Columns that timing fills in, and series with one number a round.
TIMING = (
    *("seconds", "seconds_low", "seconds_high", "latency", "latency_low", "latency_high"),
    *("compile_seconds", "device_seconds", "peak_memory", "work_normalised_variance"),
)
ROUNDS = ("seconds", "latency", "reference", "process", "device_seconds")
#: Columns that say where and when, in which two measurements of the same numbers differ.
_WHERE = ("versions", "threads", "machine", "device_state", "code_version", "started", "finished")


class Merged(NamedTuple):
    """How many finished cells a merged store has, and how many of them were in more than one store."""

    cells: int
    shared: int


class _Source(NamedTuple):
    """What a store holds of one key."""

    path: Path
    contents: Contents

    @property
    def entry(self) -> Entry:
        return self.contents.entry


def merge(inputs: Sequence[Path], output: Path, stop: Callable[[], bool] = lambda: False) -> Merged:
    """Write the cells, rows and series of several stores to a new one.

    A cell that several stores hold with equal statistics is one cell; rounds of timing from different processes on one
    machine are put together. The file is written beside `output` under another name, and renamed at the end.

    Parameters
    ----------
    inputs
        At least two stores.
    output
        Path of the new store.
    stop
        Called between batches of cells; if it returns true, nothing is merged.

    Raises
    ------
    UsageError
        There are fewer than two stores, one cannot be read, `output` exists or cannot be written, or a cell has
        different rows in two stores.
    KeyboardInterrupt
        `stop` returned true.
    """
    if len(inputs) < 2:
        raise UsageError("merge needs two stores or more; for example: gradmeter merge a.sqlite b.sqlite --output c")
    _check_new(output)
    with writing(output):
        if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
            raise OSError(f"its folder {'is read-only' if output.parent.is_dir() else 'does not exist'}")
    cells = shared = 0
    with ExitStack() as opened:
        stores = [opened.enter_context(Store.read(path)) for path in inputs]
        joined = _joined(stores)
        with _appearing(output) as new:
            while batch := list(itertools.islice(joined, BATCH)):
                if stop():
                    raise KeyboardInterrupt
                new.add(contents for contents, _ in batch)
                finished = [several for contents, several in batch if contents.entry.finished is not None]
                cells, shared = cells + len(finished), shared + sum(finished)
    return Merged(cells, shared)


def _check_new(output: Path) -> None:
    if output.exists() or output.is_symlink():
        raise UsageError(f"--output {output} exists already; give a new file")


@contextmanager
def _appearing(output: Path) -> Iterator[Store]:
    """Provide an empty store that becomes `output` at the end; if anything fails, its file is removed.

    Its name is always the same, so that what a killed merge left is removed by the next one.
    """
    scratch = output.with_name(f".{output.name}.merging")
    store = Store.create(scratch)  # and no other merge can use the file
    if not store.empty:
        store.close()
        _remove(scratch)
        store = Store.create(scratch)
    try:
        with store:
            yield store
        _check_new(output)
        with writing(output):
            if Path(f"{scratch}-wal").exists():
                raise OSError(
                    f"{scratch.name}-wal could not be brought into it; is the disk full, or does anybody read it?"
                )
            scratch.rename(output)
            _settle(output.parent)
    except BaseException:
        _remove(scratch)
        raise


def _remove(scratch: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{scratch}{suffix}").unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Write a folder's new entry to the disk, where the system can."""
    with suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _joined(stores: Sequence[Store]) -> Iterator[tuple[Contents, bool]]:
    """Yield what the stores hold, in the order of keys, and whether more than one of them holds it."""

    def keyed(number: int, store: Store) -> Iterator[tuple[str, int, _Source]]:
        for contents in store.contents():
            yield contents.entry.key, number, _Source(store.path, contents)

    streams = itertools.starmap(keyed, enumerate(stores))
    every = heapq.merge(*streams, key=operator.itemgetter(0, 1))
    for key, group in itertools.groupby(every, key=operator.itemgetter(0)):
        sources = [source for _, _, source in group]
        if key.startswith("timing "):  # runs on two machines that ended in the same millisecond are two runs
            yield from ((contents, False) for contents in _distinct([source.contents for source in sources]))
        else:
            yield functools.reduce(_join, sources).contents, len(sources) > 1


def _distinct(runs: list[Contents]) -> Iterator[Contents]:
    """Yield different timing runs of one key, each but the first with a number after the key."""
    different: list[Contents] = []
    for run in runs:
        if run.series not in [other.series for other in different]:
            different.append(run)
    for number, run in enumerate(different):
        suffix = f" {number}" if number else ""
        yield run._replace(entry=run.entry._replace(key=f"{run.entry.key}{suffix}"))


def _join(a: _Source, b: _Source) -> _Source:
    """Return what two stores hold of one key as one: the earlier rows, with the timing of both.

    Raises
    ------
    UsageError
        They hold different results.
    """
    if _measured(a) != _measured(b):
        return a if _measured(a) else b
    if a.contents[1:] == b.contents[1:]:
        return a
    if (b.entry.finished or "") < (a.entry.finished or ""):
        a, b = b, a
    earlier, later = _parsed(a), _parsed(b)
    _check_same(a, b, earlier, later)
    series = {**b.contents.series, **a.contents.series}
    if _timed(earlier) and _timed(later) and _timing(a, earlier) != _timing(b, later):
        rows, rounds = _timed_twice(a, b, earlier, later)
        series = {name: data for name, data in series.items() if name not in ROUNDS}
        return _Source(a.path, Contents(a.entry, [to_json(row) for row in rows], series | rounds))
    kept = b if _timed(later) and not _timed(earlier) else a
    return kept._replace(contents=kept.contents._replace(series=series | _rounds(kept)))


def _measured(source: _Source) -> bool:
    return bool(source.contents.rows or source.contents.series)


def _parsed(source: _Source) -> list[Row]:
    with opening.refusing(source.path):
        return [from_json(text) for text in source.contents.rows]


def _timed(rows: list[Row]) -> bool:
    return any(row[column] is not None for row in rows for column in TIMING)


def _rounds(source: _Source) -> dict[str, bytes]:
    return {name: data for name, data in source.contents.series.items() if name in ROUNDS}


def _timing(source: _Source, rows: list[Row]) -> tuple[dict[str, bytes], list[list[float | None]]]:
    return _rounds(source), [[row[column] for column in TIMING] for row in rows]


def _check_same(a: _Source, b: _Source, earlier: list[Row], later: list[Row]) -> None:
    """Check that two measurements of one cell agree in all but timing, and in where and when they were made."""
    if [row["block"] for row in earlier] != [row["block"] for row in later]:
        raise _conflict(a, b, "different parameter blocks")
    for x, y in zip(earlier, later, strict=True):
        for failed, source in ((x, a), (y, b)):
            if x["status"] != y["status"] and failed["status"] not in ("ok", "n/a"):
                again = f"or measure the cell again: --retry {failed['status']} --store {source.path}"
                raise _conflict(a, b, f"status {x['status']}", y["status"], remedy=again)
        ignored = {*TIMING, *_WHERE, *(["reason"] if x["status"] == y["status"] == "ok" else [])}
        for column in COLUMNS:
            if column not in ignored and x[column] != y[column]:
                raise _conflict(a, b, f"{column} {short(x[column])}", short(y[column]), f" for {short(x['block'])}")
    for name in sorted(a.contents.series.keys() & b.contents.series.keys() - set(ROUNDS)):
        if a.contents.series[name] != b.contents.series[name]:
            raise _conflict(a, b, f"different series {short(name)}")


def _timed_twice(a: _Source, b: _Source, earlier: list[Row], later: list[Row]) -> tuple[list[Row], dict[str, bytes]]:
    """Return the earlier rows with timing columns from the rounds of both stores, and these rounds.

    The rounds of a process that both stores hold count once.
    """
    from gradmeter.bench.measurement.cost import Cost

    for column in ("machine", "threads", "versions"):
        x, y = (_place(rows[0], column) for rows in (earlier, later))
        if x != y:
            raise _conflict(a, b, f"times for {column} {short(x)}", short(y))
    processes: dict[bytes, dict[str, np.ndarray]] = {}
    for source in (a, b):
        for found in _processes(_rounds(source)):
            processes.setdefault(b"".join(values.tobytes() for values in found.values()), found)
    if not processes:
        raise _conflict(a, b, "different times without rounds")
    joined = {
        name: np.concatenate([found[name] for found in processes.values()])
        for name in ("seconds", "latency", "reference", "device_seconds")
        if all(name in found for found in processes.values())
    }
    joined["process"] = np.repeat(np.arange(float(len(processes))), [len(p["seconds"]) for p in processes.values()])
    compiling, memory = (
        later[0][name] if earlier[0][name] is None else earlier[0][name] for name in ("compile_seconds", "peak_memory")
    )
    cost = Cost(compiling, joined, memory)
    rows = [{**row, **cost.columns(row["variance"])} for row in earlier]
    return rows, {name: values.astype("<f8").tobytes() for name, values in joined.items()}


def _place(row: Row, column: str) -> object:
    value = row[column]
    return {k: v for k, v in value.items() if k != "gradmeter"} if isinstance(value, dict) else value


def _processes(rounds: dict[str, bytes]) -> list[dict[str, np.ndarray]]:
    """Return the rounds of each process that timed a cell; empty if they are incomplete."""
    arrays = {name: np.frombuffer(data, dtype="<f8") for name, data in rounds.items() if len(data) % 8 == 0}
    names = ["seconds", "latency", "reference"]
    lengths = {len(values) for values in arrays.values()}
    if len(lengths) != 1 or not all(name in arrays for name in names):
        return []
    names += ["device_seconds"] if "device_seconds" in arrays else []
    process = arrays.get("process", np.zeros(lengths.pop()))
    return [{name: arrays[name][process == number] for name in names} for number in np.unique(process)]


def _conflict(a: _Source, b: _Source, what: str, other: str = "", where: str = "", remedy: str = "") -> UsageError:
    """Return the error for a cell that two stores measured differently."""
    label = f" ({a.entry.label})" if a.entry.label else ""
    told = f"{what} in {a.path} and {other} in {b.path}" if other else f"{what} in {a.path} and {b.path}"
    return UsageError(
        f"cell {short(a.entry.key)}{label} has {told}{where}, so nothing is merged; leave one of the two stores out"
        f"{', ' * bool(remedy)}{remedy} (their differences: gradmeter compare {a.path} {b.path})"
    )
