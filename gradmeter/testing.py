"""Assertions on gradients, for tests.

from gradmeter import testing
testing.assert_unbiased(gradient, problem="square[k=2]", bound=0.02)
"""

from gradmeter.bench.audit.assertions import assert_agrees, assert_unbiased, assert_variance_below

__all__ = ["assert_agrees", "assert_unbiased", "assert_variance_below"]
