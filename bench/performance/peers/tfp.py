"""TensorFlow Probability on JAX: the gradient of `tfp.monte_carlo.expectation`, an average over samples."""

import jax
import jax.numpy as jnp
import tensorflow_probability.substrates.jax as tfp
from jax_calls import calls

PACKAGES = ("tfp-nightly", "jax", "jaxlib")


def prepare(task):
    f = task.integrand(jnp.asarray, jax.nn.softplus)
    parameters = {"loc": jnp.asarray(task.loc), "log_scale": jnp.asarray(task.log_scale)}
    reparameterised = {"pathwise": True, "score-function": False}[task.estimator]

    def objective(parameters, key, samples):
        q = tfp.distributions.MultivariateNormalDiag(parameters["loc"], jnp.exp(parameters["log_scale"]))
        return tfp.monte_carlo.expectation(
            (lambda z: f(z) - q.log_prob(z)) if task.elbo else f,
            samples=q.sample(samples, seed=key),
            log_prob=q.log_prob,
            use_reparameterization=reparameterised,
        )

    gradient = jax.grad(objective)

    return calls(gradient, parameters, task.num_samples)
