"""Distrax: the gradient of an average over samples of its distribution."""

import distrax
import jax
import jax.numpy as jnp
from jax_calls import calls

PACKAGES = ("distrax", "tfp-nightly", "jax", "jaxlib")


def prepare(task):
    f = task.integrand(jnp.asarray, jax.nn.softplus)
    parameters = {"loc": jnp.asarray(task.loc), "log_scale": jnp.asarray(task.log_scale)}

    def posterior(parameters):
        return distrax.MultivariateNormalDiag(parameters["loc"], jnp.exp(parameters["log_scale"]))

    def pathwise(parameters, key, samples):
        q = posterior(parameters)
        z, log_q = q.sample_and_log_prob(seed=key, sample_shape=(samples,))
        return (f(z) - log_q if task.elbo else f(z)).mean()

    def score_function(parameters, key, samples):
        q = posterior(parameters)
        z = jax.lax.stop_gradient(q.sample(seed=key, sample_shape=(samples,)))
        return (jax.lax.stop_gradient(f(z)) * q.log_prob(z)).mean()

    gradient = jax.grad({"pathwise": pathwise, "score-function": score_function}[task.estimator])

    return calls(gradient, parameters, task.num_samples)
