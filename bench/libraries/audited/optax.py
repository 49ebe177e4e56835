"""Optax 0.2.4, among the last releases with `optax.monte_carlo`; and its `perturbations.make_perturbed_fun`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradmeter.adapters import jacobians as adapter
from gradmeter.bench.libraries.case import Case

PACKAGES = ("optax", "jax")
S = 8
LOC, LOG_SCALE, K = (0.3, -0.4), (-0.3, 0.2), 2.0
#: E Σ (z − K)², z ~ N(loc, diag σ²); ∇ in loc and log σ.
SQUARE = [[2.0 * (m - K) for m in LOC], [2.0 * float(jnp.exp(2.0 * s)) for s in LOG_SCALE]]
#: Scale of the noise in `make_perturbed_fun`.
SIGMA = 0.5


def square(z: Any) -> Any:
    return ((z - K) ** 2).sum(-1)


def cases() -> Iterator[Case]:
    library = optax.monte_carlo
    for estimator in (library.score_function_jacobians, library.pathwise_jacobians, library.measure_valued_jacobians):
        yield _square(estimator.__name__, estimator)
    for control, kind in ((library.control_delta_method, "score_function"), (library.control_delta_method, "pathwise")):
        estimator = getattr(library, f"{kind}_jacobians")

        def controlled(
            f: Any, params: Any, build: Any, key: Any, samples: int, control: Any = control, estimator: Any = estimator
        ) -> Any:
            return library.control_variates_jacobians(f, control, estimator, params, build, key, samples)[0]

        yield _square(f"control_variates_jacobians({control.__name__}, {kind}_jacobians)", controlled)
    name = f"make_perturbed_fun(sigma={SIGMA:g}, noise=Normal())"
    exact = [2.0 * (m - K) for m in LOC]
    yield Case(name, "E Σ (x + σ z − 2)², z ~ N(0, I)", _perturbed, exact, S, defect="optax_perturbed")


def _square(name: str, estimator: Any) -> Case:
    def make() -> Any:
        return adapter.mean(estimator, square, optax.multi_normal, S), [jnp.asarray(LOC), jnp.asarray(LOG_SCALE)]

    return Case(name, "E Σ (z − 2)², z ~ N(loc, diag σ²)", make, SQUARE, S)


def _perturbed() -> Any:
    smoothed = optax.perturbations.make_perturbed_fun(square, S, SIGMA, optax.perturbations.Normal())
    return lambda x, key: jax.grad(smoothed)(x, key), jnp.asarray(LOC)
