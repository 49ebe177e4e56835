"""Claims of a suite judged by measured cells: reproduced, contradicted or undecided, with 95 % intervals.

A claim about several cells, or pairs of cells, is reproduced if each of them bears it out, and contradicted if one of
them contradicts it. A cell bears a claim out if its interval lies within the claim, and contradicts it if its interval
lies outside. A cell whose variance has no valid interval decides nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradmeter.bench.reading import numbers, slopes
from gradmeter.bench.reading.ratios import Ratio, variance_ratio, work_ratio
from gradmeter.bench.reading.results import Result
from gradmeter.bench.sweep.claims import FIT, Claim, Selection

REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "undecided"
NOT_MEASURED, NOT_RUN = "not measured", "not run"
#: What a claim about fits needs where only the results of cells are known.
NEEDS_FITS = "fits, which are no cells of a store: gradmeter run of the suite makes them"
#: A number with its 95 % interval.
Interval = tuple[float, float, float]
#: From the one that settles a claim about several cells.
_SETTLING = (CONTRADICTED, UNDECIDED, REPRODUCED)
#: A variance at most this part of the squared mean is rounding, and so is one below it where the mean is 0.
ROUNDING = 1e-20
_CONTEXT = ("backend", "device", "dtype", "seed", "noise", "machine")


@dataclass(frozen=True)
class Evidence:
    """What one cell, or one pair of cells, says about a claim; `where` names the cell in parts."""

    status: str
    text: str
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A claim with its outcome.

    Attributes
    ----------
    measured
        What was measured, in words and numbers.
    count
        Number of cells or pairs that it rests on.
    """

    claim: Claim
    status: str
    measured: str
    count: int = 0


#: What makes the fits of a claim.
Fits = Callable[[Claim], list[Evidence]]


def judge(claim: Claim, results: Sequence[Result], fits: Fits | None = None) -> Judged:
    """Return the outcome of a claim, from the results of the cells of its suite.

    Parameters
    ----------
    claim
        Claim to judge.
    results
        Results of the cells of its suite.
    fits
        Makes the fits that a claim of kind `fit` is about; without it such a claim is not measured.
    """
    if not claim.kind:
        return Judged(claim, NOT_MEASURED, claim.nearest)
    if claim.kind == FIT:
        return _settled(claim, fits(claim)) if fits else Judged(replace(claim, needs=NEEDS_FITS), NOT_MEASURED, "")
    chosen = [r for r in results if matches(r, claim.of)]
    if not chosen:
        return Judged(claim, NOT_RUN, "no cell of this claim is in the store")
    if broken := [r for r in chosen if r["status"] != "ok"]:
        return Judged(claim, UNDECIDED, f"{', '.join(_where(broken[0]))}: {broken[0]['status']}, {broken[0]['reason']}")
    found = _JUDGES[claim.kind](claim, chosen, results)
    if not found:
        return Judged(claim, NOT_RUN, "no cell to compare with is in the store")
    return _settled(claim, found)


def _settled(claim: Claim, found: list[Evidence]) -> Judged:
    status = next(s for s in _SETTLING if any(e.status == s for e in found))
    return Judged(claim, status, _in_words(found, status), len(found))


def notes(judged: Judged) -> list[tuple[str, str]]:
    """Return what to say below a claim: what was measured, what explains a contradiction, what it would take."""
    explained = judged.claim.explained if judged.status == CONTRADICTED else ""
    named = "nearest" if judged.status == NOT_MEASURED else "measured"
    found = [("needs", judged.claim.needs), (named, judged.measured), ("because", explained)]
    return [(word, text) for word, text in found if text]


def _in_words(found: list[Evidence], status: str) -> str:
    """Describe what settles the claim: the first cell against it, else the smallest and the largest number."""
    if len(found) == 1:
        return found[0].text
    settling = [e for e in found if e.status == status]
    if status != REPRODUCED:
        return f"{settling[0].text} at {_place(settling[0], found)}; {len(settling)} of {len(found)}"
    texts = list(dict.fromkeys(e.text for e in found))
    if len(texts) == 1:
        return f"{texts[0]} at all {len(found)}"
    first, last = found[0], found[-1]
    return f"{first.text} ({_place(first, found)}) … {last.text} ({_place(last, found)}), all {len(found)}"


def _place(evidence: Evidence, found: list[Evidence]) -> str:
    """Return the parts of a cell's name in which the cells differ."""
    differ = [part for i, part in enumerate(evidence.where) if len({e.where[i] for e in found}) > 1]
    return ", ".join(differ or evidence.where)


def matches(result: Result, selection: Selection) -> bool:
    """Return whether a selection holds the cell of a result."""
    return all(
        not wanted or value in wanted
        for wanted, value in (
            (selection.problem, result.problem),
            (selection.estimator, result.estimator),
            (selection.backend, result["backend"]),
            (selection.samples, result["num_samples"]),
        )
    )


def _value(claim: Claim, chosen: Sequence[Result], _: Sequence[Result]) -> list[Evidence]:
    return [_bounded(claim, _interval(r, claim), _where(r), _valid(claim, r)) for r in _sorted(chosen, claim)]


def _ratio(claim: Claim, chosen: Sequence[Result], results: Sequence[Result]) -> list[Evidence]:
    found = []
    for a, b in _pairs(claim, chosen, results):
        ratio = _compared(claim, a, b)
        ends = None if ratio is None else (ratio.value, ratio.low, ratio.high)
        found.append((ends[0] if ends else 0.0, _bounded(claim, ends, _where(a), _valid(claim, a, b), times=True)))
    return [evidence for _, evidence in sorted(found, key=lambda pair: pair[0])]


def _slope(claim: Claim, chosen: Sequence[Result], _: Sequence[Result]) -> list[Evidence]:
    found = []
    for members in _groups(chosen, claim.along):
        points = [(axis_value(r, claim.along), _interval(r, claim)) for r in members]
        known = [(at, *ends) for at, ends in points if at is not None and ends is not None]
        line = slopes.fit(*zip(*known, strict=True)) if known else None
        if line is None:
            found.append(Evidence(UNDECIDED, f"no slope over {claim.along}", _where(members[0])))
            continue
        status = _placed(claim, line.low, line.high) if _valid(claim, *members) else UNDECIDED
        found.append(Evidence(status, numbers.slope_text(line), _where(members[0])))
    return found


def _crossing(claim: Claim, chosen: Sequence[Result], results: Sequence[Result]) -> list[Evidence]:
    """Return the values of the axis between which the ratio crosses 1.

    They are the last at which it is significantly on one side of 1, and the first at which it is on the other side.
    """
    sides: dict[tuple[str, ...], list[tuple[float, int]]] = {}
    for a, b in _pairs(claim, chosen, results):
        ratio, at = _compared(claim, a, b), axis_value(a, claim.along)
        if ratio is not None and at is not None and _valid(claim, a, b):
            side = -1 if ratio.high < 1.0 else 1 if ratio.low > 1.0 else 0
            sides.setdefault((a.estimator, b.estimator), []).append((at, side))
    return [_crossed(claim, sorted(points), where) for where, points in sides.items()]


def _crossed(claim: Claim, points: list[tuple[float, int]], where: tuple[str, ...]) -> Evidence:
    sure = [(at, side) for at, side in points if side]
    turns = [(a, b) for (a, before), (b, after) in itertools.pairwise(sure) if before != after]
    if len(turns) != 1:
        return Evidence(UNDECIDED if not turns else CONTRADICTED, f"{len(turns)} crossings", where)
    (low, high) = turns[0]
    status = REPRODUCED if low <= claim.at <= high else CONTRADICTED
    return Evidence(status, f"crosses 1 between {claim.along} = {low:g} and {high:g}", where)


def _monotone(claim: Claim, chosen: Sequence[Result], _: Sequence[Result]) -> list[Evidence]:
    found = []
    for members in _groups(chosen, claim.along):
        for a, b in itertools.pairwise(members):
            steps = _step(claim, a, b)
            where = (f"{claim.along} = {axis_value(a, claim.along):g} to {axis_value(b, claim.along):g}", a.problem)
            if steps is None or not _valid(claim, a, b):
                found.append(Evidence(UNDECIDED, "no interval", where))
                continue
            up, down = steps.low > 1.0, steps.high < 1.0
            right, wrong = (up, down) if claim.direction == "rises" else (down, up)
            status = REPRODUCED if right else CONTRADICTED if wrong else UNDECIDED
            found.append(Evidence(status, numbers.times(steps.value, steps.low, steps.high), where))
    return found


def _step(claim: Claim, a: Result, b: Result) -> Ratio | None:
    """Return the column at b over that at a."""
    if claim.column in ("variance", "work"):
        return _compared(claim, b, a)
    before, after = _interval(a, claim), _interval(b, claim)
    if before is None or after is None or min(before[1], after[1]) <= 0.0:
        return None
    value, low, high = before
    return Ratio(*after) * Ratio(1.0 / value, 1.0 / high, 1.0 / low)


def _verdict(claim: Claim, chosen: Sequence[Result], _: Sequence[Result]) -> list[Evidence]:
    found = []
    for r in chosen:
        got = r.blocks[claim.block]["verdict"] if claim.block in r.blocks else None
        decided = got in ("unbiased", "biased")
        status = UNDECIDED if not decided else REPRODUCED if got == claim.verdict else CONTRADICTED
        found.append(Evidence(status, f"{got} {numbers.bias(r.blocks.get(claim.block, r.row))}".strip(), _where(r)))
    return found


def _zero(claim: Claim, chosen: Sequence[Result], _: Sequence[Result]) -> list[Evidence]:
    found = []
    for r in chosen:
        row = r.blocks.get(claim.block, r.row)
        limit = ROUNDING * max(1.0, (row["mean_norm"] or 0.0) ** 2)
        variance, low = row["variance"], row["variance_low"]
        status = REPRODUCED if variance is not None and variance <= limit else UNDECIDED
        if status == UNDECIDED and low is not None and low > limit:
            status = CONTRADICTED
        text = "0 to rounding" if status == REPRODUCED else numbers.significant(variance)
        found.append(Evidence(status, text, _where(r)))
    return found


_JUDGES: dict[str, Callable[[Claim, Sequence[Result], Sequence[Result]], list[Evidence]]] = {
    "value": _value,
    "ratio": _ratio,
    "slope": _slope,
    "crossing": _crossing,
    "monotone": _monotone,
    "verdict": _verdict,
    "zero": _zero,
}


def _bounded(claim: Claim, ends: Interval | None, where: tuple[str, ...], valid: bool, times: bool = False) -> Evidence:
    if ends is None:
        return Evidence(UNDECIDED, "no interval", where)
    value, low, high = ends
    if value == math.inf:
        return Evidence(_placed(claim, low, high), "some variance against none", where)
    text = numbers.times(value, low, high) if times else f"{numbers.significant(value)} {numbers.interval(low, high)}"
    return (
        Evidence(_placed(claim, low, high), text, where) if valid else Evidence(UNDECIDED, f"{text} (flagged)", where)
    )


def _placed(claim: Claim, low: float, high: float) -> str:
    """Return whether an interval lies within the claim, outside, or across one of its ends."""
    if claim.above <= low and high <= claim.below:
        return REPRODUCED
    return CONTRADICTED if high < claim.above or low > claim.below else UNDECIDED


def _compared(claim: Claim, a: Result, b: Result) -> Ratio | None:
    """Return the claim's column of a over that of b; a variance of 0 makes it exactly 0 or infinite."""
    first, second = a.blocks.get(claim.block), b.blocks.get(claim.block)
    if first and second and 0.0 in (x := (first["variance"], second["variance"])) and None not in x and x[0] != x[1]:
        exact = 0.0 if x[0] == 0.0 else math.inf
        return Ratio(exact, exact, exact)
    if claim.column == "work":
        return work_ratio(a, b, timed=a.timed and b.timed)
    return variance_ratio(a, b, claim.block)


def _interval(result: Result, claim: Claim) -> Interval | None:
    """Return the claim's column of a cell with its interval; None where any of them is unknown."""
    row = result.blocks.get(claim.block)
    if row is None:
        return None
    column = "bias" if claim.column == "bias" else "variance"
    value, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return None
    if claim.column == "snr":
        norm = row["exact_norm"]
        return None if not norm or not low else (norm / value**0.5, norm / high**0.5, norm / low**0.5)
    if claim.column == "work":
        cost = result["seconds"] if result.timed else result["evaluations"]
        return None if not cost else (value * cost, low * cost, high * cost)
    return value, low, high


def _valid(claim: Claim, *results: Result) -> bool:
    """Return whether the intervals of these cells can be trusted."""
    rows = [r.blocks.get(claim.block, r.row) for r in results]
    return claim.column == "bias" or all(row["variance_flag"] == "ok" or row["variance"] == 0.0 for row in rows)


def _pairs(claim: Claim, chosen: Sequence[Result], results: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Pair every cell of `of` with the cells of `to` that agree with it in all columns that `to` leaves out."""
    others = [r for r in results if r["status"] == "ok" and matches(r, claim.to)]
    left_out = [c for c in ("problem", "estimator", "backend", "samples") if c not in claim.to.named]
    return [(a, b) for a in _sorted(chosen, claim) for b in others if a is not b and _agree(a, b, left_out)]


def _agree(a: Result, b: Result, columns: Iterable[str]) -> bool:
    values = {
        "problem": (a.problem, b.problem),
        "estimator": (a.estimator, b.estimator),
        "samples": (a["num_samples"], b["num_samples"]),
    }
    same = all(x == y for x, y in (values[c] for c in columns if c in values))
    return same and all(a[c] == b[c] for c in _CONTEXT if c != "backend" or c in columns)


def axis_value(result: Result, along: str) -> float | None:
    """Return the value of a cell on an axis: `samples`, or a numeric option of its problem or its estimator."""
    if along == "samples":
        value: Any = result["num_samples"]
    else:
        value = {**result["estimator_options"], **result["problem_options"]}.get(along)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _groups(results: Sequence[Result], along: str) -> list[list[Result]]:
    """Return the cells that differ in the axis only, ascending, group by group."""
    groups: dict[str, list[Result]] = {}
    for r in results:
        options = [{k: v for k, v in r[f"{kind}_options"].items() if k != along} for kind in ("problem", "estimator")]
        samples = None if along == "samples" else r["num_samples"]
        key = repr((r["problem"], r["estimator"], options, samples, [r[c] for c in _CONTEXT]))
        if axis_value(r, along) is not None:
            groups.setdefault(key, []).append(r)
    return [sorted(g, key=lambda r: axis_value(r, along) or 0.0) for g in groups.values() if len(g) > 1]


def _sorted(results: Sequence[Result], claim: Claim) -> list[Result]:
    return sorted(results, key=lambda r: (axis_value(r, claim.along) or 0.0, r.problem))


def _where(result: Result) -> tuple[str, ...]:
    return result.problem, f"S = {result['num_samples']}", result.estimator
