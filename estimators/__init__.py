"""Stochastic gradient estimators of ∇_λ E_{q_λ(z)}[f_λ(z)], on NumPy, PyTorch and JAX from one source.

An estimator is a pure function of its noise:

    estimator.estimate(backend, expectation, parameters, noise, state) -> {parameter block: [R, *shape]}
"""

from estimators.combined_control_variates import CombinedControlVariates
from estimators.errors import NotApplicable, UsageError
from estimators.estimator import Estimator, Requires
from estimators.expectation import Expectation, Integrand
from estimators.families import FAMILIES, Family, Normal, Point
from estimators.measure_valued import MeasureValued
from estimators.noise import Noise, draw
from estimators.pathwise import Pathwise
from estimators.price import Price
from estimators.quadratic_surrogate import QuadraticSurrogate
from estimators.score_function import ScoreFunction
from estimators.taylor import Taylor

ESTIMATORS: dict[str, type[Estimator]] = {
    cls.name: cls
    for cls in (
        ScoreFunction,
        Pathwise,
        MeasureValued,
        Taylor,
        Price,
        CombinedControlVariates,
        QuadraticSurrogate,
    )
}

__all__ = [
    "ESTIMATORS",
    "FAMILIES",
    "CombinedControlVariates",
    "Estimator",
    "Expectation",
    "Family",
    "Integrand",
    "MeasureValued",
    "Noise",
    "Normal",
    "NotApplicable",
    "Pathwise",
    "Point",
    "Price",
    "QuadraticSurrogate",
    "Requires",
    "ScoreFunction",
    "Taylor",
    "UsageError",
    "draw",
]
