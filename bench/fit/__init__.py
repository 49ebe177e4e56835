"""Fitting: gradient estimators inside optimisers, and exact methods for comparison."""
