"""Where the numbers come from: dates, machines, code and versions, none of them pooled in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gradmeter.bench.reading.names import TEXTS
from gradmeter.bench.reading.numbers import times
from gradmeter.bench.reading.ratios import timed_as_two
from gradmeter.bench.reading.results import CONTEXT, Result


@dataclass(frozen=True)
class Provenance:
    """What is common to all results, and a table of what is not.

    Attributes
    ----------
    headline
        Parts of one line: dates, code, machines, what all cells share.
    warnings
        Sentences that a reader must see before comparing anything.
    origins
        (what, value, cells) lines: machine, code version, versions of packages.
    """

    headline: list[str]
    warnings: list[str]
    origins: list[tuple[str, str, int]]


def provenance(results: list[Result], superseded: int) -> Provenance:
    """Return where and when results were measured."""
    dates = sorted({d[:10] for r in results if (d := r["finished"])})
    machines, codes = _counts(results, "machine"), _counts(results, "code_version")
    headline = [dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"] if dates else []
    headline.append(f"commit {next(iter(codes))}" if len(codes) == 1 else f"{len(codes)} versions of the code")
    headline.append(next(iter(machines)) if len(machines) == 1 else f"{len(machines)} machines")
    shared = [c for c in CONTEXT if len({r[c] for r in results}) == 1]
    common = [_word(c, results[0][c]) for c in shared]
    if common:
        headline.append(", ".join(common))
    warnings = []
    if len(machines) > 1:
        warnings.append(
            "Results come from several machines. Each is ranked by itself, because seconds do not carry over."
        )
    if len(codes) > 1:
        warnings.append(f"Results come from several versions of the code: {', '.join(codes)}.")
    if superseded:
        warnings.append(
            f"{superseded} older results of cells that were measured again are not shown; results.csv has them."
        )
    marked = dict.fromkeys(getattr(r, kind) for r in results for kind in TEXTS if r.marked(kind))
    if marked:
        warnings.append(
            "Objects of one name that compute different things are told apart by the start of the digest of their "
            f"content, the one measured last at the end: {', '.join(marked)}. A class counts as another once it is "
            "edited."
        )
    origins = [("machine", name, n) for name, n in machines.items()]
    origins += [("code", name, n) for name, n in codes.items()]
    origins += [("threads", name, n) for name, n in _counts([r for r in results if r.measured], "threads").items()]
    return Provenance(headline, warnings, origins + _timing_runs(results) + _versions(results))


def _timing_runs(results: list[Result]) -> list[tuple[str, str, int]]:
    """Return lines on how much two timings of the same code differed: smaller differences mean nothing."""
    found = timed_as_two(results[0].store) if results else []
    return [(f"the same {backend} cell timed as two", times(r.value, r.low, r.high), 1) for backend, r in found]


def _counts(results: Iterable[Result], column: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for r in results:
        name = "unknown" if r[column] is None else str(r[column])
        counts[name] = counts.get(name, 0) + 1
    return counts


def _word(column: str, value: object) -> str:
    return {"seed": f"seed {value}", "noise": f"{value} noise"}.get(column, str(value))


def _versions(results: Iterable[Result]) -> list[tuple[str, str, int]]:
    counts: dict[tuple[str, str], int] = {}
    for r in results:
        for name, version in r["versions"].items():
            counts[name, str(version)] = counts.get((name, str(version)), 0) + 1
    return [(name, version, n) for (name, version), n in counts.items()]
