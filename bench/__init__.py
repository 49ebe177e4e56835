"""Measuring gradient estimators: bias with a verdict, variance with an interval, cost."""
