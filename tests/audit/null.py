"""Audit many correct gradients and count how many are called biased: `python -m tests.audit.null [COUNT] [SEED]`.

Each gradient is exact + scale · noise with noise of mean zero, in one of three frameworks, with one to a hundred
coordinates in one or two blocks, light and heavy tails, and means of a hundredth to a hundred standard deviations.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import gradmeter as gm


def _lognormal(s: float) -> Callable[[Any, Any, Any], Any]:
    return lambda xp, e, u: xp.exp(s * e) - math.exp(0.5 * s * s)


def _pareto(alpha: float) -> Callable[[Any, Any, Any], Any]:
    return lambda xp, e, u: (1 - u) ** (-1 / alpha) - alpha / (alpha - 1)


def _two_sided(alpha: float) -> Callable[[Any, Any, Any], Any]:
    return lambda xp, e, u: xp.sign(e) * ((1 - u) ** (-1 / alpha) - 1)


def _spikes(p: float) -> Callable[[Any, Any, Any], Any]:
    return lambda xp, e, u: (u < p) / p - 1.0


#: Functions of (namespace, e ~ N(0, 1), u ~ U(0, 1)) of mean zero.
NOISE: dict[str, Callable[[Any, Any, Any], Any]] = {
    "normal": lambda xp, e, u: e,
    "uniform": lambda xp, e, u: u - 0.5,
    "sign": lambda xp, e, u: xp.sign(e),
    "exponential": lambda xp, e, u: -xp.log(1 - u) - 1,
    "chi-square": lambda xp, e, u: e**2 - 1,
    "cube": lambda xp, e, u: e**3,
    "score": lambda xp, e, u: (e - 2) ** 2 * e + 4,
    "score-scale": lambda xp, e, u: (e - 2) ** 2 * (e**2 - 1) - 2,
    "lognormal-0.5": _lognormal(0.5),
    "lognormal-1": _lognormal(1.0),
    "lognormal-1.5": _lognormal(1.5),
    "pareto-5": _pareto(5.0),
    "pareto-3": _pareto(3.0),
    "pareto-2.2": _pareto(2.2),
    "two-sided-3": _two_sided(3.0),
    "two-sided-2.2": _two_sided(2.2),
    "two-sided-1.5": _two_sided(1.5),
    "spikes-0.1": _spikes(0.1),
    "spikes-0.01": _spikes(0.01),
    "mixed": lambda xp, e, u: xp.where(u < 0.02, 20.0, 1.0) * e,
    "zero": lambda xp, e, u: 0 * e,
}


@dataclass(frozen=True)
class Correct:
    """A correct gradient and its exact mean."""

    name: str
    gradient: Callable[[Any], Any]
    exact: Any


def correct(seed: int) -> Correct:
    """Return the correct gradient number `seed`."""
    rng = np.random.default_rng([90210, seed])
    framework = (*("numpy", "torch") * 4, "numpy", "jax")[seed % 10]
    kind = list(NOISE)[int(rng.integers(len(NOISE)))]
    dim = int(rng.choice([1, 1, 2, 5, 20, 100]))
    mean_size, scale = 10.0 ** rng.uniform(-2, 2), 10.0 ** rng.uniform(-4, 4)
    exact = scale * mean_size * rng.standard_normal(dim)
    if dim > 1 and rng.random() < 0.3:
        exact[: dim // 2] = 0.0
    split = int(rng.integers(1, dim)) if dim > 1 and rng.random() < 0.5 else None
    noise = NOISE[kind]

    def blocks(values: Any) -> Any:
        return values if split is None else {"a": values[:split], "b": values[split:]}

    def numpy_gradient(rng: np.random.Generator) -> Any:
        return blocks(exact + scale * noise(np, rng.standard_normal(dim), rng.random(dim)))

    center = torch.tensor(exact, dtype=torch.float64 if seed % 2 else torch.float32)

    def torch_gradient(generator: torch.Generator) -> Any:
        e = torch.randn(dim, generator=generator, dtype=center.dtype)
        return blocks(center + scale * noise(torch, e, torch.rand(dim, generator=generator, dtype=center.dtype)))

    def jax_gradient(key: Any) -> Any:
        first, second = jax.random.split(key)
        e, u = jax.random.normal(first, (dim,)), jax.random.uniform(second, (dim,))
        return blocks(jnp.asarray(exact, e.dtype) + scale * noise(jnp, e, u))

    gradient = {"numpy": numpy_gradient, "torch": torch_gradient, "jax": jax_gradient}[framework]
    return Correct(f"{seed}-{framework}-{kind}-{dim}", gradient, blocks(exact))


def count(seeds: range, *, replicates: int = 2**13, seconds: float = 60.0) -> tuple[Counter[str], list[str]]:
    """Audit the correct gradients; return how often each verdict was given, and those that were called biased."""
    verdicts: Counter[str] = Counter()
    biased: list[str] = []
    for seed in seeds:
        case = correct(seed)
        result = gm.audit(case.gradient, exact=case.exact, replicates=replicates, seconds=seconds, seed=seed)
        verdicts[result.verdict] += 1
        if result.verdict == "biased" or any(row["verdict"] == "biased" for row in result.rows):
            biased.append(f"{case.name}: {result}")
    return verdicts, biased


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    start = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    counts, found = count(range(start, start + number))
    print(dict(counts))
    print("\n".join(found) or "none biased")
    sys.exit(bool(found))
