"""A performance budget: what was measured, its interval, the limit, and whether the limit is met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradmeter.bench.measurement.timing import calibrate, interleave, paired_ratio
from gradmeter.bench.performance.goals.tried import TRIED
from gradmeter.bench.sweep import environment

ROUNDS = 30


@dataclass(frozen=True)
class Measured:
    """A number and its 95 % interval (the number itself where it was measured once)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Goal:
    """A line of the table of budgets.

    Attributes
    ----------
    what
        The numerator and denominator of a ratio, or a quantity and its unit.
    measured
        The ratio or quantity.
    least, most
        Its limits; None where there is none.
    certain
        Whether the whole interval must be within the limits, not only the number.
    remark
        Further figures, such as a fixed overhead.
    """

    what: str
    measured: Measured
    least: float | None = None
    most: float | None = None
    certain: bool = False
    remark: str = ""

    @property
    def met(self) -> bool:
        m = self.measured
        low, high = (m.low, m.high) if self.certain else (m.value, m.value)
        return (self.least is None or low >= self.least) and (self.most is None or high <= self.most)

    @property
    def limit(self) -> str:
        parts = [("≥", self.least), ("≤", self.most)]
        return ", ".join(f"{sign} {limit:g}" for sign, limit in parts if limit is not None)

    @property
    def cells(self) -> tuple[str, ...]:
        m = self.measured
        interval = f"[{m.low:.3g}, {m.high:.3g}]" if m.low < m.high else ""
        met = ("met" if self.met else "not met") if self.limit else ""
        return self.what, f"{m.value:.3g}", interval, self.limit, met, self.remark


def ratio(numerator: Callable[[], Any], denominator: Callable[[], Any], rounds: int = ROUNDS) -> Measured:
    """Return the time of one call over that of another, both blocking, in randomised interleaved pairs.

    Parameters
    ----------
    numerator
        The first call.
    denominator
        The second call.
    rounds
        Number of rounds.
    """
    calls = {name: (call, calibrate(call)[0]) for name, call in (("a", numerator), ("b", denominator))}
    seconds = interleave(calls, rounds)
    return Measured(*paired_ratio(seconds["a"], seconds["b"]))


HEADINGS = ("goal", "measured", "95 % interval", "limit", "", "")


def show(goals: Iterable[Goal]) -> Iterator[Goal]:
    """Yield the budgets, printing each when it is measured."""
    for goal in goals:
        what, value, interval, limit, met, remark = goal.cells
        print(f"{met:8} {value:>8} {interval:16} {limit:12} {what}{' · ' if remark else ''}{remark}", flush=True)
        yield goal


def write(goals: Sequence[Goal], folder: Path, part: str) -> Path:
    """Write PART.md to a folder, with commit, machine and command; return its path.

    Parameters
    ----------
    goals
        What was measured.
    folder
        Folder of the page.
    part
        Name of the page, without its suffix.
    """
    lines = [
        f"# Goals: {part}",
        "",
        f"`python -m gradmeter.bench.performance.goals {part}` at commit {environment.code_version()} on "
        f"{environment.machine()}; one thread a backend. Ratios are of randomly interleaved pairs in one run, their "
        "median with a 95 % bootstrap interval.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"| {' | '.join('---' for _ in HEADINGS)} |",
        *(f"| {' | '.join(goal.cells)} |" for goal in goals),
    ]
    missed = [start for start in TRIED if any(goal.what.startswith(start) and not goal.met for goal in goals)]
    if missed:
        lines += ["", "## Where goals are not met", "", *(f"- *{start}.* {TRIED[start]}" for start in missed)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
