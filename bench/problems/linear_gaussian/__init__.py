"""The linear-Gaussian model of Rainforth et al. 2018, whose importance-weighted bounds are exact for every K."""

from gradmeter.bench.problems.linear_gaussian.problem import LinearGaussian

__all__ = ["LinearGaussian"]
