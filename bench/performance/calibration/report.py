"""The report of a calibration: a Markdown page and two CSV files."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradmeter.bench.cli import main as gradmeter
from gradmeter.bench.comparison import METRICS, WORDS, Change, Comparison, compare, parse_gate, tripped
from gradmeter.bench.comparison.change import CALLED, NINETY_FIVE
from gradmeter.bench.comparison.stores import by_identity
from gradmeter.bench.comparison.times import REFERENCE_SWING, SHARED, SWING, time_ratio
from gradmeter.bench.performance.calibration import aa, runs
from gradmeter.bench.performance.calibration.plants import NOISIER, SLOWER
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError

GATES = ("time:1.1", "time:1.15", "variance:1.02", "variance:1.05")
Lines = list[str]


@dataclass(frozen=True)
class Ratios:
    """Ratios of one metric over many changes: logarithms, their standard errors, and the words."""

    logs: np.ndarray
    errors: np.ndarray
    words: list[str]

    @classmethod
    def of(cls, changes: Iterable[Change], metric: str) -> Ratios:
        known = [(c.word(metric), r) for c in changes if (r := c.ratios.get(metric)) is not None]
        logs = [math.log(r.value) for _, r in known]
        errors = [max(math.log(r.high / r.low) / (2.0 * NINETY_FIVE), 1e-12) for _, r in known]
        return cls(np.array(logs), np.array(errors), [word for word, _ in known])

    def called(self) -> int:
        return sum(word != "same" for word in self.words)

    def line(self) -> Lines:
        """Return number, number called, r.m.s. log, largest ratio, and largest in standard errors, as text."""
        size = np.abs(self.logs)
        return [
            f"{len(size)}",
            f"{self.called()}",
            f"{_percent(np.sqrt(np.mean(self.logs**2)))}",
            f"{np.exp(size.max()):.3f}×",
            f"{(size / self.errors).max():.1f}",
        ]


def _percent(value: float) -> str:
    return f"{100.0 * value:.2f} %"


def _table(headings: Lines, rows: Iterable[Lines]) -> Lines:
    return [f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *rows)] + [""]


def write(folder: Path, output: Path) -> Path:
    """Write `report.md`, `aa.csv` and `compare.csv`; return the path of the page."""
    stores = {kind: sorted(folder.glob(f"{kind}-*.sqlite")) for kind in ("identical", "injected")}
    pairs = aa.load(folder)
    if not pairs or len(stores["identical"]) < 2:
        raise UsageError(
            f"{folder} holds no calibration; first: python -m gradmeter.bench.performance.calibration aa, then compare"
        )
    output.mkdir(parents=True, exist_ok=True)
    consecutive = [(a, b, _compared(a, b)) for a, b in itertools.pairwise(stores["identical"])]
    injected = [(runs.path(folder, "identical", i), b) for i, b in enumerate(stores["injected"])]
    comparisons = [(a, b, _compared(a, b)) for a, b in injected]
    page = [
        "# Calibration of timings",
        "",
        f"{_origin(stores['identical'] + stores['injected'])}. Made by `make calibrate`: "
        "`python -m gradmeter.bench.performance.calibration aa`, `compare`, `report`.",
        "Constants of `gradmeter.bench.comparison`: "
        f"SWING {SWING:g}, REFERENCE_SWING {REFERENCE_SWING:g}, SHARED {SHARED:g}, "
        f"CALLED {CALLED:g}.",
        "",
        *_pairs_section(pairs),
        *_identical_section(stores["identical"], consecutive),
        *_planted_section(comparisons),
    ]
    path = output / "report.md"
    path.write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")
    with (output / "aa.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, aa.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _short(v) for k, v in row.items()} for row in pairs)
    with (output / "compare.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("before", "after", "cell", "metric", "ratio", "low", "high", "word"))
        for a, b, found in (*consecutive, *comparisons):
            for change, metric in itertools.product((*found.cells, *found.backends), METRICS):
                r = change.ratios.get(metric)
                if r is not None:
                    numbers = (f"{v:.5f}" for v in (r.value, r.low, r.high))
                    out.writerow((a.stem, b.stem, change.label, metric, *numbers, change.word(metric)))
    return path


def _origin(stores: list[Path]) -> str:
    """Return the commits and machines that measured."""
    found: dict[str, set[str]] = {"code_version": set(), "machine": set()}
    for path in stores:
        with Store.read(path) as store:
            for row in store.rows():
                for column, values in found.items():
                    values.add(str(row[column]))
    return "; ".join(("Commit " if c == "code_version" else "") + ", ".join(sorted(v)) for c, v in found.items())


def _short(text: str) -> str:
    try:
        return text if text.isdigit() else f"{float(text):.5f}"
    except ValueError:
        return text


def _compared(before: Path, after: Path) -> Comparison:
    with Store.read(before) as first, Store.read(after) as second:
        return compare(first, second)


def _status(before: Path, after: Path, gates: Iterable[str]) -> int:
    """Return the exit status of `gradmeter compare` with these gates."""
    options = [text for gate in gates for text in ("--fail", gate)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return gradmeter(["compare", str(before), str(after), *options])


def _pairs_section(pairs: list[dict[str, str]]) -> Lines:
    def line(backend: str, what: str) -> Lines:
        chosen = [p for p in pairs if backend in ("all", p["backend"]) and what in ("all", p["what"])]
        logs = np.abs(np.log([float(p["ratio"]) for p in chosen]))
        beyond = [int(np.sum(logs > math.log(limit))) for limit in (1.05, 1.10)]
        shares = [f"{n} ({100.0 * n / len(logs):.2g} %)" for n in beyond]
        quantiles = [_percent(np.quantile(logs, q)) for q in (0.5, 0.95, 0.99, 1.0)]
        return [backend, what, str(len(logs)), *shares, *quantiles]

    backends = list(dict.fromkeys(p["backend"] for p in pairs))
    kinds = [*itertools.product(backends, ("bulk", "latency")), ("all", "all")]
    processes = len({p["process"] for p in pairs})
    return [
        "## A/A: identical calls timed as two",
        "",
        f"In {processes} processes every call of the small suite was timed as two, in interleaved rounds as in any "
        "run. How far the paired ratio is off 1:",
        "",
        *_table(
            ["backend", "call", "pairs", "off by > 5 %", "off by > 10 %", "median", "95 %", "99 %", "largest"],
            (line(*kind) for kind in kinds),
        ),
    ]


def _identical_section(stores: list[Path], consecutive: list[tuple[Path, Path, Comparison]]) -> Lines:
    every = [_compared(a, b) for a, b in itertools.combinations(stores, 2)]
    of = {
        "consecutive, cells": [c for *_, found in consecutive for c in found.cells],
        "all pairs, cells": [c for found in every for c in found.cells],
        "all pairs, backends as a whole": [c for found in every for c in found.backends],
    }
    lines = []
    for (name, changes), metric in itertools.product(of.items(), METRICS):
        ratios = Ratios.of(changes, metric)
        if len(ratios.logs):
            lines.append([name, metric, *ratios.line()])
    ratios = Ratios.of(of["all pairs, cells"], "time")
    held = 100.0 * float(np.mean(np.abs(ratios.logs) <= NINETY_FIVE * ratios.errors))
    shared = np.array([found.shared for found in every])
    failing = sum(_status(a, b, GATES) for a, b, _ in consecutive)
    return [
        "## Identical code, run again",
        "",
        f"{len(stores)} runs, each a store timed by {runs.PROCESSES} processes; {len(consecutive)} consecutive "
        f"comparisons and all {len(every)} pairs. Nothing should be called. "
        f"`gradmeter compare {' '.join(f'--fail {g}' for g in GATES)}` fails in {failing} of {len(consecutive)}.",
        "",
        *_table(["comparisons", "metric", "ratios", "called", "r.m.s. log", "largest", "in standard errors"], lines),
        f"Of the 95 % intervals of times {held:.1f} % hold 1. What all cells of a run share, and is divided out, was "
        f"{_percent(float(np.sqrt(np.mean(shared**2))))} r.m.s., at most {math.exp(np.abs(shared).max()):.3f}×.",
        "",
        _latencies(stores),
        "",
    ]


def _latencies(stores: list[Path]) -> str:
    """Describe how far latencies of identical code differ, the reason why they are not compared."""
    size: dict[str, list[float]] = {}
    for before, after in itertools.combinations(stores, 2):
        with Store.read(before) as first, Store.read(after) as second:
            cells, others = by_identity(first), by_identity(second)
            for key, cell in cells.items():
                ratio = time_ratio(cell, others[key], "latency")
                if ratio is not None:
                    size.setdefault(cell["backend"], []).append(abs(math.log(ratio.value)))
    told = [
        f"{backend} {_percent(math.sqrt(float(np.mean(np.square(logs)))))} (largest {math.exp(max(logs)):.3f}×)"
        for backend, logs in size.items()
    ]
    return f"Latencies, which `gradmeter compare` leaves alone, differ between identical runs by {', '.join(told)}."


def _planted_section(comparisons: list[tuple[Path, Path, Comparison]]) -> Lines:
    """Describe how often injected changes are called, and how often anything else is."""
    found: dict[str, list[Change]] = {name: [] for name in ("slower", "noisier", "whole", "other")}
    caught = dict.fromkeys(GATES, 0)
    applies = dict.fromkeys(GATES, 0)
    for before, after, comparison in comparisons:
        plan = runs.plan_of("injected", int(after.stem.split("-")[1]))
        whole = {c.columns["backend"] for i, c in enumerate(comparison.cells) if i in plan.slower and not plan.noisier}
        for i, change in enumerate(comparison.cells):
            name = "slower" if i in plan.slower else "noisier" if i in plan.noisier else "other"
            found[name].append(change)
        found["whole"] += [c for c in comparison.backends if c.columns["backend"] in whole]
        for gate in GATES:
            cells = plan.slower if gate.startswith("time") else plan.noisier
            if cells:
                sentences = tripped(comparison, [parse_gate(gate)])
                labels = [f" of {comparison.cells[i].label} is " for i in cells]
                named = all(any(label in sentence for sentence in sentences) for label in labels)
                applies[gate] += 1
                caught[gate] += named and _status(before, after, [gate]) == 1

    def line(name: str, metric: str, injected: float, what: str) -> Lines:
        ratios = Ratios.of(found[name], metric)
        right = sum(word == WORDS[metric][0] for word in ratios.words)
        low, middle, high = (f"{math.exp(v):.3f}" for v in np.quantile(ratios.logs, [0.0, 0.5, 1.0]))
        return [what, f"{injected:g}×", f"{right} of {len(ratios.words)}", f"{middle}× [{low}, {high}]"]

    rows = [
        line("slower", "time", SLOWER, "time of a cell, in bulk"),
        line("whole", "time", SLOWER, "time of a whole backend"),
        line("noisier", "variance", NOISIER, "variance of a cell"),
    ]
    wrong = {metric: Ratios.of(found["other"], metric) for metric in METRICS}
    wrong["variance of slowed cells"] = Ratios.of(found["slower"], "variance")
    return [
        "## Planted changes",
        "",
        f"{len(comparisons)} runs with a slowdown of {SLOWER:g}× (the timed call keeps the processor busy that much "
        f"longer) and a variance of {NOISIER:g}× (independent noise added to the estimate), each against an identical "
        "run. Three runs change one pair on every backend, the fourth slows everything on one backend, in turn.",
        "",
        *_table(["injected", "size", "called", "ratio found, median [smallest, largest]"], rows),
        "Exit status 1, with all that was planted named: "
        + ", ".join(f"`--fail {gate}` in {caught[gate]} of {applies[gate]}" for gate in GATES)
        + ". Called though nothing was planted: "
        + ", ".join(f"{r.called()} of {len(r.words)} in {metric}" for metric, r in wrong.items())
        + ".",
        "",
    ]
