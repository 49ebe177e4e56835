"""Measure stochastic gradient estimators: is it unbiased, how large is its variance, what does it cost?

    import gradmeter
    gradmeter.measure("cosine[k=2.5]", ["pathwise", "score-function[baseline=optimal]"], backend="jax")

`gradmeter.estimators` holds what a gradient estimator is, `gradmeter.bench` what measures one. The names below are
imported from there on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradmeter.bench.advising.advising import advise
    from gradmeter.bench.api import Model, check, measure, minibatch_split
    from gradmeter.bench.audit.auditing import audit
    from gradmeter.bench.problems.log_density import density_model
    from gradmeter.bench.problems.problem import Exact, Problem
    from gradmeter.estimators.errors import NotApplicable, UsageError
    from gradmeter.estimators.estimator import Estimator, Requires
    from gradmeter.estimators.expectation import Expectation, Integrand
    from gradmeter.estimators.families import Family, FamilyConfig, Normal
    from gradmeter.estimators.noise import Noise

_MODULES = {
    "bench.advising.advising": ("advise",),
    "bench.api": ("Model", "check", "measure", "minibatch_split"),
    "bench.audit.auditing": ("audit",),
    "bench.problems": ("Exact", "Problem"),
    "bench.problems.log_density": ("density_model",),
    "estimators": (
        *("Estimator", "Expectation", "Family", "FamilyConfig", "Integrand", "Noise", "Normal", "NotApplicable"),
        *("Requires", "UsageError"),
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Estimator",
    "Exact",
    "Expectation",
    "Family",
    "FamilyConfig",
    "Integrand",
    "Model",
    "Noise",
    "Normal",
    "NotApplicable",
    "Problem",
    "Requires",
    "UsageError",
    "advise",
    "audit",
    "check",
    "density_model",
    "measure",
    "minibatch_split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gradmeter' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(f"gradmeter.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
