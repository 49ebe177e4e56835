"""Whether a card computes what the CPU computes: gradients from the same noise, verdicts, variances."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.kernel import Setting, compiled_once, evaluator
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.performance.gpu import forms
from gradmeter.bench.performance.gpu.record import Record
from gradmeter.bench.rows import ALL
from gradmeter.estimators.errors import contained
from gradmeter.estimators.noise import DrawnNoise

PROBLEMS = ("square", "logistic-regression")
ESTIMATORS = ("pathwise", "score-function")
#: Largest difference of gradients from the same noise, relative to the largest entry, by dtype.
LIMITS = {"float64": 1e-12, "float32": 1e-5}
REPLICATES = 256
GOALS = StoppingCriteria(max_replicates=2**16)
#: Standard errors by which the logarithms of two variances may differ; half an interval of 95 % is 1.96 of them.
DEVIATIONS, NORMAL_95 = 4.0, 1.96
#: Forms of one estimate from given noise.
GIVEN = {"torch": ("eager", "compiled", "graph"), "jax": ("compiled",)}


def run(record: Record, device: str, backends: tuple[str, ...]) -> None:
    """Compare gradients, then verdicts and variances; float64 first."""
    for dtype in LIMITS:
        cells = list(itertools.product(PROBLEMS, ESTIMATORS, backends))
        for problem, estimator, backend in cells:
            for form in GIVEN[backend]:
                if record.may(f"gradients of {problem}, {estimator}, {dtype}, {backend} {form}"):
                    record.add(**gradients(problem, estimator, dtype, backend, form, device))
        for problem, estimator, backend in cells:
            if record.may(f"verdict and variance of {problem}, {estimator}, {dtype}, {backend}"):
                record.add(**statistics(problem, estimator, dtype, backend, device))


def gradients(problem: str, estimator: str, dtype: str, backend: str, form: str, device: str) -> dict[str, Any]:
    """Return a line: how far gradients are from NumPy's on the same noise."""
    line: dict[str, Any] = {
        "kind": "gradients",
        **{"problem": problem, "estimator": estimator, "dtype": dtype, "backend": backend, "form": form},
        "limit": LIMITS[dtype],
    }
    try:
        with contained():
            expected, found = of_shared_noise(problem, estimator, dtype, backend, form, device)
    except Exception as error:  # the line says what failed, and the others go on
        return {**line, "reason": forms.why(error)}
    away = max(float(np.max(np.abs(found[n] - e)) / np.max(np.abs(e))) for n, e in expected.items())
    return {**line, "difference": away, "agrees": away <= LIMITS[dtype]}


def of_shared_noise(
    problem: str, estimator: str, dtype: str, backend: str, form: str, device: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return NumPy's gradients and the device's, of noise that NumPy draws, by parameter block [R, P]."""
    host = forms.setting(problem, estimator, "numpy", "cpu", dtype, REPLICATES)
    s = forms.setting(problem, estimator, backend, device, dtype, REPLICATES)
    noise = host.host_noise("agreement", 0, REPLICATES)
    expected = evaluator(host)(host.expectation.data, host.parameters, host.state, noise)
    given = {name: s.backend.asarray(a, None) for name, a in noise.items()}
    found = _evaluated(s, form, given)
    return expected, {name: s.backend.to_numpy(g) for name, g in found.items()}


def _evaluated(s: Setting, form: str, given: dict[str, Any]) -> dict[str, Any]:
    evaluate = evaluator(s)

    def of_noise(data: Any, parameters: Any, state: Any, noise: Any) -> Any:
        return evaluate(data, parameters, state, DrawnNoise(noise, REPLICATES))

    work: Any = of_noise
    if form != "eager":  # a graph captures what `compiled` compiled
        key = ("agreement", s.structure)
        work = compiled_once(key, lambda: s.backend.compile(of_noise, s.expensive_reductions))
    arguments = s.expectation.data, s.parameters, s.state, given
    if form != "graph":
        return dict(s.backend.block_until_ready(work(*arguments)))
    replay, results = forms.captured(s, lambda: work(*arguments))
    for array in results.values():
        array.zero_()  # so that the numbers are those of the replay
    return dict(s.backend.block_until_ready(replay()))


def statistics(problem: str, estimator: str, dtype: str, backend: str, device: str) -> dict[str, Any]:
    """Return a line: verdict and variance on the device and on the CPU, each from noise of its own."""
    line: dict[str, Any] = {
        "kind": "statistics",
        **{"problem": problem, "estimator": estimator, "dtype": dtype, "backend": backend},
    }
    cell = Cell(make_problem(problem), make_estimator(estimator), "numpy", dtype=dtype, goals=GOALS)
    try:
        with contained():
            cpu, found = (measured(each) for each in (cell, replace(cell, backend=backend, device=device)))
    except Exception as error:
        return {**line, "reason": forms.why(error)}
    return {**line, "cpu": cpu, "device": found, "agrees": agree(cpu, found)}


def measured(cell: Cell) -> dict[str, Any]:
    """Return the columns that are compared, of all parameter blocks together."""
    row = measure(prepare(cell), cell.goals).blocks[ALL]
    return {name: row.get(name) for name in ("verdict", "variance", "variance_low", "variance_high")}


def agree(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether verdicts are equal, and variances up to the error that their 95 % intervals tell.

    The logarithm of the ratio of equal variances exceeds `DEVIATIONS` standard errors in one of 16,000 comparisons.
    """
    numbers = [each[name] for each in (a, b) for name in ("variance", "variance_low", "variance_high")]
    if a["verdict"] != b["verdict"] or any(number is None or number <= 0.0 for number in numbers):
        return False
    errors = [math.log(each["variance_high"] / each["variance_low"]) / (2.0 * NORMAL_95) for each in (a, b)]
    return abs(math.log(a["variance"] / b["variance"])) <= DEVIATIONS * math.hypot(*errors)
