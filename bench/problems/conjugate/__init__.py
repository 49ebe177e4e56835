"""Conjugate models of small real data sets of counts, with posterior, evidence and ELBO in closed form."""

from gradmeter.bench.problems.conjugate.beta_bernoulli import BetaBernoulli
from gradmeter.bench.problems.conjugate.gamma_poisson import GammaPoisson

__all__ = ["BetaBernoulli", "GammaPoisson"]
