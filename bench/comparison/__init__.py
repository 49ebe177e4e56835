"""Two stores side by side: what became faster, slower, more or less variable, with intervals, and the gates on that."""

from gradmeter.bench.comparison.change import METRICS, WORDS, Change, Comparison
from gradmeter.bench.comparison.gates import parse_gate, tripped
from gradmeter.bench.comparison.stores import compare

__all__ = ["METRICS", "WORDS", "Change", "Comparison", "compare", "parse_gate", "tripped"]
