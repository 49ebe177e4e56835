"""Policies over short sequences of tokens, exact by enumeration."""

from gradmeter.bench.problems.policy.problem import Policy

__all__ = ["Policy"]
