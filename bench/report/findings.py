"""What a report says in words beyond which estimator to use: of gradients of networks, and of bounds against K."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.ratios import variance_ratio
from gradmeter.bench.reading.results import CONTEXT, Result
from gradmeter.bench.report import networks
from gradmeter.bench.report.figures import signal_to_noise
from gradmeter.bench.report.networks import WITHIN, Network
from gradmeter.bench.report.ranking import Ranking
from gradmeter.bench.report.sweeps import Sweep

SCORE, PATHWISE = "score-function", "pathwise"


def findings(rankings: Sequence[Ranking], sweeps: Iterable[Sweep]) -> list[str]:
    """Return sentences, the strongest first; none for a store without networks and bounds."""
    return [*_ratios(rankings), *_certified(rankings), *(line for sweep in sweeps for line in _slopes(sweep))]


def _ratios(rankings: Iterable[Ranking]) -> list[str]:
    """Return the variance of the plain score function over that of pathwise, at the same S and backend."""
    found = []
    for ranking in rankings:
        cells = [r for r in ranking.results if networks.of(r)]
        plain = {tuple(r[c] for c in (*CONTEXT, "num_samples")): r for r in cells if r.estimator == PATHWISE}
        for result in (r for r in cells if r.estimator == SCORE):
            other = plain.get(tuple(result[c] for c in (*CONTEXT, "num_samples")))
            ratio = None if other is None else variance_ratio(result, other)
            if other is None or ratio is None:
                continue
            each = [(n.name, networks.against(n, other)) for n in networks.of(result)]
            parts = [f"{numbers.times(r.value, r.low, r.high)} for the {name}" for name, r in each if r is not None]
            where = f"{ranking.problem} (S = {numbers.count(result['num_samples'])}, {result['backend']})"
            whole = numbers.times(ratio.value, ratio.low, ratio.high)
            found.append(f"{where}: the score function's variance is {whole} that of pathwise; {', '.join(parts)}.")
    return found


def _certified(rankings: Iterable[Ranking]) -> list[str]:
    """Return the estimators that are certified everywhere, and the others.

    They are listed for each problem whose networks have known gradients.
    """
    problems: dict[str, dict[str, list[tuple[Ranking, Result, list[Network]]]]] = {}
    for ranking in rankings:
        for r in (*ranking.ranked, *ranking.unranked, *ranking.controls):
            known = [n for n in networks.of(r) if n["exact_norm"]]
            if known:
                problems.setdefault(str(r["problem"]), {}).setdefault(r.estimator, []).append((ranking, r, known))
    found = []
    for problem, estimators in problems.items():
        cells = [cell for several in estimators.values() for cell in several]
        words = ", ".join(each.name for each in cells[0][2])
        good, rest, caught = [], [], []
        for name, several in estimators.items():
            count = f"{len(several)} cell{'s' if len(several) > 1 else ''}"
            if all(r["verdict"] == "biased" for _, r, _ in several):
                caught.append(f"{name} ({count})")
            elif all(n.certified for _, _, ns in several for n in ns):
                worst = max(n["bias_bound"] for _, _, ns in several for n in ns)
                good.append(f"{name} ({count}, at most {numbers.percent(worst)})")
            else:
                open_ = [(k, r, n) for k, r, ns in several for n in ns if not n.certified]
                rest += [
                    f"{name} (S = {numbers.count(r['num_samples'])}, {r['backend']}) for the {n.name} of {k.problem}, "
                    f"{numbers.bias(n.row) or 'without a bound'}"
                    for k, r, n in open_
                ]
        if good:
            found.append(
                f"{problem}, {len(cells)} cell{'s' if len(cells) > 1 else ''} with exact gradients ({words}): "
                f"certified within {numbers.percent(WITHIN)} of each network's gradient everywhere: "
                f"{', '.join(good)}; measured at {_values(cells)}."
            )
        if rest:
            found.append(f"{problem}, not certified within {numbers.percent(WITHIN)}: {'; '.join(rest)}.")
        if caught:
            found.append(f"{problem}, caught as biased: {', '.join(caught)}.")
    return found


def _values(cells: list[tuple[Ranking, Result, list[Network]]]) -> str:
    """Return the values of S, the batches and the backends in words."""
    samples = sorted({r["num_samples"] or 0 for _, r, _ in cells})
    batches = sorted({b for _, r, _ in cells if (b := r.option("batch")) is not None})
    backends = dict.fromkeys(str(r["backend"]) for _, r, _ in cells)
    parts = [f"S = {', '.join(map(str, samples))}"]
    parts += [f"batches of {', '.join(f'{b:g}' for b in batches)}"] if batches else []
    return "; ".join([*parts, ", ".join(backends)])


def _slopes(sweep: Sweep) -> list[str]:
    """Return how signal-to-noise ratios change with K, for each parameter block."""
    return [
        f"{sweep.problem}, signal-to-noise ratio of ∂{block} against K: "
        + ", ".join(f"{name} {'rises' if s.value > 0.0 else 'falls'}, {numbers.slope_text(s)}" for name, s in lines)
        + "."
        for block, lines in signal_to_noise.slopes_of(sweep).items()
        if lines
    ]
