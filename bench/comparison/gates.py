"""Limits at which a comparison fails: `gradmeter compare --fail time:1.25`."""

from __future__ import annotations

from gradmeter.bench.comparison.change import METRICS, WORDS, Comparison
from gradmeter.bench.reading.numbers import times
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import unknown
from gradmeter.estimators.options import number


def parse_gate(text: str) -> tuple[str, float]:
    """Parse `time:1.25` into the metric and the ratio at which a comparison fails.

    Raises
    ------
    UsageError
        The text has another form, the metric is unknown, or the ratio is not above 1.
    """
    metric, colon, limit = text.partition(":")
    if not colon:
        raise UsageError(f"--fail '{text}' is not of the form metric:ratio; for example: --fail time:1.25")
    if metric not in METRICS:
        raise unknown("metric of --fail:", metric, METRICS)
    return metric, number(f"--fail {metric}", limit, float, above=1.0)


def unseen(comparison: Comparison, gates: list[tuple[str, float]]) -> list[str]:
    """Return sentences on gates that no change just beyond their limit could trip in some cells, because of noise."""
    sentences = []
    for metric, limit in gates:
        least = sorted(change.least(metric) for change in comparison.cells if change.ratios.get(metric) is not None)
        blind = [each for each in least if each > limit]
        if blind:
            sentences.append(
                f"--fail {metric}:{limit:g} cannot trip at its limit in {len(blind)} of {len(least)} cells: too noisy, "
                f"nothing below {times(blind[0])} to {times(blind[-1])} is called there"
            )
    return sentences


def tripped(comparison: Comparison, gates: list[tuple[str, float]]) -> list[str]:
    """Return sentences on what fails the gates.

    A gate fails for a change that is reported as a deterioration and whose interval reaches the limit. Cells that
    failed in the second store are included, if there is any gate.

    Raises
    ------
    UsageError
        No cell has the metric of a gate in both stores, so the gate would pass whatever happened.
    """
    for metric in dict.fromkeys(metric for metric, _ in gates):
        if all(change.ratios[metric] is None for change in comparison.cells):
            hint = "" if metric == "variance" else "; run both without --no-timing"
            raise UsageError(f"--fail {metric}: no cell has its {metric} in both stores{hint}")
    sentences = [f"{cell}, measured before" for cell in comparison.failed] if gates else []
    for metric, limit in gates:
        for change in (*comparison.cells, *comparison.backends):
            ratio = change.ratios.get(metric)
            if ratio is not None and change.word(metric) == WORDS[metric][0] and ratio.high >= limit:
                told = times(ratio.value, ratio.low, ratio.high)
                sentences.append(f"{metric} of {change.label} is {told} what it was; the gate is {limit:g}")
    return sentences
