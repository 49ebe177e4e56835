"""Pathwise estimator with a control variate from a quadratic fitted to f.

Approximates   ∇_λ E_{q_λ}[f(z)],     q_λ a Normal
with           pathwise(∇f(z) − b − B (z − loc)) + bonnet_price(b, B)
requires       f differentiable; z = loc + L ε with Gaussian noise. Costs no more evaluations than pathwise.

b and B are fitted by least squares to ∇f at the samples of a warm-up, then frozen. They are independent of the samples
they are applied to, so the estimate is unbiased whatever they are. With b = 0 and B = 0 it is pathwise.

Source: Geffner & Domke 2020, who learn the quadratic along an optimisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, WarmupContext, check_learnt
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.options import option
from gradmeter.estimators.quadratics import bent, check_hessian, finish

CURVATURES = ("full", "diagonal")


@dataclass(frozen=True)
class QuadraticSurrogate(Estimator):
    """The quadratic-surrogate estimator; `curvature` tells whether B is any symmetric matrix or a diagonal one."""

    name: ClassVar[str] = "quadratic-surrogate"
    summary: ClassVar[str] = "pathwise, less that of a quadratic fitted on a warm-up, whose expectation is known"
    requires: ClassVar[Requires] = Requires(("pathwise", "bonnet_price"), ("gradient",))

    curvature: str = option("full", "how the quadratic bends", choices=CURVATURES)

    def also_requires(self, entropy: str) -> Requires:
        return Requires(("score",) if entropy == "sampled" else ())

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        check_hessian(self.name, dimension)

    def fit(self, known: WarmupContext) -> Blocks:
        assert known.pilot is not None
        backend, expectation, parameters, noise = known.pilot()
        z = expectation.family.sample(backend, parameters, noise)
        slope = backend.to_numpy(expectation.integrand_gradient(backend, z, noise))
        offset = backend.to_numpy(z - parameters["loc"])
        check_learnt(self.name, slope, offset)
        return fitted(offset.reshape(-1, z.shape[-1]), slope.reshape(-1, z.shape[-1]), self.curvature)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        family = expectation.family
        z = family.sample(backend, parameters, noise)
        slope = expectation.integrand_gradient(backend, z, noise)
        rest = slope - state["slope"] - bent(backend.xp, state["curvature"][None, None, ...], z - parameters["loc"])
        gradients = family.pathwise(backend, parameters, noise, z, rest)
        left = finish(backend, expectation, parameters, noise, z, gradients)
        known = family.bonnet_price(backend, parameters, state["slope"], state["curvature"])
        return {name: gradient + known[name] for name, gradient in left.items()}


def fitted(offset: np.ndarray, slope: np.ndarray, curvature: str) -> Blocks:
    """Fit b [D] and a symmetric B [D, D] by least squares to slopes [N, D] at offsets [N, D].

    The matrix of the unconstrained regression is replaced by its symmetric part.
    """
    away, bend = offset - offset.mean(axis=0), slope - slope.mean(axis=0)
    if curvature == "diagonal":
        size = (away * away).sum(axis=0)
        matrix = np.diag((away * bend).sum(axis=0) / np.where(size > 0.0, size, 1.0))
    else:
        found = np.linalg.lstsq(away, bend, rcond=None)[0]
        matrix = 0.5 * (found + found.T)
    return {"slope": slope.mean(axis=0) - offset.mean(axis=0) @ matrix, "curvature": matrix}
