"""The performance of this project itself: performance budgets, the cost of noise alone, other libraries, the resolution
of timings, and the benchmark gate. No other part of the package imports this one.
"""
