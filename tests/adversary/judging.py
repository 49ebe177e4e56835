"""Measure a case, and judge the row by what is known to be true."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradmeter
from tests.adversary.cases import Case, difference, norm

DEFAULT_CAP = 2**20
DETECTED_SHARE = 0.85


@dataclass(frozen=True)
class Result:
    """One row of the table: what was said, what is true, and whether that is right.

    `detectable` is whether the bias exceeds what the rules ask for at half of the cap; `detected` whether it was found.
    `low` is whether the bound of a row that is not `unbiased` is below the bias: a bound at 99.9 % may be, rarely.
    """

    kind: str
    name: str
    backend: str
    verdict: str
    bound: float | None
    truth: float | None
    right: bool
    note: str = ""
    detectable: bool = False
    detected: bool = False
    low: bool | None = None

    def line(self) -> str:
        def number(value: float | None) -> str:
            return "-" if value is None or not math.isfinite(value) else f"{value:.3g}"

        mark = "right" if self.right else "WRONG"
        if self.right and self.detectable and not self.detected:
            mark = "missed"
        elif self.right and self.low:
            mark = "low"
        return (
            f"{self.kind:9} {self.name:44} {self.backend:14} {self.verdict:13} "
            f"{number(self.bound):>9} {number(self.truth):>9} {mark:6} {self.note}"
        )


HEADER = f"{'kind':9} {'name':44} {'backend':14} {'verdict':13} {'bound':>9} {'true':>9}"


def row_of(problem: Any, estimator: Any, backend: str = "numpy", block: str = "all", **options: Any) -> dict[str, Any]:
    """Measure one cell and return its row, nulls as None; an error that escapes is the status `raised`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = gradmeter.measure(problem, estimator, backend, timing=False, **options)
    except Exception as error:
        return {"status": "raised", "reason": f"{type(error).__name__}: {error}", "verdict": None}
    chosen = frame[frame.block == block]
    row = (chosen if len(chosen) else frame).iloc[0].to_dict()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def moments(case: Case, replicates: int) -> dict[str, np.ndarray]:
    """Return the variance of every coordinate of one estimate, from a simulation of our own."""
    with np.errstate(all="ignore"):
        return {
            name: np.asarray(block, dtype=np.float64).var(axis=0) + case.spike
            for name, block in case.simulate(replicates).items()
        }


def detectable(case: Case, cap: int) -> bool:
    """Return whether the bias has the size at which it has to be found, at half of the cap."""
    if case.backend != "numpy" and case.name.startswith("surrogate-"):
        return case.true_bias > 0.1
    width = sum(block.size for block in case.setting.gradient.values())
    variances = moments(case, 2**11 if width >= 1000 else 2**15)
    bias = difference(case.mean, case.setting.gradient)
    half = cap / 2
    for name, variance in variances.items():
        gap = np.abs(bias[name])
        size = float(np.max(np.abs(case.setting.gradient[name])))
        if np.any((gap > 5.5 * np.sqrt(variance / half)) & (gap > 1e-9 * size)):
            return True
    total = sum(float(np.sum(variance)) for variance in variances.values())
    limit = 0.4 if width >= 1000 else 1.2 if width >= 100 else math.inf
    return norm(bias) ** 2 > limit * total / half


def deviation_share(case: Case) -> float:
    """Return ‖g‖ over the deviation of an estimate, where that is small enough to scale a bias by; else NaN."""
    deviation = math.sqrt(sum(float(np.sum(variance)) for variance in moments(case, 2**15).values()))
    share = norm(case.setting.gradient) / deviation if deviation else math.inf
    return share if share < (1e-5 if case.dtype == "float32" else 1e-13) else math.nan


def judge(case: Case, cap: int = DEFAULT_CAP, seed: int = 0) -> Result:
    """Measure a case at most `cap` times and judge its row."""
    row = row_of(
        case.setting.problem,
        case.estimator(),
        case.backend,
        samples=case.samples,
        dtype=case.dtype,
        max_replicates=cap,
        seed=seed,
    )
    return assess(case, row, cap)


def assess(case: Case, row: dict[str, Any], cap: int) -> Result:
    """Judge a row by what is known of the case."""
    status, verdict, bound = row.get("status"), row.get("verdict"), row.get("bias_bound")
    truth = case.true_bias
    said = str(verdict) if status == "ok" else str(status)
    note = str(row.get("reason") or "")[:90]
    where = f"{case.backend}/{'f32' if case.dtype == 'float32' else 'f64'}"

    def result(right: bool, why: str = "", **more: Any) -> Result:
        return Result(case.kind, case.name, where, said, bound, truth, right, why or note, **more)

    dependent = row.get("variance_flag") == "dependent"
    if case.kind == "correct":
        if status != "ok":
            return result(False, f"refused: {note}")
        if dependent:
            return result(False, "called dependent")
        return result(verdict in ("unbiased", "inconclusive"))
    if "exception" in case.caught_by:
        # Such a row may say nothing of bias: only a refusal with a reason, or the flag, will do.
        caught = (status == "exception" and bool(row.get("reason"))) or (
            dependent and verdict not in ("unbiased", "biased")
        )
        return result(caught, detectable=True, detected=caught)
    if status != "ok":
        return result(False, f"refused: {note}")
    found = {"detectable": detectable(case, cap), "detected": verdict == "biased"}
    if dependent:
        return result(False, "called dependent", **found)
    if row.get("bias_scale") == "deviation":
        truth *= deviation_share(case)
        if truth != truth:
            return result(False, "scaled by the deviation, though the gradient is not small", **found)
    below = bound is None or bound < truth * (1.0 - 1e-6)
    if verdict == "unbiased":
        excused = "assumption" in case.caught_by and bool(row.get("assumption"))
        return result(excused or not below, "bound below the bias" if below else "", **found)
    low = None if bound is None else below  # a row without a bound promises nothing
    return result(verdict in ("biased", "inconclusive"), "bound below the bias" if low else "", low=low, **found)


def allowed_misses(runs: int, rate: float, level: float = 1e-3) -> int:
    """Return how many misses a rate at most this large leaves, but for a chance of `level`."""
    from scipy import stats

    return int(stats.binom.isf(level, runs, rate))


def summary(results: Iterable[Result]) -> tuple[list[str], bool]:
    """Return what the acceptance rules say of these results, and whether all hold."""
    found = list(results)
    lines, good = [], True
    for kind in dict.fromkeys(result.kind for result in found):
        chosen = [result for result in found if result.kind == kind]
        bad = [result for result in chosen if not result.right]
        text = f"{kind}: {len(chosen) - len(bad)} of {len(chosen)} right"
        good &= not bad
        visible = [result for result in chosen if result.detectable]
        if visible:
            share = sum(result.detected for result in visible) / len(visible)
            text += f"; {share:.0%} of {len(visible)} that are large enough were found (at least {DETECTED_SHARE:.0%})"
            good &= share >= DETECTED_SHARE
        bounds = [result.low for result in chosen if result.low is not None]
        if bounds:
            allowed = allowed_misses(len(bounds), 1e-3)
            text += f"; {sum(bounds)} of {len(bounds)} bounds beside other verdicts below the bias (at most {allowed})"
            good &= sum(bounds) <= allowed
        lines.append(text)
    return lines, good


@contextlib.contextmanager
def timed(name: str) -> Any:
    """Print how long a part took."""
    start = time.perf_counter()
    yield
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
