"""Stochastic gradient estimators of ∇_λ E_{q_λ(z)}[f_λ(z)], on NumPy, PyTorch and JAX from one source.

An estimator is a pure function of its noise:

    estimator.estimate(backend, expectation, parameters, noise, state) -> {parameter block: [R, *shape]}
"""

from gradmeter.estimators.arm import Arm
from gradmeter.estimators.arms import Arms
from gradmeter.estimators.carms import Carms
from gradmeter.estimators.combined_control_variates import CombinedControlVariates
from gradmeter.estimators.disarm import DisArm
from gradmeter.estimators.double_control_variates import DoubleControlVariates
from gradmeter.estimators.dreg import Dreg
from gradmeter.estimators.enumeration import Enumeration
from gradmeter.estimators.errors import NotApplicable, UsageError
from gradmeter.estimators.estimator import Estimator, Requires
from gradmeter.estimators.evolution_strategies import EvolutionStrategies
from gradmeter.estimators.expectation import Expectation, Integrand
from gradmeter.estimators.families import FAMILIES, Family, FamilyConfig, Normal
from gradmeter.estimators.forward_gradient import ForwardGradient
from gradmeter.estimators.gapped_straight_through import GappedStraightThrough
from gradmeter.estimators.generalised_reparameterisation import GeneralisedReparameterisation
from gradmeter.estimators.gumbel_rao import GumbelRao
from gradmeter.estimators.gumbel_softmax import GumbelSoftmax
from gradmeter.estimators.importance_sampling import ImportanceSampling, SelfNormalised
from gradmeter.estimators.iwae import Iwae, IwaeStickingTheLanding
from gradmeter.estimators.measure_valued import MeasureValued
from gradmeter.estimators.multi_sample_disarm import MultiSampleDisArm
from gradmeter.estimators.muprop import MuProp
from gradmeter.estimators.noise import Noise, draw
from gradmeter.estimators.off_policy import OffPolicy
from gradmeter.estimators.optimal_transport import OptimalTransport
from gradmeter.estimators.overdispersed import Overdispersed
from gradmeter.estimators.partial_iwae import Ciwae, Miwae, Piwae
from gradmeter.estimators.partial_summation import PartialSummation
from gradmeter.estimators.pathwise import Pathwise
from gradmeter.estimators.plugins import Registry
from gradmeter.estimators.policy.policy_gradient import PolicyGradient
from gradmeter.estimators.price import Price
from gradmeter.estimators.quadratic_surrogate import QuadraticSurrogate
from gradmeter.estimators.rao_blackwell import RaoBlackwell
from gradmeter.estimators.rebar import Rebar
from gradmeter.estimators.reinmax import ReinMax
from gradmeter.estimators.rejection_reparameterisation import RejectionReparameterisation
from gradmeter.estimators.relax import Relax
from gradmeter.estimators.rodeo import Rodeo
from gradmeter.estimators.score_function import ScoreFunction
from gradmeter.estimators.spsa import Spsa
from gradmeter.estimators.straight_through import StraightThrough
from gradmeter.estimators.straight_through_gumbel import StraightThroughGumbel
from gradmeter.estimators.stratified_pathwise import StratifiedPathwise
from gradmeter.estimators.taylor import Taylor
from gradmeter.estimators.thermodynamic import Thermodynamic
from gradmeter.estimators.unordered_set import UnorderedSet
from gradmeter.estimators.vargrad import VarGrad
from gradmeter.estimators.vimco import Vimco

_ESTIMATORS: tuple[type[Estimator], ...] = (
    ScoreFunction,
    VarGrad,
    RaoBlackwell,
    ImportanceSampling,
    SelfNormalised,
    OffPolicy,
    Overdispersed,
    EvolutionStrategies,
    Spsa,
    Pathwise,
    ForwardGradient,
    Taylor,
    OptimalTransport,
    Price,
    CombinedControlVariates,
    QuadraticSurrogate,
    MeasureValued,
    RejectionReparameterisation,
    GeneralisedReparameterisation,
    StratifiedPathwise,
    Enumeration,
    PartialSummation,
    Arm,
    DisArm,
    Arms,
    Carms,
    UnorderedSet,
    MuProp,
    DoubleControlVariates,
    Rodeo,
    Rebar,
    Relax,
    GumbelSoftmax,
    StraightThrough,
    StraightThroughGumbel,
    GumbelRao,
    GappedStraightThrough,
    ReinMax,
    Iwae,
    IwaeStickingTheLanding,
    Dreg,
    Miwae,
    Piwae,
    Ciwae,
    Vimco,
    PolicyGradient,
    MultiSampleDisArm,
    Thermodynamic,
)

ESTIMATORS = Registry("estimator", Estimator, {cls.name: cls for cls in _ESTIMATORS})

#: The estimators that "all" stands for: every distinct estimator with the options that define it.
VARIANTS = (
    *(f"score-function[baseline={b}]" for b in ("none", "mean", "optimal", "moving-average", "leave-one-out")),
    "pathwise",
    "pathwise[antithetic=true]",
    "pathwise[sticking-the-landing=true]",
    "pathwise[draws=sobol]",
    "score-function[baseline=mean,draws=sobol]",
    *(f"taylor[hessian={h}]" for h in ("full", "diagonal", "product", "none")),
    "optimal-transport",
    "price",
    "combined-control-variates",
    "combined-control-variates[controls=score]",
    "quadratic-surrogate",
    "quadratic-surrogate[curvature=diagonal]",
    "measure-valued",
    "measure-valued[coupling=false]",
    *(f"score-function[baseline={b}]" for b in ("fitted", "cross-fitted", "input-dependent")),
    *(f"score-function[draws={d}]" for d in ("antithetic", "stratified")),
    *(f"rao-blackwell[baseline={b}]" for b in ("none", "leave-one-out")),
    "importance-sampling",
    "overdispersed",
    "rejection-reparameterisation",
    "generalised-reparameterisation",
    "stratified-pathwise",
    "enumeration",
    "partial-summation",
    "partial-summation[states=2,baseline=summed]",
    "arm",
    "disarm",
    "arms",
    "carms",
    "unordered-set",
    "muprop",
    "muprop[baseline=leave-one-out]",
    "double-control-variates",
    "rodeo",
    "rebar",
    "relax",
    "relax[control=surrogate]",
)
#: The estimators that "all" stands for if the problem is a bound with several importance samples.
BOUNDS = ("iwae", "dreg", "vimco", "vimco[baseline=arithmetic]", "vimco[baseline=none]", "multi-sample-disarm")
#: Estimators that are measured only if they are named, not as part of "all": they duplicate another estimator, are
#: biased by construction, are for policies, need a choice of the user's, vary more than `pathwise` at its cost, or are
#: for bounds, where for one importance sample they equal other estimators.
NAMED_ALONE = (
    "vargrad",
    "forward-gradient",
    "off-policy",
    "self-normalised",
    "evolution-strategies",
    "spsa",
    "gumbel-softmax",
    "straight-through",
    "straight-through-gumbel",
    "gumbel-rao",
    "gapped-straight-through",
    "reinmax",
    "iwae",
    "iwae-stl",
    "dreg",
    "miwae",
    "piwae",
    "ciwae",
    "vimco",
    "policy-gradient",
    "multi-sample-disarm",
    "thermodynamic",
)

__all__ = [
    "BOUNDS",
    "ESTIMATORS",
    "FAMILIES",
    "NAMED_ALONE",
    "VARIANTS",
    "Arm",
    "Arms",
    "Carms",
    "Ciwae",
    "CombinedControlVariates",
    "DisArm",
    "DoubleControlVariates",
    "Dreg",
    "Enumeration",
    "Estimator",
    "EvolutionStrategies",
    "Expectation",
    "Family",
    "FamilyConfig",
    "ForwardGradient",
    "GappedStraightThrough",
    "GeneralisedReparameterisation",
    "GumbelRao",
    "GumbelSoftmax",
    "ImportanceSampling",
    "Integrand",
    "Iwae",
    "IwaeStickingTheLanding",
    "MeasureValued",
    "Miwae",
    "MuProp",
    "MultiSampleDisArm",
    "Noise",
    "Normal",
    "NotApplicable",
    "OffPolicy",
    "OptimalTransport",
    "Overdispersed",
    "PartialSummation",
    "Pathwise",
    "Piwae",
    "PolicyGradient",
    "Price",
    "QuadraticSurrogate",
    "RaoBlackwell",
    "Rebar",
    "ReinMax",
    "RejectionReparameterisation",
    "Relax",
    "Requires",
    "Rodeo",
    "ScoreFunction",
    "SelfNormalised",
    "Spsa",
    "StraightThrough",
    "StraightThroughGumbel",
    "StratifiedPathwise",
    "Taylor",
    "Thermodynamic",
    "UnorderedSet",
    "UsageError",
    "VarGrad",
    "Vimco",
    "draw",
]
