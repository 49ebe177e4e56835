"""Evaluate estimates from given noise, compiled once, and check their form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import Setting, compiled_once, evaluator
from gradmeter.estimators import UsageError
from gradmeter.estimators.estimator import check_blocks, described, dtype_of
from gradmeter.estimators.noise import DrawnNoise

Array = Any
Arrays = dict[str, np.ndarray]

#: Limits on what is evaluated together: numbers of noise, and blocks.
NUMBERS_TOGETHER, MOST_TOGETHER = 2**16, 16


def estimates_of(setting: Setting, noise: DrawnNoise, at_once: int | None = None) -> Arrays:
    """Evaluate estimates [R, P] by parameter block from host noise, as NumPy arrays in the cell's precision.

    Parameters
    ----------
    setting
        The cell that is measured.
    noise
        Drawn noise of R replicates.
    at_once
        Replicates in a call of the compiled function, a divisor of R; all if absent. Use the cell's block size where
        possible, since JAX compiles every shape anew.
    """
    s = setting

    def build() -> Any:
        evaluate = evaluator(s, lambda made, given: check_form(s, made, given))
        return s.backend.compile_for_few_calls(evaluate, s.expensive_reductions)

    run = compiled_once(("given noise", s.structure), build)
    size = at_once or noise.replicates
    parts = []
    for start in range(0, noise.replicates, size):
        on_device = DrawnNoise({n: s.backend.asarray(a[start : start + size], None) for n, a in noise.items()}, size)
        found = run(s.expectation.data, s.parameters, s.state, on_device)
        parts.append({name: s.backend.to_numpy(a) for name, a in found.items()})
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def blocks_together(setting: Setting, replicates: int) -> int:
    """Return how many blocks of this many replicates to draw and evaluate together, a power of two.

    Small arrays cost call overhead; large ones leave the cache.
    """
    numbers = replicates * max(1, sum(math.prod(spec.shape) for spec in setting.specs.values()))
    return min(MOST_TOGETHER, 1 << max(0, (NUMBERS_TOGETHER // numbers).bit_length() - 1))


def in_double(arrays: Arrays) -> Arrays:
    """Convert floating-point numbers to float64."""
    return {name: a.astype(np.float64, copy=False) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def check_form(setting: Setting, found: Any, noise: DrawnNoise) -> None:
    """Check the form of estimates by shapes and dtypes alone, which costs nothing in a compiled function.

    Parameters
    ----------
    setting
        The cell that is measured.
    found
        What the estimator returned.
    noise
        Drawn noise of R replicates.

    Raises
    ------
    UsageError
        Not a dict of exactly the declared parameter blocks, each an array of the backend [R, *shape] of the cell's
        dtype.
    """
    wanted = setting.expectation.shapes(setting.dimension)
    check_blocks(setting.estimator.name, found, wanted)
    for block, shape in wanted.items():
        _check_array(setting, f"estimate of {block}", found[block], (noise.replicates, *shape))


def _check_array(setting: Setting, what: str, found: Any, shape: tuple[int, ...]) -> None:
    backend = setting.backend
    if not backend.is_array(found):
        raise UsageError(f"{what} is {described(found)}; return an array of {backend.name}, of shape {shape}")
    dtype = dtype_of(found)
    if dtype != setting.dtype:
        kinds = {"complex": "take its real part", "float": "compute in the dtype of the noise"}
        advice = next((do for kind, do in kinds.items() if dtype.startswith(kind)), "return real floating numbers")
        raise UsageError(f"{what} has dtype {dtype} in a cell of {setting.dtype}; {advice}")
    if tuple(found.shape) != shape:
        raise UsageError(
            f"{what} has shape {tuple(found.shape)} where {shape} is wanted, replicates first; {_advice(found, shape)}"
        )


def _advice(found: Any, shape: tuple[int, ...]) -> str:
    """Return advice for a wrong shape."""
    given, own = tuple(found.shape), shape[1:]
    if len(given) == len(shape) + 1 and given[:1] == shape[:1] and given[2:] == own:
        return "average over the samples of each replicate, axis 1"
    if given in (own, (1, *own), ()):
        return "do not average over the replicates, axis 0"
    if len(given) == len(shape) + 1 and given[:-1] == shape:
        return "remove the last axis"
    return "return one estimate for every replicate"
