"""Positive controls: estimators with an injected bug, which the bias verdict must call `biased`.

Each bug is a real mistake, found in public libraries or common in code that accompanies papers.
"""

from gradmeter.bench.controls.injected import (
    DifferentiatedBaseline,
    DifferentiatedSampler,
    InSampleCoefficient,
    MissingPath,
    NaiveExchange,
    OppositeBiases,
    RedrawnFailures,
    SelfIncludedBaseline,
    SquaredModelWeights,
)
from gradmeter.estimators import Estimator

CONTROLS: dict[str, type[Estimator]] = {
    cls.name: cls
    for cls in (
        SelfIncludedBaseline,
        InSampleCoefficient,
        DifferentiatedSampler,
        DifferentiatedBaseline,
        NaiveExchange,
        RedrawnFailures,
        OppositeBiases,
        MissingPath,
        SquaredModelWeights,
    )
}
