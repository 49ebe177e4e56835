"""Conjugate models: small real counts whose posterior, evidence and ELBO are in closed form."""

from gradmeter.bench.problems.conjugate.beta_bernoulli import BetaBernoulli
from gradmeter.bench.problems.conjugate.gamma_poisson import GammaPoisson

__all__ = ["BetaBernoulli", "GammaPoisson"]
