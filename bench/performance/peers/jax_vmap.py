"""Plain JAX: `jax.vmap(jax.grad(...))` of the objective of one sample, with all noise drawn at once."""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jax_calls import calls

PACKAGES = ("jax", "jaxlib")


def prepare(task):
    f = task.integrand(jnp.asarray, jax.nn.softplus)
    parameters = {"loc": jnp.asarray(task.loc), "log_scale": jnp.asarray(task.log_scale)}

    def sample(parameters, noise):
        return parameters["loc"] + jnp.exp(parameters["log_scale"]) * noise

    def log_q(parameters, z):
        return norm.logpdf(z, parameters["loc"], jnp.exp(parameters["log_scale"])).sum()

    def pathwise(parameters, noise):
        z = sample(parameters, noise)
        return f(z) - log_q(parameters, z) if task.elbo else f(z)

    def score_function(parameters, noise):
        z = jax.lax.stop_gradient(sample(parameters, noise))
        return jax.lax.stop_gradient(f(z)) * log_q(parameters, z)

    objective = {"pathwise": pathwise, "score-function": score_function}[task.estimator]
    each = jax.vmap(jax.grad(objective), in_axes=(None, 0))

    def gradient(parameters, key, samples):
        found = each(parameters, jax.random.normal(key, (samples, len(task.loc))))
        return jax.tree.map(lambda g: g.mean(0), found)

    return calls(gradient, parameters, task.num_samples)
