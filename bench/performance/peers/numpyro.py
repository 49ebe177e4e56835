"""NumPyro: the gradient of `Trace_ELBO`, an average over many particles; of `TraceGraph_ELBO` for score functions.

A test function f enters as a factor of the model, whose prior is the guide itself, so that the ELBO reduces to f.
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax_calls import calls
from numpyro.infer import Trace_ELBO, TraceGraph_ELBO

PACKAGES = ("numpyro", "jax", "jaxlib")


class NonreparameterisedNormal(dist.Normal):
    """A Normal that is not differentiated through, so that `TraceGraph_ELBO` uses its score."""

    reparametrized_params = ()


def prepare(task):
    f = task.integrand(jnp.asarray, jax.nn.softplus)
    pathwise = {"pathwise": True, "score-function": False}[task.estimator]
    parameters = {"loc": jnp.asarray(task.loc), "log_scale": jnp.asarray(task.log_scale)}

    def given():
        return (
            numpyro.param("loc", parameters["loc"]),
            jnp.exp(numpyro.param("log_scale", parameters["log_scale"])),
        )

    def guide():
        normal = dist.Normal if pathwise else NonreparameterisedNormal
        numpyro.sample("z", normal(*given()).to_event(1))

    def test_function():
        loc, scale = given()
        if not pathwise:  # a prior that depends on λ would add its own score
            loc, scale = jax.lax.stop_gradient((loc, scale))
        numpyro.factor("f", f(numpyro.sample("z", dist.Normal(loc, scale).to_event(1))))

    def regression():
        z = numpyro.sample("z", dist.Normal(jnp.zeros(len(task.loc)), 1.0).to_event(1))
        logits = z @ jnp.asarray(task.data["design"]).T
        numpyro.sample("y", dist.Bernoulli(logits=logits).to_event(1), obs=jnp.asarray(task.data["response"]))

    model = regression if task.elbo else test_function

    def gradient(parameters, key, samples):
        elbo = (Trace_ELBO if pathwise else TraceGraph_ELBO)(num_particles=samples)
        return jax.tree.map(jnp.negative, jax.grad(lambda p: elbo.loss(key, p, model, guide))(parameters))

    return calls(gradient, parameters, task.num_samples)
