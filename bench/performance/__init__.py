"""The performance of this project itself, measured apart from the product.

It covers performance budgets, the cost of noise alone, other libraries, the resolution of timings, and the benchmark
gate. Apart from the asv benchmarks in `tracking`, nothing in the package imports it.
"""
