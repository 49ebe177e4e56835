"""The floor of the cost: drawing the noise alone, with the framework's own fastest generator, in the same run.

No estimator can be faster than its noise. The ratio of the time of the measured kernel (noise, estimate, statistics) to
this floor shows the overhead of the suite itself, and is comparable between machines where seconds are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel
from gradmeter.bench.measurement.timing import ROUNDS, calibrate, interleave, paired_ratio


@dataclass(frozen=True)
class FloorRatio:
    """The time of the kernel over the time of its noise, for equally many numbers: median and 95 % interval."""

    ratio: float
    low: float
    high: float
    seconds_per_estimate: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}] × the noise alone"


def draw_noise_alone(setting: Setting, blocks: int) -> Callable[[], Any]:
    """Return a function that draws as many standard normals as `blocks` blocks of replicates use, block by block."""
    backend, dtype = setting.backend, setting.dtype
    size = setting.replicates * sum(int(np.prod(spec.shape)) for spec in setting.specs.values())
    if backend.name == "numpy":
        generator, buffer = np.random.Generator(np.random.SFC64(0)), np.empty(size, dtype)

        def draw() -> None:
            for _ in range(blocks):
                generator.standard_normal(dtype=buffer.dtype, out=buffer)

    elif backend.name == "torch":
        stream, room = backend.stream(0, 0), backend.asarray(np.empty(size), dtype)

        def draw() -> None:
            for _ in range(blocks):
                room.normal_(generator=stream)
            backend.block_until_ready(room)

    else:
        import jax

        # Summed as they are drawn and not stored, which is fastest in JAX.
        root, numbers = backend.root(0), backend.asarray(np.arange(blocks), "int32")
        compiled = jax.jit(
            lambda root, numbers: backend.map(
                lambda block: jax.numpy.sum(jax.random.normal(backend.stream(root, block), (size,), dtype)), numbers
            )
        )

        def draw() -> None:
            backend.block_until_ready(compiled(root, numbers))

    return draw


def ratio_to_floor(setting: Setting) -> FloorRatio:
    """Time the statistics kernel against its noise alone, in randomised interleaved pairs."""
    kernel = StatisticsKernel(setting)
    roots = setting.roots("timing")
    centre = setting.zeros()
    noise = draw_noise_alone(setting, kernel.chunk)

    def measured() -> None:
        kernel(roots, 0, centre)

    calls = {"kernel": (measured, calibrate(measured)[0]), "noise": (noise, calibrate(noise)[0])}
    seconds = interleave(calls, 2 * ROUNDS)
    middle, low, high = paired_ratio(seconds["kernel"], seconds["noise"])
    per_estimate = float(np.median(seconds["kernel"])) / (setting.replicates * kernel.chunk)
    return FloorRatio(middle, low, high, per_estimate)
