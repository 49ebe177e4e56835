"""Pathwise estimator with several control variates, combined by regression.

Approximates   ∇_λ E_{q_λ}[f_λ(z)],     q_λ a Normal
with           pathwise − Σ_c a_c c(ε),     E c(ε) = 0 for every c, a_c for each coordinate of λ
requires       f twice differentiable (for controls=score: once).

The coefficients come from a least-squares regression of pathwise estimates on the control variates over a warm-up, and
are then frozen. So they are independent of the samples they are applied to, and the estimate is unbiased.

Source: Geffner & Domke 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, WarmupContext, check_learnt, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.options import option
from gradmeter.estimators.quadratics import bent, centre, check_hessian, finish, hessian

CONTROLS = ("all", "score", "taylor")


@dataclass(frozen=True)
class CombinedControlVariates(Estimator):
    """The combined-control-variates estimator.

    `controls=score` uses ∇_λ log q_λ(z), which is also the difference between pathwise with and without sticking the
    landing. `controls=taylor` uses the two terms of `taylor[hessian=full]`, from ∇f(loc) and from H (z − loc), each
    with its own coefficient. `controls=all` uses all three.
    """

    name: ClassVar[str] = "combined-control-variates"
    summary: ClassVar[str] = "pathwise, less control variates with coefficients by regression on a warm-up"
    requires: ClassVar[Requires] = Requires(("pathwise", "bonnet_price"), ("gradient",))

    controls: str = option("all", "which control variates are combined", choices=CONTROLS)

    def also_requires(self, entropy: str) -> Requires:
        score = entropy == "sampled" or self.controls != "taylor"
        product = () if self.controls == "score" else ("hessian_product",)
        return Requires(("score", "score_identity") if score else (), product)

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if self.controls != "score":
            check_hessian(self.name, dimension)

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return num_samples + (0 if self.controls == "score" else 1 + 2 * dimension)

    def fit(self, known: WarmupContext) -> Blocks:
        assert known.pilot is not None
        backend, expectation, parameters, noise = known.pilot()
        plain, controls = self._terms(backend, expectation, parameters, noise)
        check_learnt(self.name, *(backend.to_numpy(g) for blocks in (plain, *controls) for g in blocks.values()))
        return {
            f"coefficient_{name}": regression(
                backend.to_numpy(gradient), np.stack([backend.to_numpy(control[name]) for control in controls])
            )
            for name, gradient in plain.items()
        }

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        gradients, controls = self._terms(backend, expectation, parameters, noise)
        for place, control in enumerate(controls):
            gradients = {
                name: gradient - state[f"coefficient_{name}"][place, ...] * control[name]
                for name, gradient in gradients.items()
            }
        return gradients

    def _terms(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]
    ) -> tuple[Blocks, list[Blocks]]:
        """Return the pathwise estimate, and the control variates of expectation 0: [R, *shape] by parameter block."""
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        slope = expectation.integrand_gradient(backend, z, noise)
        gradients = family.pathwise(backend, parameters, noise, z, slope)
        controls: list[Blocks] = []
        if self.controls != "taylor":
            score = family.score(backend, parameters, z)
            controls.append({name: mean_over_samples(xp, s) for name, s in score.items()})
        if self.controls != "score":
            at = centre(backend, expectation, parameters, z)
            there = expectation.integrand_gradient(backend, at, noise)
            matrix = hessian(backend, expectation, at, noise)
            flat, level = xp.zeros_like(matrix), xp.zeros_like(there)
            fixed = xp.broadcast_to(there, z.shape)
            curved = bent(xp, matrix, z - parameters["loc"])
            for model, b, h in ((fixed, there, flat), (curved, level, matrix)):
                moved = family.pathwise(backend, parameters, noise, z, model)
                expected = family.bonnet_price(backend, parameters, b, h)
                controls.append({n: mean_over_samples(xp, g) - expected[n][:, 0, ...] for n, g in moved.items()})
        return finish(backend, expectation, parameters, noise, z, gradients), controls


def regression(gradient: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Regress gradients [W, *shape] on controls [C, W, *shape], one regression per coordinate.

    The result is the minimum-norm solution: a control variate that is constant gets coefficient 0, and collinear ones
    share theirs.

    Returns
    -------
    ndarray
        Coefficients [C, *shape].
    """
    g = gradient - gradient.mean(axis=0)
    c = controls - controls.mean(axis=1, keepdims=True)
    size = np.sqrt((c * c).mean(axis=1))  # [C, *shape]
    # Variation at the level of rounding counts as constant.
    constant = size <= 1e-12 * (np.abs(controls).max(axis=1) + np.sqrt((g * g).mean(axis=0)))
    unit = np.where(constant[:, None], 0.0, c / np.where(constant, 1.0, size)[:, None])
    gram = np.einsum("cw...,dw...->...cd", unit, unit) / len(g)
    cross = np.einsum("cw...,w...->...c", unit, g) / len(g)
    found = np.linalg.pinv(gram, rcond=1e-8, hermitian=True) @ cross[..., None]
    return np.asarray(np.moveaxis(found[..., 0], -1, 0) / np.where(constant, 1.0, size))
