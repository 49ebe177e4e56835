"""From moments to a verdict and a row's numbers."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from bench.measurement import bias as bias_module
from bench.measurement.bias import Difference, Suspicion
from bench.measurement.integrate import Integral
from bench.measurement.moments import GROUPS, Moments
from bench.measurement.stream import Described, Stream
from bench.measurement.variance import (
    VarianceEstimate,
    estimate_variance,
    normal_half_width,
    share_of_largest,
    tail_index,
)
from bench.problems import Exact
from bench.rows import ALL


class Judge:
    """Turns streamed moments into verdicts and the row's numbers."""

    def __init__(
        self,
        setting: Described,
        exact: Exact | None,
        integrals: dict[str, Integral] | None,
        looks: int,
        bias_bound: float,
        value_based: bool,
        rare: bool = False,
    ) -> None:
        self.setting, self.exact, self.integrals = setting, exact, integrals
        self.looks, self.bias_bound, self.value_based, self.rare = looks, bias_bound, value_based, rare
        self.confirmed: set[str] = set()
        self._epsilon = float(np.finfo(setting.dtype).eps)

    def tolerance(self, name: str, mean_square: np.ndarray) -> np.ndarray:
        """τ [D]: what rounding may do to an average of terms of this size."""
        size = np.maximum(1.0, np.sqrt(mean_square))
        if self.exact is not None:
            size = np.maximum(size, np.abs(self.exact.gradient[name]))
            if self.value_based and self.exact.objective is not None:  # differences of values of this size
                size = np.maximum(size, abs(self.exact.objective))
        return 1e3 * self._epsilon * size

    def _difference(self, name: str, stream: Stream) -> Difference:
        moments, centre = stream.moments[name], stream.centre[name]
        exact = np.zeros_like(centre) if self.exact is None else self.exact.gradient[name]
        tolerance = self.tolerance(name, moments.mean_squares(centre))
        return bias_module.difference(moments, centre, exact, tolerance, self.rare)

    def suspects(self, stream: Stream) -> dict[str, Suspicion]:
        """Parameter blocks that stage one wants confirmed; none where the bias is known by integration, for samples of
        a heavy tail may miss what the mean rests on."""
        if self.exact is None or self.integrals is not None:
            return {}
        open_blocks = [name for name in self.setting.blocks if name not in self.confirmed]
        level = bias_module.STAGE_LEVEL / (self.looks * len(self.setting.blocks))
        found = {name: bias_module.stage_one(self._difference(name, stream), level) for name in open_blocks}
        return {name: suspicion for name, suspicion in found.items() if suspicion is not None}

    def confirm(self, name: str, suspicion: Suspicion, fresh: Stream) -> None:
        if bias_module.stage_two(self._difference(name, fresh), suspicion):
            self.confirmed.add(name)

    def may_be_precise(self, stream: Stream, precision: float) -> bool:
        """Whether the variance of every row may be known to such a half-width: told without the tail index, which is
        most of the work for `rows`."""
        constant = {
            name: not np.any(self._difference(name, stream).deviation ** 2 > 0.0) for name in self.setting.blocks
        }
        every = {**stream.moments, ALL: stream.total}
        constant[ALL] = all(constant.values())
        return all(
            constant[name] or normal_half_width(norms.kurtosis(), norms.count) <= precision
            for name, norms in every.items()
        )

    def rows(self, stream: Stream) -> dict[str, dict[str, Any]]:
        """The statistical columns of every parameter block, and of `all`."""
        names = self.setting.blocks
        differences = {name: self._difference(name, stream) for name in names}
        rows = {name: self._row((name,), [differences[name]], stream, stream.moments[name]) for name in names}
        rows[ALL] = self._row(names, list(differences.values()), stream, stream.total)
        return rows

    def _row(self, names: tuple[str, ...], parts: list[Difference], stream: Stream, norms: Moments) -> dict[str, Any]:
        d = bias_module.combine(parts)
        tolerances = [self.tolerance(n, stream.moments[n].mean_squares(stream.centre[n])) for n in names]
        variances = [np.where(part.deviation > 0.0, part.deviation**2, 0.0) for part in parts]
        variance = float(sum(v.sum() for v in variances))
        tail = tail_index(norms.largest, norms.count) if variance > 0.0 else math.nan
        squared = sum((stream.moments[n].group_squared_norms() for n in names), np.zeros(GROUPS))
        spread: VarianceEstimate = estimate_variance(
            variance,
            count=d.count,
            kurtosis=norms.kurtosis(),
            tail=tail,
            share=share_of_largest(norms.largest, float(norms.norms[:, 0].sum()), 1),
            square_share=share_of_largest(norms.largest, float(norms.norms[:, 1].sum()), 2),
            group_means=squared,
            zero_below=0.0,
        )
        columns = {
            "variance": spread.variance,
            "variance_low": min(spread.low, sys.float_info.max),
            "variance_high": min(spread.high, sys.float_info.max),
            "variance_flag": spread.flag,
            "half_width": spread.half_width,
            "skewness": float(d.skewness[np.argmax(np.abs(d.skewness))]),
            "kurtosis": norms.kurtosis() if variance > 0.0 else None,
            "tail_k": tail if variance > 0.0 else None,
            "mean_norm": float(
                np.linalg.norm(np.concatenate([stream.moments[n].shift() + stream.centre[n] for n in names]))
            ),
        }
        if self.exact is None:
            return {**columns, "verdict": "no-reference", "exact_source": "none"}
        exact = np.concatenate([self.exact.gradient[name] for name in names])
        raw = np.concatenate([stream.moments[n].shift() + stream.centre[n] - self.exact.gradient[n] for n in names])
        return {
            **columns,
            **self._verdict(names, d, exact, variance, tolerances),
            "exact_norm": float(np.linalg.norm(exact)),
            "exact_source": self.exact.source,
            "bias_norm": float(np.linalg.norm(raw)),
            "bias_z": float(d.z[np.argmax(np.abs(d.z))]),
            "snr": float(np.linalg.norm(exact) / math.sqrt(variance)) if variance > 0.0 else None,
        }

    def _verdict(
        self, names: tuple[str, ...], d: Difference, exact: np.ndarray, variance: float, tolerances: list[np.ndarray]
    ) -> dict[str, Any]:
        tolerance = np.concatenate(tolerances)
        if self.integrals is not None:
            found = [self.integrals[name] for name in names]
            error = np.concatenate([i.error for i in found])
            bias = np.concatenate([i.mean for i in found]) - exact
            exact_variance = float(sum(i.variance.sum() for i in found))
            bound = bias_module.integrated_bound(
                np.abs(bias) + error, exact, max(exact_variance, 0.0), float(tolerance.max())
            )
            biased = bool(np.any(np.abs(bias) > tolerance + error))
        else:
            biased = any(name in self.confirmed for name in names)
            level = bias_module.BOUND_LEVEL / self.looks
            bound = bias_module.sampled_bound(d, exact, variance, float(tolerance.max()), level)
        unbiased = bound.certain and bound.value <= self.bias_bound
        worst = float(d.skewness[np.argmax(np.abs(d.skewness))])
        return {
            "verdict": "biased" if biased else "unbiased" if unbiased else "inconclusive",
            "reason": None if bound.certain else f"the bias bound is not certain: skewness {worst:.3g}",
            "bias_bound": bound.value,
            "bias_scale": bound.scale,
            "certificate": "sampling" if self.integrals is None else "integration",
        }
