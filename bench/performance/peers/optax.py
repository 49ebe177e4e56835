"""Optax 0.2.4, among the last releases with `optax.monte_carlo`: a Jacobian for every sample, then their mean."""

import jax
import jax.numpy as jnp
import optax
from jax_calls import calls

PACKAGES = ("optax", "jax", "jaxlib")


def prepare(task):
    f = task.integrand(jnp.asarray, jax.nn.softplus)
    parameters = [jnp.asarray(task.loc), jnp.asarray(task.log_scale)]
    jacobians = {
        "pathwise": optax.monte_carlo.pathwise_jacobians,
        "score-function": optax.monte_carlo.score_function_jacobians,
        "measure-valued": optax.monte_carlo.measure_valued_jacobians,
    }[task.estimator]

    def gradient(parameters, key, samples):
        loc, log_scale = (j.mean(0) for j in jacobians(f, parameters, optax.multi_normal, key, samples))
        # Add the entropy's gradient, (0, 1), in closed form.
        return {"loc": loc, "log_scale": log_scale + 1.0 if task.elbo else log_scale}

    return calls(gradient, parameters, task.num_samples)
