"""Stochastic gradient estimators of ∇_λ E_{q_λ(z)}[f_λ(z)], on NumPy, PyTorch and JAX from one source.

An estimator is a pure function of its noise:

    estimator.estimate(backend, expectation, parameters, noise, state) -> {parameter block: [R, *shape]}
"""

from estimators.combined_control_variates import CombinedControlVariates
from estimators.errors import NotApplicable, UsageError
from estimators.estimator import Estimator, Requires
from estimators.evolution_strategies import EvolutionStrategies
from estimators.expectation import Expectation, Integrand
from estimators.families import FAMILIES, Family, Normal, Point
from estimators.importance_sampling import ImportanceSampling, SelfNormalised
from estimators.measure_valued import MeasureValued
from estimators.noise import Noise, draw
from estimators.overdispersed import Overdispersed
from estimators.pathwise import Pathwise
from estimators.price import Price
from estimators.quadratic_surrogate import QuadraticSurrogate
from estimators.rao_blackwell import RaoBlackwell
from estimators.rejection_reparameterisation import RejectionReparameterisation
from estimators.score_function import ScoreFunction
from estimators.spsa import Spsa
from estimators.stratified_pathwise import StratifiedPathwise
from estimators.taylor import Taylor
from estimators.vargrad import VarGrad

ESTIMATORS: dict[str, type[Estimator]] = {
    cls.name: cls
    for cls in (
        ScoreFunction,
        VarGrad,
        RaoBlackwell,
        ImportanceSampling,
        SelfNormalised,
        Overdispersed,
        EvolutionStrategies,
        Spsa,
        Pathwise,
        Taylor,
        Price,
        CombinedControlVariates,
        QuadraticSurrogate,
        MeasureValued,
        RejectionReparameterisation,
        StratifiedPathwise,
    )
}

__all__ = [
    "ESTIMATORS",
    "FAMILIES",
    "CombinedControlVariates",
    "Estimator",
    "EvolutionStrategies",
    "Expectation",
    "Family",
    "ImportanceSampling",
    "Integrand",
    "MeasureValued",
    "Noise",
    "Normal",
    "NotApplicable",
    "Overdispersed",
    "Pathwise",
    "Point",
    "Price",
    "QuadraticSurrogate",
    "RaoBlackwell",
    "RejectionReparameterisation",
    "Requires",
    "ScoreFunction",
    "SelfNormalised",
    "Spsa",
    "StratifiedPathwise",
    "Taylor",
    "UsageError",
    "VarGrad",
    "draw",
]
