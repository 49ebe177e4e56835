import jax, numpyro
from numpyro.distributions import Bernoulli

model = lambda: numpyro.sample("z", Bernoulli(logits=0.0))
guide = lambda: numpyro.sample("z", Bernoulli(logits=numpyro.param("q")))
elbo = numpyro.infer.Trace_ELBO(num_particles=100_000)
loss = lambda q: elbo.loss(jax.random.PRNGKey(0), {"q": q}, model, guide)
print("d ELBO / d logit of q:", -jax.grad(loss)(1.0), "exact: -0.1966")  # -q (1 - q) logit
