"""What the commands do, apart from parsing: plan cells, run them with progress, export, report."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.rows import Row, to_frame, to_json
from bench.sweep import suites
from bench.sweep.cells import (
    DTYPES,
    NOISES,
    VARIANTS,
    Cell,
    Goals,
    check_choice,
    grid,
    make_estimator,
    make_problem,
)
from bench.sweep.run import FAILED, Silent
from bench.sweep.run import run as run_cells
from bench.sweep.store import DEFAULT, Store
from estimators import UsageError, backends
from estimators.options import number

Texts = Sequence[str] | None


def plan(
    suite: str | None,
    problem: Texts,
    estimator: Texts,
    backend: Texts,
    device: Texts,
    dtype: Texts,
    samples: Texts,
    seed: Texts,
    precision: str | None,
    bias_bound: str | None,
    max_replicates: str | None,
    noise: str | None,
) -> list[Cell]:
    """The cells that a `gradvar run` asks for.

    Raises
    ------
    UsageError
        A wrong name or value, nothing to run, or nothing that can run.
    """
    problems = [make_problem(text) for text in problem or ()]
    estimators = [make_estimator(text) for text in estimator or ()]
    names = [check_choice("backend", b, backends.NAMES) for b in backend or ()]
    devices = [check_choice("device", d, backends.DEVICES) for d in device or ()]
    dtypes = [check_choice("dtype", d, DTYPES) for d in dtype or ()]
    sizes = [number("--samples", s, int, minimum=1) for s in samples or ()]
    seeds = [number("--seed", s, int, minimum=0) for s in seed or ()]
    check_choice("noise", noise or "native", NOISES)
    goals: dict[str, Any] = {
        "precision": None if precision is None else number("--precision", precision, float, above=0.0),
        "bias_bound": None if bias_bound is None else number("--bias-bound", bias_bound, float, above=0.0),
        "max_replicates": None if max_replicates is None else _count("--max-replicates", max_replicates),
    }
    for name in names:  # asked for by name, so missing is an error and not an n/a row
        reason = backends.missing(name)
        if reason:
            raise UsageError(reason)
    if suite is None and problems:
        cells = grid(
            problems,
            estimators or [make_estimator(text) for text in VARIANTS],
            names or ["numpy"],
            devices or ["cpu"],
            dtypes or ["float64"],
            sizes,
            seeds or [0],
            noise or "native",
            Goals(**{k: v for k, v in goals.items() if v is not None}),
        )
        if not estimators:  # "all that apply": the rest would be noise
            cells = [cell for cell in cells if cell.impossible() is None] or cells
    else:
        if suite is None and estimators:
            raise UsageError("--estimator needs a --problem or a SUITE; for example: --problem square")
        chosen = suites.with_goals(suites.load(suite or "quick").cells, **goals)
        filters: list[tuple[str, list[Any]]] = [
            ("problem", problems),
            ("estimator", estimators),
            ("backend", names),
            ("device", devices),
            ("dtype", dtypes),
            ("num_samples", sizes),
            ("seed", seeds),
            ("noise", [noise] if noise else []),
        ]
        cells = [c for c in chosen if all(not allowed or getattr(c, field) in allowed for field, allowed in filters)]
        if not cells:
            raise UsageError(
                f"no cell of suite {suite or 'quick'} matches these options; gradvar list suites shows them"
            )
    reasons = [cell.impossible() for cell in cells]
    if all(reasons):
        raise UsageError(str(reasons[0]))
    return cells


def _count(what: str, text: str) -> int:
    """A whole number, also as 2^20 or 1e6."""
    base, power, exponent = text.partition("^")
    if power and base.isdigit() and exponent.isdigit() and len(exponent) <= 3:
        text = str(int(base) ** int(exponent))
    elif "e" in text.lower():
        value = number(what, text, float, minimum=1)
        text = str(int(value)) if value == int(value) else text
    return int(number(what, text, int, minimum=1))


def run(cells: list[Cell], path: Path | None, *, timing: bool, json: bool) -> int:
    """Run cells into a store, with progress on standard error; the exit status."""
    from bench.progress import progress

    path = DEFAULT if path is None else path
    with Store.create(path) as store, stop_at_interrupt() as interrupted:
        shown = _Rows(json and not timing)
        with progress(cells, shown) as listener:
            rows = run_cells(cells, store, timing, listener, interrupted)
        if json and timing:
            for found in rows:
                print(to_json(found))
        elif not json:
            from bench.progress import show_table

            show_table(rows)
    print(f"store: {path}", file=sys.stderr)
    if interrupted():
        print("gradvar: stopped; finished rows are kept, the same command goes on from there", file=sys.stderr)
        return 130
    return 1 if any(found["status"] in FAILED for found in rows) else 0


class _Rows(Silent):
    """Prints rows as JSON as they come, where nothing is to be filled in later."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def cell_finished(self, cell: Cell, rows: list[Row], new: bool) -> None:
        if self.wanted:
            for found in rows:
                print(to_json(found), flush=True)


@contextmanager
def stop_at_interrupt() -> Iterator[Any]:
    """The first Ctrl-C asks to stop after the current cell; the second stops at once."""
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("gradvar: finishing the current cell; Ctrl-C again stops at once", file=sys.stderr)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def export(path: Path | None, format: str, output: Path | None) -> None:
    """Write a store's rows as CSV or Parquet."""
    check_choice("format", format, ("csv", "parquet"))
    with Store.read(DEFAULT if path is None else path) as store:
        frame = to_frame(store.rows())
    if format == "parquet" and output is None:
        raise UsageError("parquet needs --output FILE")
    try:
        if format == "parquet":
            frame.to_parquet(output, index=False)
        else:
            frame.to_csv(sys.stdout if output is None else output, index=False)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror or error}") from None


def report(path: Path | None, output: Path) -> None:
    """Render a store as HTML and Markdown, and say where."""
    from bench.report import write

    with Store.read(DEFAULT if path is None else path) as store:
        print(write(store, output))
