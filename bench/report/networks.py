"""Gradients of several networks: what is measured of each layer, put together for each network.

Layers are parameter blocks `encoder.0.weight`, `decoder.1.bias` and so on; a network is what stands before the first
dot. Its variance is the sum of its layers', with an interval from the sum of their group means of Q; its bias bound is
the root of the sum of squares of its layers', each at 99.9 %, over the norm of the whole network's gradient.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.measurement.decomposition import Part, Parts, from_series
from gradmeter.bench.measurement.variance import grouped_interval
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.ratios import Ratio, variance_ratio
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report.ranking import Ranking
from gradmeter.bench.rows import ALL, Row

#: Of a network's gradient; the default of `--bias-bound`.
WITHIN = 0.01
#: From good to bad: a network is as bad as its worst layer.
FLAGS = ("ok", "unreliable", "not-estimable", "dependent")
SERIES = "squared_norm:"


@dataclass(frozen=True)
class Network(Result):
    """One network of a cell, as a cell with one parameter block of that name."""

    cell: Result
    name: str
    layers: tuple[str, ...]

    @functools.cached_property
    def series(self) -> dict[str, np.ndarray]:
        found = self.cell.series
        parts = [found[SERIES + layer] for layer in self.layers if SERIES + layer in found]
        return {**found, SERIES + self.name: np.sum(parts, axis=0)} if len(parts) == len(self.layers) else found

    @functools.cached_property
    def interval(self) -> tuple[float | None, float | None]:
        groups = self.series.get(SERIES + self.name)
        if groups is None or not np.all(groups > 0.0) or len(groups) < 16:
            return None, None
        low, high = grouped_interval(groups)
        return min(low, self["variance"]), max(high, self["variance"])

    @functools.cached_property
    def parts(self) -> Parts | None:
        """Sums over layers; intervals too, as if errors were the same ones, so they are wide."""
        found = [from_series(self.series, layer) for layer in self.layers]
        known = [parts for parts in found if parts is not None]
        if len(known) < len(found):
            return None

        def total(name: str) -> Part:
            each = [getattr(parts, name) for parts in known]
            return Part(*(sum(getattr(p, end) for p in each) for end in ("value", "low", "high")))

        sure = all(parts.sure for parts in known)
        return Parts(known[0].replicates, total("sampling"), total("minibatch"), total("total"), sure)

    @property
    def certified(self) -> bool:
        """Whether its bias is at most `WITHIN`."""
        return self["bias_bound"] is not None and self["bias_bound"] <= WITHIN and self["verdict"] != "biased"


def of(result: Result) -> list[Network]:
    """Return the networks of a cell in the order of its rows.

    There are none unless the cell has several networks of several layers.
    """
    groups: dict[str, list[Row]] = {}
    for block, row in result.blocks.items():
        if block != ALL:
            groups.setdefault(block.partition(".")[0], []).append(row)
    if len(groups) < 2 or not result.measured or not any(len(rows) > 1 for rows in groups.values()):
        return []
    found = [(name, _row(name, rows), tuple(str(r["block"]) for r in rows)) for name, rows in groups.items()]
    called = result.problem, result.estimator
    return [Network({name: row}, result.store, *called, result, name, layers) for name, row, layers in found if row]


def _row(name: str, layers: list[Row]) -> Row | None:
    """Return a row for a network from those of its layers; None where a layer has no variance."""
    if any(r["variance"] is None for r in layers):
        return None
    flags = [r["variance_flag"] for r in layers]
    worst = max(flags, key=lambda flag: FLAGS.index(flag) if flag in FLAGS else len(FLAGS))
    norms = [r["exact_norm"] for r in layers]
    norm = math.hypot(*norms) if None not in norms else None
    bounds = [bound for r in layers if (bound := _absolute(r)) is not None]
    bound = math.hypot(*bounds) / norm if norm and len(bounds) == len(layers) else None
    verdicts = {r["verdict"] for r in layers}
    small = bound is not None and bound <= WITHIN and all(r["verdict"] == "unbiased" or not r["reason"] for r in layers)
    verdict = "no-reference" if "no-reference" in verdicts else "unbiased" if small else "inconclusive"
    return {
        **layers[0],
        "block": name,
        "variance": sum(r["variance"] for r in layers),
        "variance_flag": worst,
        "exact_norm": norm,
        "bias_norm": math.hypot(*(r["bias_norm"] or 0.0 for r in layers)),
        "bias": math.hypot(*(_absolute(r, "bias") or 0.0 for r in layers)) / norm if norm else None,
        "bias_bound": bound,
        "bias_scale": "gradient",
        **dict.fromkeys(("cosine", "scale_factor", "scale_low", "scale_high")),
        "verdict": "biased" if "biased" in verdicts else verdict,
    }


def _absolute(row: Row, column: str = "bias_bound") -> float | None:
    """Return the bias of a layer, or its bound, in absolute terms: multiplied by what it is relative to."""
    if row[column] is None or row["exact_norm"] is None:
        return None
    return float(row[column] * (row["exact_norm"] if row["bias_scale"] == "gradient" else row["variance"] ** 0.5))


def against(result: Network, other: Result) -> Ratio | None:
    """Return the variance of the network over that of the same network of another cell."""
    plain = next((n for n in of(other) if n.name == result.name), None)
    return None if plain is None else variance_ratio(result, plain, result.name)


def table(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines, a line for each network of each cell; no lines where there are no networks."""
    results = [*ranking.ranked, *ranking.unranked, *ranking.controls]
    context = varying(results, CONTEXT)
    found = [(r, network) for r in results for network in of(r)]
    split = any(network.parts for _, network in found)
    headings = ["estimator", *context, "S", "network", "bias", "variance", f"variance ({ranking.reference} = 1)"]
    return [*headings, *(("samples of z", "minibatch", "minibatch share") if split else ())], [
        [
            r.estimator,
            *(r.text(c) for c in context),
            numbers.count(r["num_samples"]),
            network.name,
            f"{numbers.verdict(network['verdict'])} {numbers.bias(network.row)}".rstrip(),
            _variance(network),
            _ratio(r, network, ranking),
            *(_parts(network.parts) if split else ()),
        ]
        for r, network in found
    ]


def _variance(network: Network) -> str:
    flag = "" if network["variance_flag"] == "ok" else network["variance_flag"]
    return f"{numbers.significant(network['variance'])} {numbers.interval(*network.interval)} {flag}".rstrip()


def _ratio(result: Result, network: Network, ranking: Ranking) -> str:
    plain = ranking.reference_of(result)
    if plain is result:
        return "1"
    ratio = None if plain is None else against(network, plain)
    return "–" if ratio is None else numbers.times(ratio.value, ratio.low, ratio.high)


def _parts(parts: Parts | None) -> list[str]:
    if parts is None:
        return ["–"] * 3
    each = [
        f"{numbers.significant(p.value)} {numbers.interval(p.low, p.high)}" for p in (parts.sampling, parts.minibatch)
    ]
    return [*each, numbers.percent(max(0.0, parts.minibatch.value) / parts.total.value) if parts.total.value else "–"]
