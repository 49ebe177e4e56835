"""Other libraries beside gradmeter: times as ratios within one run, and what their estimates are worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.peers import PEERS, Peer
from gradmeter.bench.reading.ratios import Ratio, time_ratio
from gradmeter.bench.reading.results import Result

#: What a peer's cell and ours have in common.
_SAME = ("estimator_options", "dtype", "num_samples", "seed", "machine")
HEADINGS = ("peer", "D", "S", "bias", "variance", "its seconds", "ours", "its time over ours", "goal", "note")
NOTE = (
    "Seconds are per estimate of S samples, in bulk: of a library that can only average n samples, the time of that "
    "average times S / n, at the n at which it was fastest. Both compute in float32 on one thread, ours on the same "
    "framework; ratios are medians over interleaved rounds of one run. Bias and variance are of the library's own "
    "estimates of S samples, by the same measurements as ours."
)


@dataclass(frozen=True)
class Peers:
    """Everything the report says of peers.

    Attributes
    ----------
    tables
        (problem and estimator, lines under `HEADINGS`).
    unmeasured
        (peer, problem and estimator, status, reason).
    summary
        Goals met, missed and undecided, in words.
    """

    tables: list[tuple[str, list[tuple[str, ...]]]]
    unmeasured: list[tuple[str, str, str, str]]
    summary: str


def split(results: Iterable[Result]) -> tuple[list[Result], list[Result]]:
    """Split results into those of gradmeter and those of peers."""
    ours: list[Result] = []
    theirs: list[Result] = []
    for result in results:
        (theirs if result["backend"] in PEERS else ours).append(result)
    return (ours, theirs) if ours else (theirs, [])


def compare(ours: list[Result], theirs: list[Result]) -> Peers | None:
    """Return the comparison with peers; None where there are none."""
    if not theirs:
        return None
    tables: dict[str, list[tuple[str, ...]]] = {}
    unmeasured, verdicts = [], []
    order = list(PEERS)
    for result in sorted(theirs, key=lambda r: (order.index(r["backend"]), r["dimension"] or 0)):
        peer = PEERS[result["backend"]]
        if not result.measured:
            cell = f"{result.problem} {result.estimator}"
            unmeasured.append(
                (peer.title, cell, result["status"] or "no status", result["reason"] or "no reason given")
            )
            continue
        own = next((r for r in ours if _beside(r, result, peer)), None)
        ratio = time_ratio(result, own) if own else None
        goal = peer.goal(result["problem"], result["estimator"], result["dimension"] or 0)
        verdict = met(ratio, goal)
        verdicts.append(verdict)
        lines = tables.setdefault(f"{result['problem']} · {result.estimator}", [])
        lines.append(_line(peer, result, own, ratio, goal, verdict))
    counts = ", ".join(f"{n} {word}" for word in ("met", "missed", "not told") if (n := verdicts.count(word)))
    return Peers(list(tables.items()), unmeasured, f"Goals: {counts}." if counts else "No goals are set here.")


def met(ratio: Ratio | None, goal: float | None) -> str:
    """Return whether a ratio reaches its goal: `met`, `missed` or `not told`; empty without a goal.

    It is `not told` where the interval includes the goal.
    """
    if ratio is None or goal is None:
        return ""
    if not ratio.sure:
        return "not told"
    return "met" if ratio.low >= goal else "missed" if ratio.high < goal else "not told"


def _beside(own: Result, result: Result, peer: Peer) -> bool:
    if own["backend"] != peer.framework or (own.problem, own.estimator) != (result.problem, result.estimator):
        return False
    return all(own[column] == result[column] for column in _SAME)


def _line(
    peer: Peer, result: Result, own: Result | None, ratio: Ratio | None, goal: float | None, verdict: str
) -> tuple[str, ...]:
    spread = numbers.interval(result["variance_low"], result["variance_high"])
    flag = "" if result["variance_flag"] in (None, "ok") else result["variance_flag"]
    note = " (not in the same rounds)" if ratio and not ratio.sure else ""
    return (
        peer.title,
        numbers.count(result["dimension"]),
        numbers.count(result["num_samples"]),
        f"{numbers.verdict(result['verdict'])} {numbers.bias(result.row)}".rstrip(),
        f"{numbers.significant(result['variance'])} {spread} {flag}".strip(),
        numbers.seconds(result["seconds"]),
        f"{numbers.seconds(own['seconds'])} ({peer.framework})" if own and own["seconds"] else "–",
        numbers.times(ratio.value, ratio.low, ratio.high) + note if ratio else "–",
        "" if goal is None else f"≥ {numbers.significant(goal)}: {verdict or 'not timed'}",
        result["reason"] or "",
    )
