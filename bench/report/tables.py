"""The cells of a ranking as text, for the page and its Markdown twin alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from gradmeter.bench.drawing.markers import IntervalBar, Scale, scale
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report.ranking import SIDE, Ranking
from gradmeter.bench.rows import ALL, Row

NOT_KNOWN = "–"


@dataclass(frozen=True)
class Entry:
    """One line of a ranking, ready to print."""

    rank: str
    estimator: str
    context: tuple[str, ...]
    samples: str
    verdict: str
    symbol: str
    bias: str
    bias_value: float | None
    variance: str
    interval: str
    flag: str
    seconds: str
    cost: str
    work: str
    ratio: str
    strip: IntervalBar | None
    note: str
    biased: bool
    look: Style


@dataclass(frozen=True)
class Table:
    """A ranking's lines; `context` names the columns in which its cells differ beside estimator and S.

    `reference` is the estimator whose cost is 1; `costs` whether any is known.
    """

    context: tuple[str, ...]
    ranked: list[Entry]
    unranked: list[Entry]
    controls: list[Entry]
    scale: Scale | None
    work_name: str
    reference: str

    @property
    def best_name(self) -> str:
        """The heading of the ratios, which are within one backend, device and dtype."""
        several = sum(e.rank == "1" for e in self.ranked) > 1
        return "against the best there" if several else "against the best"

    @property
    def sides(self) -> list[tuple[str, list[Entry]]]:
        """The ranked lines by backend, device and dtype, and what to call each; one without a name where all share."""
        starts = [i for i, e in enumerate(self.ranked) if e.rank == "1"]
        parts = [self.ranked[i:j] for i, j in pairwise([*starts, None])]
        names = [c for c in self.context if c in SIDE]
        words = [", ".join(part[0].context[self.context.index(c)] for c in names) for part in parts]
        return [(f"on {w}" if len(parts) > 1 else "", part) for w, part in zip(words, parts, strict=True)]

    @property
    def costs(self) -> bool:
        return any(e.cost != NOT_KNOWN for e in (*self.ranked, *self.unranked, *self.controls))


def table(ranking: Ranking, styles: dict[str, Style]) -> Table:
    context = varying(ranking.results, CONTEXT)
    measured = [*ranking.ranked, *ranking.unranked, *ranking.controls]
    axis = scale(ranking.work(r) for r in measured)
    ranked = [
        _entry(str(i), r, ranking, context, axis, styles) for side in ranking.sides for i, r in enumerate(side, 1)
    ]
    unranked = [_entry("", r, ranking, context, axis, styles) for r in ranking.unranked]
    controls = [_entry("", r, ranking, context, axis, styles) for r in ranking.controls]
    name = "variance × seconds" if ranking.timed else "variance × evaluations"
    return Table(context, ranked, unranked, controls, axis, name, ranking.reference)


def _entry(
    rank: str, r: Result, ranking: Ranking, context: tuple[str, ...], axis: Scale | None, styles: dict[str, Style]
) -> Entry:
    work = ranking.work(r)
    ratio = ranking.against_best(r) if rank else None
    flag = r["variance_flag"] or ""
    return Entry(
        rank=rank,
        estimator=r.estimator,
        context=tuple(r.text(c) for c in context),
        samples=numbers.count(r["num_samples"]),
        verdict=r["verdict"] or "",
        symbol=numbers.VERDICTS.get(r["verdict"] or "", "?"),
        bias=numbers.bias(r.row),
        bias_value=numbers.bias_shown(r.row),
        variance=numbers.significant(r["variance"]),
        interval=numbers.interval(r["variance_low"], r["variance_high"]),
        flag="" if flag == "ok" else flag,
        seconds=numbers.seconds(r["seconds"]),
        cost=_cost(r, ranking),
        work=numbers.significant(work),
        ratio="best" if rank == "1" else numbers.times(ratio.value, ratio.low, ratio.high) if ratio else "",
        strip=axis.strip(work, *_work_interval(r, work, ranking.timed), styles[r.estimator]) if axis and work else None,
        note="; ".join(
            filter(
                None,
                (
                    numbers.bias_interval(r.row) if r["verdict"] == "biased" else "",
                    r.biased_by_nature and f"by nature: {r.biased_by_nature}",
                    r["reason"],
                ),
            )
        ),
        biased=r.biased_by_nature is not None,
        look=styles[r.estimator],
    )


def _cost(r: Result, ranking: Ranking) -> str:
    """Return the seconds over those of the reference, with the S of the reference if it is another."""
    found = ranking.against_reference(r)
    if found is None:
        return NOT_KNOWN
    ratio, plain = found
    if plain is r:
        return "1"
    other = (
        f"of\u00a0S\u00a0=\u00a0{numbers.count(plain['num_samples'])}"
        if plain["num_samples"] != r["num_samples"]
        else ""
    )
    interval = numbers.interval(ratio.low, ratio.high).replace(", ", ",\u00a0")  # breaks before it, not inside
    return f"{numbers.times(ratio.value)} {interval} {other}".rstrip()


def _work_interval(r: Result, work: float, timed: bool) -> tuple[float, float]:
    """Return the interval of variance × cost, whose independent errors are combined on the log scale."""
    below = above = 0.0
    for column in ("variance", "seconds") if timed else ("variance",):
        value, low, high = r[column], r[f"{column}_low"], r[f"{column}_high"]
        if value and low and high:
            below = min(math.hypot(below, math.log(value) - math.log(low)), 350.0)
            above = min(math.hypot(above, math.log(high) - math.log(value)), 350.0)
    return work * math.exp(-below), work * math.exp(above)


def _variance_ratio(r: Result, ranking: Ranking, block: str) -> str:
    ratio = ranking.variance_against_reference(r, block)
    if ratio is None:
        return "1" if r.estimator == ranking.reference else "–"
    return f"{numbers.times(ratio.value)} {numbers.interval(ratio.low, ratio.high)}"


class Valued(str):
    """A cell's text, and the number to sort it by."""

    value: float | None

    def __new__(cls, text: str, value: float | None) -> Valued:
        made = super().__new__(cls, text)
        made.value = value
        return made


#: Heading and text of every column in the table of details, one line a parameter block.
_DETAILS = (
    ("S", lambda r: numbers.count(r["num_samples"])),
    ("block", lambda r: str(r["block"])),
    (
        "bias",
        lambda r: Valued(f"{numbers.verdict(r['verdict'])} {numbers.bias(r)}".rstrip(), numbers.bias_shown(r)),
    ),
    ("bias, 95 %", lambda r: numbers.bias_interval(r) or "–"),
    ("largest coordinate", lambda r: "–" if r["bias_max"] is None else f"≤ {numbers.percent(r['bias_max'])}"),
    ("cosine", lambda r: numbers.significant(r["cosine"])),
    ("scale", lambda r: numbers.significant(r["scale_factor"])),
    ("certificate", lambda r: r["certificate"] or "–"),
    ("controls", lambda r: numbers.times(r["control_gain"]) if (r["control_gain"] or 1.0) > 1.0 else "–"),
    ("assumption", lambda r: r["assumption"] or "–"),
    ("z", lambda r: numbers.significant(r["bias_z"])),
    ("‖g‖", lambda r: numbers.significant(r["exact_norm"])),
    ("exact by", lambda r: r["exact_source"] or "–"),
    (
        "variance",
        lambda r: f"{numbers.significant(r['variance'])} {numbers.interval(r['variance_low'], r['variance_high'])}",
    ),
    ("flag", lambda r: r["variance_flag"] or "–"),
    ("SNR", lambda r: numbers.significant(r["snr"])),
    ("skewness", lambda r: numbers.significant(r["skewness"])),
    ("kurtosis of Q", lambda r: numbers.significant(r["kurtosis"])),
    ("tail index", lambda r: numbers.significant(r["tail_k"])),
    (
        "seconds",
        lambda r: f"{numbers.seconds(r['seconds'])} {numbers.seconds_interval(r['seconds_low'], r['seconds_high'])}",
    ),
    ("latency", lambda r: numbers.seconds(r["latency"])),
    ("compile", lambda r: numbers.seconds(r["compile_seconds"])),
    ("evaluations", lambda r: numbers.count(r["evaluations"])),
    ("replicates", lambda r: numbers.count(r["replicates"])),
)


def details(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines, one line for each parameter block of each measured cell."""
    results = [*ranking.ranked, *ranking.unranked, *ranking.controls]
    context = varying(results, CONTEXT)
    ratio = f"variance ({ranking.reference} = 1)"
    headings = ["estimator", *context, *(name for name, _ in _DETAILS), ratio]
    return headings, [
        [
            *(r.estimator, *(r.text(c) for c in context)),
            *(write(row) for _, write in _DETAILS),
            _variance_ratio(r, ranking, row["block"]),
        ]
        for r in results
        for row in _ordered(r.blocks)
    ]


def _ordered(blocks: dict[str, Row]) -> list[Row]:
    return sorted(blocks.values(), key=lambda row: row["block"] == ALL)


def failures(ranking: Ranking) -> list[tuple[str, str, str]]:
    """Return (estimator with its context, status, reason) of everything that has no numbers."""
    context = varying(ranking.results, CONTEXT) or ("backend",)
    return [
        (
            f"{r.estimator} · S={numbers.count(r['num_samples'])} · {r.context(context)}",
            r["status"] or "no status" if r["status"] != "ok" else "no variance",
            r["reason"] or "no reason given",
        )
        for r in ranking.failed
    ]
