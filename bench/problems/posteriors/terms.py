"""Terms of a log joint density: functions F of a few predictors p = A z + c, elementwise over rows.

A term states the partial derivatives of F once. From them follow f and its derivatives at samples, and their
expectations under p ~ N(m, C), so that the exact gradient cannot contradict the integrand.
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Array
from gradmeter.bench.problems.posteriors.links import POLE, SOFTPLUS, Argument
from gradmeter.bench.problems.quadrature import normal_expectations

#: Binary logarithm of the deviation above which a Normal is smooth on the scale of softplus, and the argument at which
#: softplus has reached its asymptotes.
WIDE, VANISHED = 4, 40.0
#: Predictors in which to differentiate, in ascending order: (0, 0, 2) is ∂³/∂p_0² ∂p_2.
Along = tuple[int, ...]


class Sampled:
    """Predictors at samples, and functions of them that several terms may share, each computed once."""

    def __init__(self, xp: Any, values: Sequence[Array]) -> None:
        self._xp, self.values = xp, values
        self._exponentials: dict[int, Array] = {}
        self._arguments: dict[int, Argument] = {}

    def exp(self, p: int) -> Array:
        """Return the exponential of predictor p."""
        if p not in self._exponentials:
            self._exponentials[p] = self._xp.exp(self.values[p])
        return self._exponentials[p]

    def argument(self, p: int) -> Argument:
        """Return predictor p as an argument of links."""
        if p not in self._arguments:
            self._arguments[p] = Argument(self._xp, self.values[p])
        return self._arguments[p]


class Term(ABC):
    """Base class of terms; concrete terms are frozen dataclasses of numbers of predictors."""

    #: The source of the expectations, as in `Exact.source`.
    source: str

    @property
    @abstractmethod
    def reads(self) -> Along:
        """The predictors that F depends on, ascending."""

    @abstractmethod
    def sampled(self, xp: Any, predictors: Sampled, order: int) -> dict[Along, Array]:
        """Return the partial derivatives of F of an order from 0 to 2, elementwise; those that are 0 are left out."""

    @abstractmethod
    def expected(self, mean: np.ndarray, covariance: np.ndarray) -> dict[Along, np.ndarray]:
        """Return the expectations [n] of F and of its partial derivatives of order 1, 2 and 4.

        A derivative that is absent is 0, or mixed and of order 4 where no coordinate of z has two predictors of F.

        Parameters
        ----------
        mean : [m, n]
            Mean of the m predictors, per row.
        covariance : [m, m, n]
            Their covariance, per row.
        """


def all_along(predictors: Along, *orders: int) -> list[Along]:
    """Return all derivatives of these orders in these predictors."""
    found: list[Along] = []
    for order in orders:
        found += itertools.combinations_with_replacement(predictors, order)
    return found


@dataclass(frozen=True)
class Product(Term):
    """F = Π factors · exp(exponent) · h(argument), every part of which may be absent.

    Under a Normal, exp(ℓ) is a change of measure: E[g e^ℓ] = E[e^ℓ] E g for p ~ N(m + C_ℓ, C). Then Stein's
    E[x g] = m_x E g + Σ_j C_xj E ∂_j g removes one factor after another; a one-dimensional integral E h⁽ᵏ⁾ is left.

    Attributes
    ----------
    factors
        Numbers of predictors, ascending; one that occurs twice is squared.
    exponent, argument
        Numbers of predictors, or None.
    link
        Name of h in `links`; None without an argument.
    """

    factors: Along = ()
    exponent: int | None = None
    argument: int | None = None
    link: str | None = None

    @property
    def source(self) -> str:  # type: ignore[override]
        return "closed-form" if self.link is None else "quadrature"

    @property
    def reads(self) -> Along:
        more = {p for p in (self.exponent, self.argument) if p is not None}
        return tuple(sorted({*self.factors, *more}))

    def sampled(self, xp: Any, predictors: Sampled, order: int) -> dict[Along, Array]:
        def evaluate(factors: Along, link_order: int) -> Array:
            parts = [predictors.values[p] for p in factors]
            if self.exponent is not None:
                parts.append(predictors.exp(self.exponent))
            if self.link is not None and self.argument is not None:
                parts.append(predictors.argument(self.argument).derivative(self.link, link_order))
            return functools.reduce(lambda a, b: a * b, parts) if parts else xp.ones_like(predictors.values[0])

        return self._collected(all_along(self.reads, order), evaluate)

    def expected(self, mean: np.ndarray, covariance: np.ndarray) -> dict[Along, np.ndarray]:
        size = np.ones(mean.shape[1])
        if self.exponent is not None:
            size = np.exp(mean[self.exponent] + 0.5 * covariance[self.exponent, self.exponent])
            mean = mean + covariance[self.exponent]
        links = [size] if self.link is None else [size * h for h in self._link_moments(mean, covariance)]

        @functools.cache
        def moment(factors: Along, order: int) -> np.ndarray:
            """Return E[Π factors · h⁽ᵒʳᵈᵉʳ⁾] times E exp(exponent)."""
            if not factors:
                return links[order]
            x, rest = factors[0], factors[1:]
            found = mean[x] * moment(rest, order)
            if self.argument is not None:
                found = found + covariance[x, self.argument] * moment(rest, order + 1)
            for y, count in Counter(rest).items():
                found = found + count * covariance[x, y] * moment(_without(rest, y), order)
            return found

        return self._collected(all_along(self.reads, 0, 1, 2, 4), moment)

    def _link_moments(self, mean: np.ndarray, covariance: np.ndarray) -> list[np.ndarray]:
        """Return E h⁽ᵏ⁾ for the orders k that four derivatives and the factors need."""
        link, v, highest = self.link or "", self.argument or 0, 4 + len(self.factors)

        def functions(t: np.ndarray, _: np.ndarray) -> dict[Any, np.ndarray]:
            at = Argument(np, t)
            return {order: at.derivative(link, order) for order in range(highest + 1)}

        found = normal_expectations(functions, mean[v], np.sqrt(covariance[v, v]), mean[v], POLE)
        return [found[k] for k in range(highest + 1)]

    def _collected(self, wanted: list[Along], evaluate: Callable[[Along, int], Any]) -> dict[Along, Any]:
        """Return every derivative as the sum of its monomials; those that are identically 0 are left out."""
        found = {}
        for along in wanted:
            monomials = _derivative(self, along)
            parts = [evaluate(*state) if count == 1 else count * evaluate(*state) for state, count in monomials]
            if parts:
                found[along] = functools.reduce(lambda a, b: a + b, parts)
        return found


@functools.cache
def _derivative(term: Product, along: Along) -> tuple[tuple[tuple[Along, int], int], ...]:
    """Return a derivative as pairs of (factors left, order of h) and a whole coefficient."""
    states: Counter[tuple[Along, int]] = Counter({(term.factors, 0): 1})
    for p in along:
        moved: Counter[tuple[Along, int]] = Counter()
        for (factors, order), count in states.items():
            if p in factors:
                moved[_without(factors, p), order] += count * factors.count(p)
            if p == term.exponent:
                moved[factors, order] += count
            if p == term.argument:
                moved[factors, order + 1] += count
        states = moved
    return tuple(states.items())


def _without(factors: Along, p: int) -> Along:
    """Return the factors with one occurrence of p removed."""
    place = factors.index(p)
    return factors[:place] + factors[place + 1 :]


@dataclass(frozen=True)
class ScaledSoftplus(Term):
    """F = log(1 + exp(v)) with v = exp(log_scale) · argument.

    Given log_scale, v is Normal; the expectation is a quadrature of quadratures. As a function of log_scale, the inner
    one has its nearest poles at ± iπ/2.
    """

    log_scale: int
    argument: int
    source = "quadrature"

    @property
    def reads(self) -> Along:
        return (self.log_scale, self.argument) if self.log_scale < self.argument else (self.argument, self.log_scale)

    def _monomials(self, along: Along) -> tuple[int, dict[int, int]]:
        """Return p and {k: c}: the derivative is exp(p log_scale) Σ_k c v^k h⁽ᵖ⁺ᵏ⁾(v), with h the softplus.

        p is the number of derivatives in the argument. Those in log_scale apply v d/dv + p.
        """
        power, coefficients = along.count(self.argument), {0: 1}
        for _ in range(len(along) - power):
            moved: Counter[int] = Counter()
            for k, c in coefficients.items():
                moved[k] += (k + power) * c
                moved[k + 1] += c
            coefficients = {k: c for k, c in moved.items() if c}
        return power, coefficients

    def _partial(self, along: Along, v: Array, h: Callable[[int], Array]) -> Array:
        """Return a derivative without the factor exp(p log_scale); h(k) is the k-th derivative of softplus at v."""
        power, coefficients = self._monomials(along)
        parts = [c * functools.reduce(lambda a, b: a * b, [v] * k, h(power + k)) for k, c in coefficients.items()]
        return functools.reduce(lambda a, b: a + b, parts)

    def sampled(self, xp: Any, predictors: Sampled, order: int) -> dict[Along, Array]:
        scale = predictors.exp(self.log_scale)
        v = scale * predictors.values[self.argument]
        h = _softplus(xp, v)
        found = {along: self._partial(along, v, h) for along in all_along(self.reads, order)}
        for along in found:
            for _ in range(along.count(self.argument)):
                found[along] = found[along] * scale
        return found

    def expected(self, mean: np.ndarray, covariance: np.ndarray) -> dict[Along, np.ndarray]:
        a, x = self.log_scale, self.argument
        slope = covariance[a, x] / covariance[a, a]
        left = np.sqrt(np.maximum(covariance[x, x] - slope * covariance[a, x], 0.0))

        def given(log_scale: np.ndarray, rows: np.ndarray) -> dict[Along, np.ndarray]:
            """Return the expectations given log_scale [n, K]; `rows` [n, 1] are the numbers of the rows."""
            row = rows.astype(int)
            scale = np.exp(log_scale)
            centre = scale * (mean[x][row] + slope[row] * (log_scale - mean[a][row]))
            found = self._over_normal(np.ravel(centre), np.ravel(scale * left[row]))
            return {along: np.reshape(values, scale.shape) * scale ** along.count(x) for along, values in found.items()}

        return normal_expectations(given, mean[a], np.sqrt(covariance[a, a]), np.arange(mean.shape[1]), 0.5 * math.pi)

    def _over_normal(self, mean: np.ndarray, deviation: np.ndarray) -> dict[Along, np.ndarray]:
        """Return E of the partial derivatives without their factors exp(p log_scale), for v ~ N(mean, deviation²).

        The number of nodes grows with the deviation, so that rows of like deviation are computed together.
        """
        wanted = [*all_along(self.reads, 0, 1, 2), (self.log_scale,) * 4, (self.argument,) * 4]
        found = {along: np.empty_like(mean) for along in wanted}

        def functions(v: np.ndarray, _: np.ndarray) -> dict[Along, np.ndarray]:
            h = _softplus(np, v)
            return {along: self._partial(along, v, h) for along in wanted}

        size = np.clip(np.ceil(np.log2(np.maximum(deviation, 1e-300))), 0, WIDE + 1)
        for each in np.unique(size):
            rows = size == each
            if each <= WIDE:
                part = normal_expectations(functions, mean[rows], deviation[rows], mean[rows], POLE)
            else:
                part = {along: self._over_wide_normal(along, mean[rows], deviation[rows]) for along in wanted}
            for along, values in part.items():
                found[along][rows] = values
        return found

    def _over_wide_normal(self, along: Along, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Return one such expectation where the Normal is smooth on the scale of softplus.

        Softplus is max(v, 0) + r(|v|), with r(u) = log(1 + exp(−u)) and its derivatives vanishing for large u.
        """
        from scipy.special import ndtr  # slow to import

        nodes, weights = np.polynomial.legendre.leggauss(16)
        panels = np.arange(0.0, VANISHED, 4.0)[:, None]
        u = np.ravel(panels + 2.0 * (nodes + 1.0))
        v, weight = np.concatenate([-u, u]), np.tile(2.0 * np.tile(weights, len(panels)), 2)
        asymptotes, softplus = (np.maximum(v, 0.0), v > 0.0, 0.0, 0.0, 0.0), _softplus(np, v)
        local = weight * self._partial(along, v, lambda order: softplus(order) - asymptotes[order])
        standard = (v - mean[:, None]) / deviation[:, None]
        density = np.exp(-0.5 * standard**2) / (math.sqrt(2.0 * math.pi) * deviation[:, None])
        ratio = mean / deviation
        above = ndtr(ratio)
        positive = mean * above + deviation * np.exp(-0.5 * ratio**2) / math.sqrt(2.0 * math.pi)
        power, coefficients = self._monomials(along)
        # The monomials that do not vanish: h and v h' tend to max(v, 0), h' to 1[v > 0].
        rest = sum(c for k, c in coefficients.items() if power + k <= 1)
        return density @ local + rest * (above if power else positive)


def _softplus(xp: Any, v: Array) -> Callable[[int], Array]:
    """Return the function order -> derivative of softplus at v."""
    at = Argument(xp, v)
    return lambda order: at.derivative(SOFTPLUS, order)
