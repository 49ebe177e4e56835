"""Random corruptions of stores, suites and rows: each is told in one line, or changes nothing.

`python -m tests.sweep.corruption --count 1000 --seed 0` prints how many of each kind were told and how many changed
nothing. Nothing in this project reads an export; its third part are rows as a hostile store may hold them, with
checksums that agree, up to the report's reading of them and the export's text.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import shutil
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.reading import compact, results
from gradmeter.bench.rows import COLUMNS, to_export, to_json
from gradmeter.bench.sweep import suites
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import acts
from tests.report import stores
from tests.sweep.forging import forge

PAGE = 4096
TOLD, HARMLESS, OTHER, WRONG = "told", "harmless", "another suite", "WRONG"

Edit = Callable[[random.Random, bytes], bytes]
Contents = tuple[list[dict[str, Any]], dict[str, dict[str, list[float]]], list[dict[str, list[float]]]]


def flipped_bit(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def random_bytes(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    new = chance.randbytes(min(chance.randrange(1, 200), len(data) - at))
    return data[:at] + new + data[at + len(new) :]


def inserted(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.randrange(1, 200)) + data[at:]


def removed(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.randrange(1, 200) :]


def truncated(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def truncated_to_pages(chance: random.Random, data: bytes) -> bytes:
    return data[: PAGE * chance.randrange(len(data) // PAGE)]


def garbage_appended(chance: random.Random, data: bytes) -> bytes:
    return data + chance.randbytes(chance.choice((1, 100, PAGE, 3 * PAGE)))


def swapped_pages(chance: random.Random, data: bytes) -> bytes:
    pages = _pages(data)
    a, b = chance.sample(range(len(pages)), 2)
    pages[a], pages[b] = pages[b], pages[a]
    return b"".join(pages)


def zeroed_page(chance: random.Random, data: bytes) -> bytes:
    pages = _pages(data)
    pages[chance.randrange(len(pages))] = bytes(PAGE)
    return b"".join(pages)


def duplicated_page(chance: random.Random, data: bytes) -> bytes:
    """A page in the place of another."""
    pages = _pages(data)
    a, b = chance.sample(range(len(pages)), 2)
    pages[a] = pages[b]
    return b"".join(pages)


def lost_page(chance: random.Random, data: bytes) -> bytes:
    pages = _pages(data)
    del pages[chance.randrange(len(pages))]
    return b"".join(pages)


def swapped_lines(chance: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def _pages(data: bytes) -> list[bytes]:
    return [data[at : at + PAGE] for at in range(0, len(data), PAGE)]


TEXT_EDITS: tuple[Edit, ...] = (flipped_bit, random_bytes, inserted, removed, truncated, swapped_lines)
STORE_EDITS: tuple[Edit, ...] = (
    *(flipped_bit, random_bytes, inserted, removed, truncated, truncated_to_pages, garbage_appended),
    *(swapped_pages, zeroed_page, duplicated_page, lost_page),
)


def contents(path: Path) -> Contents:
    """Return all that a store shows: rows, series by key, and timing runs."""
    with Store.read(path) as store:
        rows = store.rows()
        series = {r["cell_key"]: store.series(r["cell_key"]) for r in rows}
        return rows, {key: _listed(each) for key, each in series.items()}, [_listed(r) for r in store.timing_runs()]


def _listed(series: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in series.items()}


def whole_store(path: Path, cells: int = 30) -> Path:
    """Make a store of several pages, which also holds timing runs."""
    about = {"problem": "square", "estimator": "pathwise", "backend": "numpy", "num_samples": 1}
    made = [stores.rows(f"{i:02d}", variance=1.0 + i, finished=f"2026-11-20T10:00:{i:02d}.000") for i in range(cells)]
    with Store.create(path) as store:
        store.finish_many((r[0]["cell_key"], r, stores.series(1.0 + i, own=i), about) for i, r in enumerate(made))
        for run in range(2):
            store.put_series(f"timing {run}", stores.series(own=100 + run))
    return path


def _one_line(error: UsageError) -> str:
    said = str(error)
    return TOLD if said and "\n" not in said and len(said) < 1000 and not any(map(acts, said)) else WRONG


def outcome_of_store(path: Path, known: Contents) -> str:
    """Read a store, then write to a copy of it."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    try:
        outcome = HARMLESS if contents(path) == known else WRONG
    except UsageError as error:
        outcome = _one_line(error)
    if path.stat().st_size == 0:  # for a writer, an empty file is a new store
        return outcome
    try:
        new = stores.rows("new", finished="2026-11-21")
        with Store.create(copy) as store:
            store.finish("new", new, {"squared_norm:all": np.ones(64)})
        rows, series, runs = contents(copy)
        del series["new"]
        written = HARMLESS if (rows[:-2], series, runs) == known and rows[-2:] == new else WRONG
    except UsageError as error:
        written = _one_line(error)
    return WRONG if WRONG in (outcome, written) else outcome


def outcome_of_suite(path: Path, known: suites.Suite, content: dict[str, Any]) -> str:
    try:
        found = suites.load(str(path))
    except UsageError as error:
        return _one_line(error)
    if found.cells == known.cells:
        return HARMLESS
    return OTHER if tomllib.loads(path.read_text(encoding="utf-8")) != content else WRONG


def outcome_of_row(path: Path, text: str) -> str:
    """Read a row that a store holds with a checksum that agrees, as a report and an export do."""
    forge(path, "00", [text])
    try:
        with Store.read(path) as store:
            rows = store.rows()
            found, _ = results.load(store, [results.cleaned(row) for row in rows])
            shown = [str(r[column]) for r in found for column in COLUMNS]
    except UsageError as error:
        return _one_line(error)
    table = [cell for line in compact.lines(rows) for cell in line]
    exported = list(csv.reader(io.StringIO(to_export(rows).to_csv(index=False))))
    texts = [
        cell for line in exported[1:] for (_, kind), cell in zip(COLUMNS.items(), line, strict=True) if kind == "string"
    ]
    unsafe = any(acts(c) for cell in (*shown, *table, *texts) for c in cell)
    return WRONG if unsafe or any(cell.startswith(("=", "+", "-", "@")) for cell in texts) else HARMLESS


def run(count: int, seed: int) -> tuple[Counter[tuple[str, str, str]], list[str]]:
    """Make `count` corruptions of stores, and a quarter as many each of suites and rows.

    Returns
    -------
    How many there were of each (what, kind, outcome), and a sentence on each that is neither told nor harmless.
    """
    table: Counter[tuple[str, str, str]] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        made = whole_store(Path(folder) / "whole.sqlite")
        data, known = made.read_bytes(), contents(made)
        text = files("gradmeter.bench.suites").joinpath("rqmc.toml").read_bytes()
        content = tomllib.loads(text.decode())
        suite = suites.load("rqmc")
        row = to_json({**stores.rows("00")[1], "reason": "=1+1", "machine": "a\u202emachine"}).encode()
        parts: tuple[tuple[str, int, bytes, tuple[Edit, ...], Callable[[Path, bytes], str]], ...] = (
            ("store", count, data, STORE_EDITS, lambda path, _: outcome_of_store(path, known)),
            ("suite", count // 4, text, TEXT_EDITS, lambda path, _: outcome_of_suite(path, suite, content)),
            ("row", count // 4, row, TEXT_EDITS, lambda _, new: outcome_of_row(made, new.decode(errors="replace"))),
        )
        for what, many, original, edits, outcome_of in parts:
            for number in range(many):
                edit = edits[number % len(edits)]
                new = edit(random.Random(f"{seed} {what} {number}"), original)
                with tempfile.TemporaryDirectory(dir=folder) as case:
                    path = Path(case) / "corrupt.toml"
                    path.write_bytes(new)
                    try:
                        outcome = outcome_of(path, new)
                    except Exception as error:
                        outcome = WRONG
                        wrong.append(f"{what} {number} {edit.__name__}: {type(error).__name__}: {error}"[:300])
                    else:
                        wrong += [f"{what} {number} {edit.__name__}: neither told nor harmless"] * (outcome == WRONG)
                    table[what, edit.__name__, outcome] += 1
    return table, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table, wrong = run(given.count, given.seed)
    outcomes = (TOLD, HARMLESS, OTHER, WRONG)
    print(f"{'what':6s} {'kind':20s} " + " ".join(f"{outcome:>14s}" for outcome in outcomes))
    for what, kind in dict.fromkeys((what, kind) for what, kind, _ in table):
        print(f"{what:6s} {kind:20s} " + " ".join(f"{table[what, kind, outcome]:14d}" for outcome in outcomes))
    print(f"{'total':27s} " + " ".join(f"{sum(v for k, v in table.items() if k[2] == o):14d}" for o in outcomes))
    for sentence in wrong:
        print(json.dumps(sentence, ensure_ascii=True))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
