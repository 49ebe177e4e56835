"""Optimisation: the interface of a fitting method, and the optimisers, for problems and fits to build on."""
