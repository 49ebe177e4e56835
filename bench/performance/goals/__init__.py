"""The performance budgets of this suite: measured ratios with their limits, printed and written by `make goals`.

One module per part: `kernels` (against the noise alone, closed forms, hand-written steps), `cost` (every estimator
against its number of evaluations), `program` (the whole program against its kernel, the quick suite), `scaling` (cost
and memory against the number of draws), `training` (steps of the autoencoder against a `plain` loop in PyTorch or JAX),
`certificates` (replicates for a verdict, with and without control variates). The packages beside this one measure speed
against other libraries (`peers`) and the resolution of timings (`calibration`).
"""
