"""What this suite should cost, each a measured ratio against a stated limit: `make goals` prints and writes them.

A module each: `kernels` (against the noise alone, closed forms, hand-written steps), `cost` (every estimator over its
count of evaluations), `program` (the whole program over its kernel, the quick suite), `scaling` (cost and memory as the
draws grow), `training` (steps of the autoencoder against a `plain` loop of PyTorch or JAX). Speed against other
libraries is measured by `peers` beside this package, what timings can tell apart by `calibration`.
"""
