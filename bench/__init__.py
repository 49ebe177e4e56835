"""Measuring gradient estimators: bias with a verdict, variance with an interval, cost.

import bench
bench.measure("cosine[k=2.5]", ["pathwise", "score-function[baseline=optimal]"], backend="jax")
"""

from typing import Any

__all__ = ["Model", "check", "measure", "minibatch_split"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `gradvar --help` stays quick."""
    if name in __all__:
        from bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
