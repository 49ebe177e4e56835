"""`jax.random`: gradients through the samplers of the Gamma distribution and of those that are made from it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from gradmeter.bench.libraries import regimes
from gradmeter.bench.libraries.case import Case, Regime

PACKAGES = ("jax", "jaxlib")
#: On a CPU, samples of the Gamma distribution are made one after another, so there are fewer samples and points here.
SAMPLES, REPLICATES = 64, 2**10
SAMPLERS = (
    ("gamma", regimes.GAMMA, ("0.01", "1", "100000")),
    ("beta", regimes.BETA, ("0.01, 0.01", "1, 1", "3, 100000")),
    ("dirichlet", regimes.DIRICHLET, ("0.01, 0.01, 0.01", "1, 3, 100000")),
    ("t", regimes.STUDENT_T, ("0.1", "5")),
)
#: Where a gradient is known to be wrong -> script.
DEFECTS = {
    Regime("Gamma", "0.01", "log z"): "jax_gamma_log",
    Regime("Beta", "0.01, 0.01", "log z"): "jax_gamma_log",
    Regime("StudentT", "0.1", "z² / (df + z²)"): "jax_student_t",
}


def cases() -> Iterator[Case]:
    for sampler, everywhere, labels in SAMPLERS:
        distribution = dataclasses.replace(everywhere, points={label: everywhere.points[label] for label in labels})
        make = functools.partial(_gradient, getattr(jax.random, sampler), distribution)
        yield from regimes.cases(distribution, f"jax.random.{sampler}", make, SAMPLES, REPLICATES, DEFECTS)


def _gradient(
    sampler: Callable[..., Any], distribution: regimes.Distribution, f: Callable[[Any, Any], Any], at: regimes.Point
) -> Any:
    """Return the gradient of the mean of f(z), and the logarithms of the parameters."""

    def mean(logs: Any, key: Any) -> Any:
        parameters = [jnp.exp(logs[name]) for name in distribution.parameters]
        return f(jnp, sampler(key, *parameters, shape=(SAMPLES,))).mean()

    logs = [jnp.log(jnp.asarray(values, dtype=jnp.float32)) for values in at]
    return jax.grad(mean), dict(zip(distribution.parameters, logs, strict=True))
