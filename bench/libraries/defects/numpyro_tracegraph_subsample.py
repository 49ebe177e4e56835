import jax, numpyro
from numpyro.distributions import Bernoulli

def program(logit):  # z_n ~ Bernoulli(logit) for 4 rows, 2 of them at a time
    with numpyro.plate("rows", 4, subsample_size=2):
        numpyro.sample("z", Bernoulli(logits=logit))
elbo = numpyro.infer.TraceGraph_ELBO(num_particles=100_000)
loss = lambda q: elbo.loss(jax.random.PRNGKey(0), {"q": q}, lambda: program(0.0), lambda: program(numpyro.param("q")))
print("d ELBO / d logit of q:", -jax.grad(loss)(1.0), "exact: -0.7864")  # -4 q (1 - q) logit
