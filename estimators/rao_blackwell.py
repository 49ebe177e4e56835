"""Rao-Blackwellised score function: for each coordinate, only the terms of f that contain it.

Approximates   ∇_{λ_i} E_{q_λ}[f(z)],  q_λ(z) = Π_i q(z_i; λ_i)
with           (1/S) Σ_s (f_i(z_s) − b) ∇_{λ_i} log q(z_{s,i}; λ_i),     f_i the terms of f that contain z_i
requires       independent coordinates with parameters of their own; `local_terms` of f, otherwise f is one term.

The other terms are independent of the score of z_i, which has mean 0, so they only add variance. f_i contains the
factors in the Markov blanket of z_i; of a sampled entropy, only −log q(z_i). If every term contains every coordinate (a
likelihood of xᵀz), only the prior and the entropy are reduced. The variance is certain to fall if the terms are
independent. Near a fitted posterior the whole of f is nearly constant and its parts are not, so with a baseline the
plain estimator may be better.

Source: Ranganath et al. 2014, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.options import option
from gradmeter.estimators.score_function import FROM_OTHERS, check_baseline, combine


@dataclass(frozen=True)
class RaoBlackwell(Estimator):
    """The Rao-Blackwellised score function, whose `baseline` is made from f_i for each coordinate."""

    name: ClassVar[str] = "rao-blackwell"
    summary: ClassVar[str] = "score function with, for each coordinate, only the terms of f that contain it"
    requires: ClassVar[Requires] = Requires(("score", "score_identity", "log_densities"))

    baseline: str = option("none", "what is subtracted", choices=("none", *FROM_OTHERS))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        check_baseline(self.baseline, num_samples)

    def smallest_num_samples(self) -> int:
        return FROM_OTHERS.get(self.baseline, 1)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        z = expectation.family.sample(backend, parameters, noise)
        logs = expectation.family.logs(backend, parameters, noise)
        terms = expectation.local_terms(backend, parameters, z, noise, *logs)
        score = expectation.family.score(backend, parameters, z, *logs)
        return combine(backend, self.baseline, terms, score, state)
