"""Log densities as sums of terms, from which a problem builds its log joint density.

Parameters named `x`, `log_scale`, ... are predictors, others are numbers, one or one per row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.problems.posteriors.links import SOFTPLUS
from gradmeter.bench.problems.posteriors.predictor import Predictor
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.estimators.options import option


@dataclass(frozen=True, eq=False)
class Addend:
    """weight · Π factors · exp(exponent) · h(argument) for every row, every part of which may be absent.

    Without any part the weight itself is added. With `log_scale`, the argument is multiplied by exp(log_scale); there
    are no other parts then, and h is softplus.
    """

    weight: Any = 1.0
    factors: tuple[Predictor, ...] = ()
    exponent: Predictor | None = None
    link: str | None = None
    argument: Predictor | None = None
    log_scale: Predictor | None = None

    def named(self) -> Iterable[Predictor]:
        """Return the predictors that the addend is made of."""
        return (*self.factors, *(p for p in (self.exponent, self.argument, self.log_scale) if p is not None))


Addends = list[Addend]


def parameterisation_option() -> Any:
    """Declare the option `parameterisation` of a model with a location and a scale of its local latents."""
    return option("centred", "local latents: as they are, or standardised, N(0, 1)", choices=("centred", "non-centred"))


def normal(x: Predictor, scale: Any = 1.0) -> Addends:
    """Return log N(x; 0, scale²)."""
    standard = x / scale
    constant = np.zeros(len(standard)) - np.log(scale) - 0.5 * LOG_2PI
    return [Addend(-0.5, (standard, standard)), Addend(constant)]


def normal_of_scale(x: Predictor, log_scale: Predictor) -> Addends:
    """Return log N(x; 0, exp(2 log_scale))."""
    constant = np.full(len(x), -0.5 * LOG_2PI)
    return [Addend(-0.5, (x, x), exponent=-2.0 * log_scale), Addend(-1.0, (log_scale,)), Addend(constant)]


def noncentred_normal(x: Predictor, y: Predictor, log_factor: Predictor, log_scale: Predictor | None = None) -> Addends:
    """Return log N(x; exp(log_factor) y, exp(2 log_scale)), with the square expanded.

    Parameters
    ----------
    x
        Predictor of the variable.
    y
        Predictor of the variable that is scaled.
    log_factor
        Predictor of the logarithm of its factor.
    log_scale
        Predictor of log σ; 0 if absent.
    """
    constant = Addend(np.full(len(x), -0.5 * LOG_2PI))
    if log_scale is None:
        exponents: list[Any] = [None, log_factor, 2.0 * log_factor]
        more = [constant]
    else:
        exponents = [power * log_factor - 2.0 * log_scale for power in (0.0, 1.0, 2.0)]
        more = [constant, Addend(-1.0, (log_scale,))]
    squares = zip((-0.5, 1.0, -0.5), ((x, x), (x, y), (y, y)), exponents, strict=True)
    return [*(Addend(weight, factors, exponent) for weight, factors, exponent in squares), *more]


def half_normal(log_x: Predictor, scale: float) -> Addends:
    """Return the log density of log x for x half-normal: N(x; 0, scale²) restricted to x > 0."""
    relative = log_x + -math.log(scale)
    constant = np.full(len(log_x), math.log(2.0) - 0.5 * LOG_2PI)
    return [Addend(-0.5, exponent=2.0 * relative), Addend(1.0, (relative,)), Addend(constant)]


def half_cauchy(log_x: Predictor, scale: float | Predictor) -> Addends:
    """Return the log density of log x for x half-Cauchy: 2/(π scale (1 + (x/scale)²)).

    A `scale` that is a predictor is the logarithm of the scale.
    """
    relative = log_x - scale if isinstance(scale, Predictor) else log_x + -math.log(scale)
    constant = np.full(len(log_x), math.log(2.0 / math.pi))
    return [Addend(-1.0, link=SOFTPLUS, argument=2.0 * relative), Addend(1.0, (relative,)), Addend(constant)]


def bernoulli(predictor: Predictor, y: np.ndarray) -> Addends:
    """Return log Bernoulli(y; sigmoid(predictor))."""
    return [Addend(y, (predictor,)), Addend(-1.0, link=SOFTPLUS, argument=predictor)]
