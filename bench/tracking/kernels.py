"""The measured kernel (noise, estimates, block sums): its time, its memory, and its ratio to the noise floor.

Everywhere on square, D = 100, float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .workloads import BACKENDS, ESTIMATORS, prepared

ROUNDS = 20
Samples = dict[str, Any]


def _call(setting: Any) -> tuple[Callable[[], Any], int]:
    """Return one call of the kernel, compiled before, and the number of blocks of replicates that it makes."""
    from gradmeter.bench.measurement.kernel import StatisticsKernel

    kernel, roots, centre = StatisticsKernel(setting), setting.roots("timing"), setting.zeros()
    kernel(roots, 0, centre)
    return lambda: kernel(roots, 0, centre), kernel.chunk


class Time:
    """Seconds of one call, as asv times it: in a process of its own."""

    params = (BACKENDS, ("pathwise", "score-function"))
    param_names = ("backend", "estimator")
    timeout = 300.0
    rounds = 1
    version = "1"

    def setup(self, backend: str, estimator: str) -> None:
        self.call, _ = _call(prepared(backend, estimator))

    def time_kernel(self, backend: str, estimator: str) -> None:
        self.call()


class Memory:
    """Peak memory of a process that streams replicates: the framework, compiling, and what is kept of the calls."""

    params = (BACKENDS, ESTIMATORS)
    param_names = ("backend", "estimator")
    timeout = 300.0
    version = "1"

    def peakmem_kernel(self, backend: str, estimator: str) -> None:
        call, _ = _call(prepared(backend, estimator))
        for _ in range(16):
            call()


class Floor:
    """Time of the kernel over that of drawing as many normals, in interleaved pairs: holds across machines."""

    params = (BACKENDS, ESTIMATORS)
    param_names = ("backend", "estimator")
    timeout = 300.0
    version = "2"
    unit = "× floor"

    def track_ratio_to_floor(self, backend: str, estimator: str) -> Samples:
        from gradmeter.bench.measurement.timing import calibrate, interleave
        from gradmeter.bench.performance.floor import draw_noise_alone

        setting = prepared(backend, estimator)
        kernel, blocks = _call(setting)
        calls = {"kernel": kernel, "noise": draw_noise_alone(setting, blocks)}
        seconds = interleave({name: (call, calibrate(call)[0]) for name, call in calls.items()}, ROUNDS)
        pairs = zip(seconds["kernel"], seconds["noise"], strict=True)
        return {"samples": [kernel / noise for kernel, noise in pairs], "number": 1}
