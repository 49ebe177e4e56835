"""Comparison of two stores: changes of time and variance, with intervals, and gates on these changes."""

from gradmeter.bench.comparison.change import METRICS, WORDS, Change, Comparison
from gradmeter.bench.comparison.gates import parse_gate, tripped, unseen
from gradmeter.bench.comparison.stores import compare

__all__ = ["METRICS", "WORDS", "Change", "Comparison", "compare", "parse_gate", "tripped", "unseen"]
