"""CARMS: ARMS for choices among any number of categories, by breaking a stick.

Approximates   ∇_λ E_{q_λ}[f(z)],  z one-hot with probabilities softmax(ℓ) = p, choices independent
with           1/(S(S − 1)) Σ_{s≠t} (f(z_s) − f(z_t)) p(z_s) p(z_t)/P(z_s, z_t) z_s for ℓ,     choice by choice,
               P(a, b) the probability that two samples choose a and b
requires       one-hot choices with logits ℓ; nothing of f; at least two samples.

The categories of a choice come in rising order of probability. A sample takes category k, if it took none before, with
probability π_k = p_k/Σ_{j≥k} p_j: it compares π_k with a uniform number of ARMS's Dirichlet copula, which is drawn for
each category apart. With n_k = π_k − max(0, 2 π_k^(1/(S−1)) − 1)^(S−1), the probability that of two samples that come
to k the first takes it and the second does not, and a the earlier one of two categories,

    p_a p_b/P(a, b) = π_a (1 − π_a)/n_a · Π_{k<a} (1 − π_k)²/(1 − π_k − n_k)

in closed form. The rising order bounds these factors: π_k ≤ ½ before the last category, and π_k ≤ ⅓ where k < a, so no
pair of categories has probability 0, as it may with one uniform number and the inverse CDF. Given that two samples
choose a and b, the other choices of each have the distribution q, so the weighted pairs are unbiased. The terms of two
samples with the same category cancel. Independent samples have ratios of 1 and make leave-one-out; for two categories
the estimator is ARMS.

Sources: Dimitriev & Zhou 2021 (CARMS); stick-breaking pairs: Dong, Mnih & Tucker 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.arms import MutuallyAntithetic, differing, log_copula
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Requires, dtype_of
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families.logs import softmax


@dataclass(frozen=True)
class Carms(MutuallyAntithetic):
    """The CARMS estimator with stick-breaking and the Dirichlet copula."""

    name: ClassVar[str] = "carms"
    summary: ClassVar[str] = "pairs of mutually antithetic one-hot samples, weighted as if they were independent"
    requires: ClassVar[Requires] = Requires(("one_hot",))

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        xp, family, copula = backend.xp, expectation.family, noise["copula"]
        order = _order(backend, parameters["logits"], dtype_of(copula))
        taken, rest = _sticks(backend, parameters["logits"], order)
        uniform = xp.exp(family.by_choice(xp, log_copula(xp, copula)))
        z = _first(xp, uniform < taken, order)
        samples = family.side_by_side(xp, z)
        value, size = expectation.value(backend, parameters, samples, noise), samples.shape[1]
        away = value - xp.mean(value, axis=1, keepdims=True)
        count, total = xp.sum(z, axis=1), xp.sum(z * away[..., None, None], axis=1)
        ratio = _ratios(xp, taken, rest, order, size)
        gradient = total * _times(xp, count, ratio) - count * _times(xp, total, ratio)
        weights = xp.zeros_like(value) + 1.0 / size
        return {"logits": gradient / (size * (size - 1.0))}, samples, weights


def _order(backend: Backend, logits: Array, dtype: str) -> Array:
    """Return 1 at [..., j, k] where category j comes before category k, in rising order of logits, else 0."""
    xp, place = backend.xp, backend.asarray(range(logits.shape[-1]), None)
    left, right = logits[..., :, None], logits[..., None, :]
    return xp.astype((left < right) | ((left == right) & (place[:, None] < place)), getattr(xp, dtype))


def _sticks(backend: Backend, logits: Array, order: Array) -> tuple[Array, Array]:
    """Return π_k and 1 − π_k [..., K]; a probability that is 0 in floating point is replaced by a positive one."""
    xp, p = backend.xp, softmax(backend.xp, logits)
    tiny = float(xp.finfo(p.dtype).smallest_normal)
    p = xp.where(p > tiny, p, xp.full_like(p, tiny))
    later = xp.matmul(order, p[..., None])[..., 0]
    return p / (p + later), later / (p + later)


def _first(xp: Array, passed: Array, order: Array) -> Array:
    """Return the first category of each sample that passed, one-hot; the last category always passes."""
    last = xp.sum(order, axis=-1) < 0.5
    passed = xp.astype(passed | last, order.dtype)
    return passed * xp.astype(_times(xp, passed, order) < 0.5, order.dtype)


def _ratios(xp: Array, taken: Array, rest: Array, order: Array, size: int) -> Array:
    """Return p_a p_b/P(a, b) [..., K, K], and 0 for a = b.

    Of the last category neither factor is needed, of the one before it no second factor; both may be 0/0.
    """
    later = xp.sum(order, axis=-1)
    half = xp.full_like(taken, 0.5)
    taken, rest = xp.where(later > 0.5, taken, half), xp.where(later > 0.5, rest, half)
    one = differing(xp, taken, size)
    neither = xp.where(later > 1.5, (rest - one) / rest**2, xp.ones_like(rest))
    ends = taken * rest / one * xp.exp(-_times(xp, xp.log(neither), order))
    pairs = order * ends[..., :, None]
    return pairs + xp.matrix_transpose(pairs)


def _times(xp: Array, rows: Array, matrix: Array) -> Array:
    """Return the product of rows [..., K] and a matrix [..., K, K]."""
    return xp.matmul(rows[..., None, :], matrix)[..., 0, :]
