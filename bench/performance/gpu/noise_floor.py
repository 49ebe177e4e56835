"""The kernel against the noise alone, on the card's own generator, in randomised interleaved rounds.

`statistics` is the kernel of the measurement: noise, estimate and all block sums, copied to the host. The other forms
average the estimates on the card. The noise alone is drawn by the framework's fastest generator: PyTorch stores it, JAX
sums it as it is drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel
from gradmeter.bench.measurement.timing import calibrate, interleave, paired_ratio
from gradmeter.bench.performance.floor import draw_noise_alone
from gradmeter.bench.performance.gpu import forms
from gradmeter.bench.performance.gpu.record import Record
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import contained

#: The most that a kernel should take, in times of its noise alone.
GOAL = 1.15
ESTIMATORS = ("pathwise", "score-function")
#: D by dtype.
DIMENSIONS = {"float32": (10, 100), "float64": (10,)}
#: Numbers in a call: enough that the card, and not the start of the work, takes the time.
NUMBERS = 2**27
ROUNDS = 20
NOISE = "noise"


@dataclass(frozen=True)
class _Run:
    """The calls of one form: `blocking` waits for the results, `launch` need not; `blocks` of replicates a call."""

    blocking: Callable[[], Any]
    launch: Callable[[], Any]
    blocks: int = 1


@dataclass(frozen=True)
class _OnDevice:
    """A call whose stopwatch is the clock of its device."""

    backend: Backend
    launch: Callable[[], Any]

    def elapsed(self, repeats: int) -> float:
        found = self.backend.device_seconds(self.launch, repeats)
        assert found is not None
        return found

    def __call__(self) -> None:
        self.elapsed(1)


def run(record: Record, device: str, backends: tuple[str, ...], numbers: int = NUMBERS) -> None:
    """Measure the ratio of every form of the backends; float32 first."""
    workloads = [(dtype, dimension) for dtype, dimensions in DIMENSIONS.items() for dimension in dimensions]
    for (dtype, dimension), estimator, backend in itertools.product(workloads, ESTIMATORS, backends):
        if record.may(f"D = {dimension}, {estimator}, {dtype}, {backend}"):
            for line in ratios(dimension, estimator, dtype, backend, device, numbers):
                record.add(**line)


def ratios(
    dimension: int, estimator: str, dtype: str, backend: str, device: str, numbers: int, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """Return a line for each form: its time over that of the noise, by the wall clock and by the device's."""
    problem, replicates = f"square[k=2,dim={dimension}]", 1 << (numbers // dimension).bit_length() - 1
    common = {
        **{"problem": problem, "estimator": estimator, "dtype": dtype, "backend": backend, "device": device},
        **{"replicates": replicates, "goal": GOAL},
    }
    try:
        with contained():
            s = forms.setting(problem, estimator, backend, device, dtype, replicates)
            noise = draw_noise_alone(s, 1)
            noise()
    except Exception as error:
        return [{**common, "form": NOISE, "reason": forms.why(error)}]
    runs = {NOISE: _Run(noise, noise)}
    failed: list[dict[str, Any]] = []
    for form in ("statistics", *forms.FORMS[backend]):
        try:
            with contained():
                runs[form] = _run(form, s)
                runs[form].blocking()
        except Exception as error:  # the line says what failed, and the other forms go on
            runs.pop(form, None)
            failed.append({**common, "form": form, "reason": forms.why(error)})
    return [{**common, **line} for line in _timed(s.backend, runs, rounds)] + failed


def _run(form: str, s: Setting) -> _Run:
    if form != "statistics":
        call = forms.call(form, s)
        return _Run(call.run, call.launch or call.run)
    kernel, roots, centre = StatisticsKernel(s), s.roots("timing"), s.zeros()

    def statistics() -> Any:
        return kernel(roots, 0, centre)

    return _Run(statistics, statistics, kernel.chunk)


def _timed(backend: Backend, runs: dict[str, _Run], rounds: int) -> list[dict[str, Any]]:
    calls: dict[tuple[str, str], tuple[Callable[[], Any], int]] = {}
    clocks = ["seconds"]
    if backend.device_seconds(runs[NOISE].launch, 1) is not None:
        clocks.append("device_seconds")
    for form, run in runs.items():
        repeats = calibrate(run.blocking)[0]
        calls[form, "seconds"] = run.blocking, repeats
        if "device_seconds" in clocks:
            calls[form, "device_seconds"] = _OnDevice(backend, run.launch), repeats
    rounded = interleave(calls, rounds)
    seconds = {(form, clock): np.asarray(rounded[form, clock]) / runs[form].blocks for form, clock in calls}
    return [_line(form, clocks, seconds) for form in runs if form != NOISE]


def _line(form: str, clocks: list[str], seconds: dict[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    line: dict[str, Any] = {"form": form, "ratio": None, "device_seconds": None, "device_ratio": None}
    for clock in clocks:
        line[clock] = float(np.median(seconds[form, clock]))
        line[f"noise_{clock}"] = float(np.median(seconds[NOISE, clock]))
        name = "ratio" if clock == "seconds" else "device_ratio"
        line[name] = list(paired_ratio(seconds[form, clock], seconds[NOISE, clock]))
    return {**line, "met": line["ratio"][0] <= GOAL}
