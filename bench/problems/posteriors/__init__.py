"""Posteriors of hierarchical models: ELBOs with exact gradients."""

from gradmeter.bench.problems.posteriors.eight_schools import EightSchools
from gradmeter.bench.problems.posteriors.funnel import Funnel

__all__ = ["EightSchools", "Funnel"]
