"""Problems that differ in one number only: `cosine[k=0.5]`, `cosine[k=1]`, …"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from gradmeter.bench.report.ranking import Ranking

FEWEST = 3


@dataclass
class Sweep:
    """Rankings along one option of a problem.

    Attributes
    ----------
    problem
        Its bare name.
    fixed
        The other options that are not defaults, as `loc=1`.
    option
        The name of the one that varies.
    points
        (value, ranking), ascending.
    """

    problem: str
    fixed: str
    option: str
    machine: str | None
    points: list[tuple[float, Ranking]] = field(default_factory=list)

    @property
    def title(self) -> str:
        values = ", ".join(f"{value:g}" for value, _ in self.points)
        return f"{self.problem}[{self.fixed + ',' if self.fixed else ''}{self.option} = {values}]"


def find(rankings: list[Ranking]) -> list[Sweep]:
    """Return the sweeps of at least three values; a ranking is in at most one of them, the longest."""
    groups: dict[tuple[str, ...], Sweep] = {}
    for ranking in rankings:
        first = ranking.results[0]
        if first.marked("problem"):
            continue
        for name in first["problem_options"]:
            value = first.option(name)
            if value is None:
                continue
            rest = {k: v for k, v in first["problem_options"].items() if k != name}
            key = (str(first["problem"]), json.dumps(rest, sort_keys=True, default=str), name, str(ranking.machine))
            sweep = groups.setdefault(key, Sweep(key[0], _fixed(ranking, name), name, ranking.machine))
            if value not in {v for v, _ in sweep.points}:
                sweep.points.append((value, ranking))
    taken: set[int] = set()
    found = []
    for sweep in sorted(groups.values(), key=lambda s: (-len(s.points), s.option != "k")):
        sweep.points = sorted((p for p in sweep.points if id(p[1]) not in taken), key=lambda p: p[0])
        if len(sweep.points) >= FEWEST:
            taken |= {id(ranking) for _, ranking in sweep.points}
            found.append(sweep)
    order = {id(ranking): i for i, ranking in enumerate(rankings)}
    return sorted(found, key=lambda s: min(order[id(r)] for _, r in s.points))


def _fixed(ranking: Ranking, option: str) -> str:
    inside = ranking.problem.partition("[")[2].removesuffix("]")
    return ",".join(part for part in inside.split(",") if part and not part.startswith(f"{option}="))
