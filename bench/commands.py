"""What the commands do, apart from parsing: plan cells, run them with progress, export, report."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradmeter.bench.cells import NOISES, Cell, check_choice, grid, make_estimator, values_of
from gradmeter.bench.feasibility import foreseen
from gradmeter.bench.files import together, writing
from gradmeter.bench.rows import Row, to_export, to_json
from gradmeter.bench.sweep import suites
from gradmeter.bench.sweep.budget import run_within
from gradmeter.bench.sweep.executors import Executor
from gradmeter.bench.sweep.listener import Listener
from gradmeter.bench.sweep.measuring import FAILED
from gradmeter.bench.sweep.run import sweep
from gradmeter.bench.sweep.splitting import draws_minibatch
from gradmeter.bench.sweep.store import DEFAULT, Store
from gradmeter.bench.terminal import Interrupts, progress
from gradmeter.estimators import BOUNDS, VARIANTS, UsageError, backends
from gradmeter.estimators.aliases import resolve
from gradmeter.estimators.options import effective, parse, spell

Texts = Sequence[str] | None
#: Cells that are run without `--yes`.
MOST_CELLS = 100_000
#: Cells that are shown as a table at the end of a run.
MOST_SHOWN = 10_000
#: Values of a suite that a message lists.
MOST_LISTED = 6


def plan(
    suite: str | None,
    *,
    problem: Texts = None,
    estimator: Texts = None,
    backend: Texts = None,
    device: Texts = None,
    dtype: Texts = None,
    samples: Texts = None,
    seed: Texts = None,
    noise: str | None = None,
    precision: str | None = None,
    bias_bound: str | None = None,
    max_replicates: str | None = None,
    most: int | None = None,
) -> list[Cell]:
    """Return the cells that a `gradmeter run` asks for: those of its own grid, or those of a suite that match.

    Parameters
    ----------
    most
        Number of cells that are planned without being asked for; None for any.

    Raises
    ------
    UsageError
        A wrong name or value, nothing to run, nothing that can run, or more than `most` cells.
    """
    given = {"problem": problem, "estimator": estimator, "backend": backend, "device": device, "dtype": dtype}
    given |= {"samples": samples, "seed": seed}
    axes = {axis: values_of(axis, texts or (), f"--{axis}") for axis, texts in given.items()}
    if noise is not None:
        check_choice("noise", noise, NOISES)
    for name in axes["backend"]:  # asked for by name, so missing is an error and not an n/a row
        reason = backends.missing(name)
        if reason:
            raise UsageError(reason)
    if suite is None and axes["problem"]:
        suites.limit(most, *(values or (None,) for values in axes.values()))
        cells = _grid(axes, noise)
    elif suite is None and axes["estimator"]:
        raise UsageError("--estimator needs a --problem or a SUITE; for example: --problem square")
    else:
        names = {"problem": _bare(problem, "problem"), "estimator": _bare(estimator, "estimator")}
        cells = _matching("quick" if suite is None else suite, axes, names, noise, most)
    cells = suites.with_goals(cells, precision=precision, bias_bound=bias_bound, max_replicates=max_replicates)
    reasons = [foreseen(cell) for cell in cells]
    if all(reasons):
        raise UsageError(str(reasons[0]))
    return cells


def _grid(axes: dict[str, Any], noise: str | None) -> list[Cell]:
    """Return every combination; without estimators, all estimators that apply."""
    cells = []
    for problem in axes["problem"]:
        default = BOUNDS if problem.importance_samples > 1 else VARIANTS
        estimators = axes["estimator"] or [make_estimator(text) for text in default]
        cells += grid(**{**axes, "problem": [problem], "estimator": estimators}, noise=noise or "native")
    return cells if axes["estimator"] else [cell for cell in cells if foreseen(cell) is None] or cells


def _bare(texts: Texts, kind: str) -> set[str]:
    """Return the names that are given without options; an alias may stand for a name with options."""
    parsed = (parse(text, kind) for text in texts or ())
    return {name for name, given in (resolve(*p) if kind == "estimator" else p for p in parsed) if not given}


def _spelled(value: Any) -> str:
    return spell(value.name, effective(value), type(value)) if hasattr(value, "name") else str(value)


def _matching(
    suite: str, axes: dict[str, list[Any]], names: dict[str, set[str]], noise: str | None, most: int | None
) -> list[Cell]:
    """Return the cells of a suite that have, on every axis with wanted values, one of them.

    Parameters
    ----------
    names
        By axis, the names that stand for all options.
    """
    cells = suites.load(suite, most).cells
    for axis, wanted in axes.items():
        name = "num_samples" if axis == "samples" else axis
        values = [getattr(cell, name) for cell in cells]
        known = names.get(axis, ())
        left = [v in wanted or getattr(v, "name", None) in known for v in values] if wanted else [True] * len(cells)
        if not any(left):
            there = list(dict.fromkeys(map(_spelled, values)))
            shown = ", ".join(there[:MOST_LISTED]) + (", …" if len(there) > MOST_LISTED else "")
            raise UsageError(
                f"no cell of suite {suite} is left by --{axis}; options beside a suite choose among its cells, which "
                f"have {shown}"
            )
        cells = [cell for cell, keep in zip(cells, left, strict=True) if keep]
    return cells if noise is None else [replace(cell, noise=noise) for cell in cells]


def splits(suite: str | None, cells: list[Cell]) -> bool:
    """Return whether a suite asks for the parts of a minibatch's variance, and one of these cells has them."""
    return suite is not None and suites.load(suite).minibatch_parts and any(map(draws_minibatch, cells))


def run(
    cells: list[Cell],
    path: Path | None,
    executor: Executor,
    *,
    budget: float | None,
    timing: bool,
    time_again: bool,
    minibatch_parts: bool,
    retry: str | None,
    json: bool,
    suite: str | None = None,
) -> int:
    """Run cells into a store, with progress on standard error, and judge the claims of `suite`; the exit status."""
    if time_again and not timing:
        raise UsageError("--time-again and --no-timing exclude each other; leave one out")
    if minibatch_parts and not any(draws_minibatch(cell) for cell in cells):
        raise UsageError(
            "--minibatch-parts needs a problem that draws a minibatch; for example: "
            "--problem 'logistic-regression[batch=32]'"
        )
    again = [
        check_choice("status to retry", status, FAILED) for status in (retry.split(",") if retry is not None else ())
    ]

    path = DEFAULT if path is None else path
    with suppress(OSError):
        if path.is_file() and path.stat().st_size == 0:
            print(f"gradmeter: {path} was an empty file, so a new store begins there", file=sys.stderr)
    with Store.create(path) as store, Interrupts().heard() as interrupted, executor:
        streaming = json and not timing and budget is None  # otherwise something is filled in later
        with progress(cells, _Rows() if streaming else Listener(), streaming) as listener:
            measure = sweep if budget is None else functools.partial(run_within, budget)
            rows = measure(cells, store, timing, listener, interrupted, executor, time_again, minibatch_parts, again)
        if json and not streaming:
            for found in rows:
                print(to_json(found))
        elif not json and len(cells) > MOST_SHOWN:
            counts = Counter(rows.status.values())
            print(f"{len(rows.status):,} cells: {', '.join(f'{count:,} {s}' for s, count in counts.most_common())}")
        elif not json:
            from gradmeter.bench.progress import show_claims, show_parts, show_table

            show_table(list(rows))
            if minibatch_parts:
                show_parts(rows, store)
            if suite is not None:
                show_claims(suites.load(suite).claims, rows, store)
    if not path.exists():
        raise UsageError(f"store {path} is gone: something removed it while the run wrote it")
    print(f"store: {path}", file=sys.stderr)
    if interrupted():
        print("gradmeter: stopped; finished rows are kept, the same command goes on from there", file=sys.stderr)
        return 130
    return 1 if set(FAILED).intersection(rows.status.values()) else 0


def show_plan(cells: list[Cell], path: Path | None, workers: int, timing: bool) -> None:
    """Print the cells that a run would measure, with the time and the memory to expect."""
    from gradmeter.bench.planning import expected
    from gradmeter.bench.terminal import print_table

    path = DEFAULT if path is None else path
    with Store.read(path) if path.exists() else nullcontext() as store:
        found = expected(cells, store, workers, timing)
    print_table(found.headings, found.lines, found.headings[3:])
    print(found.summary)


class _Rows(Listener):
    """Prints rows as JSON as they come."""

    def cell_finished(self, cell: Cell, rows: list[Row], new: bool) -> None:
        for found in rows:
            print(to_json(found), flush=True)


def export(path: Path | None, format: str, output: Path | None) -> None:
    """Write a store's rows as CSV or Parquet."""
    check_choice("format", format, ("csv", "parquet"))
    if format == "parquet" and output is None:
        raise UsageError("parquet needs --output FILE")
    path = DEFAULT if path is None else path
    with Store.read(path) as store:
        frame = to_export(store.rows(), spreadsheet=format == "csv")
    if output is None:
        frame.to_csv(sys.stdout, index=False)
        return
    write = frame.to_parquet if format == "parquet" else frame.to_csv
    with writing(output):
        if output.exists() and output.samefile(path):
            raise UsageError(f"--output {output} is the store itself; give another file")
        if output.exists() and not output.is_file():  # a device or a pipe is written to, a folder is refused
            write(output, index=False)
            return
        whole = output.resolve()
        with together(whole.parent) as scratch:
            write(scratch / whole.name, index=False)


def report(path: Path | None, output: Path) -> None:
    """Render a store as HTML and Markdown, and say where."""
    from gradmeter.bench.report import write

    with Store.read(DEFAULT if path is None else path) as store:
        print(write(store, output))


def compare(before: Path, after: Path, gates: Sequence[str], json: bool) -> int:
    """Print what changed between two stores; the exit status, 1 if a gate tripped."""
    from gradmeter.bench import comparison

    limits = [comparison.parse_gate(text) for text in gates]
    with Store.read(before) as first, Store.read(after) as second:
        found = comparison.compare(first, second)
    over = comparison.tripped(found, limits)
    if json:
        for change in (*found.cells, *found.backends):
            print(change.as_json)
    else:
        from gradmeter.bench.progress import show_comparison

        show_comparison(found)
    for sentence in (*over, *comparison.unseen(found, limits)):
        print(f"gradmeter: {sentence}", file=sys.stderr)
    return 1 if over else 0


def merge(stores: Sequence[Path], output: Path) -> None:
    """Write the cells of several stores to a new one, and say how many there are."""
    from gradmeter.bench.sweep.store.merging import merge

    with Interrupts().heard() as interrupted:
        merged = merge(stores, output, interrupted)
    shared = f", {merged.shared:,} of them in more than one" if merged.shared else ""
    print(f"{merged.cells:,} cells of {len(stores)} stores{shared}", file=sys.stderr)
    print(f"store: {output}", file=sys.stderr)
