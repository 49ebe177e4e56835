"""Fitting: an estimator inside an optimiser, and the exact methods beside it."""
