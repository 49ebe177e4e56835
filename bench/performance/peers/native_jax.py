"""A hand-written loop in JAX for these integrands alone: closed forms under jit, noise inside, mean and variance."""

import jax
import jax.numpy as jnp
from jax_calls import calls

PACKAGES = ("jax", "jaxlib")
BLOCK = 2**16  # numbers drawn at once, which fit in a core's cache


def prepare(task):
    parameters = {"loc": jnp.asarray(task.loc), "scale": jnp.exp(jnp.asarray(task.log_scale))}
    data = {name: jnp.asarray(values) for name, values in task.data.items()}
    dimension = len(task.loc)

    def slope(z):
        """Return ∇f."""
        if not task.elbo:
            return 2.0 * (z - data["k"])
        return (data["response"] - jax.nn.sigmoid(z @ data["design"].T)) @ data["design"] - z

    def gradients(parameters, noise):
        z = parameters["loc"] + parameters["scale"] * noise
        if task.estimator == "pathwise":
            found = slope(z)
            return found, found * (parameters["scale"] * noise) + float(task.elbo)
        value = ((z - data["k"]) ** 2).sum(-1, keepdims=True)
        return value * (noise / parameters["scale"]), value * (noise * noise - 1.0)

    def moments(parameters, key, samples):
        blocks = 1 if task.elbo else max(1, samples * dimension // BLOCK)
        blocks = blocks if samples % blocks == 0 else 1

        def one(key):
            noise = jax.random.normal(key, (samples // blocks * dimension,)).reshape(-1, dimension)
            return [(g.mean(0), (g * g).mean(0)) for g in gradients(parameters, noise)]

        return jax.tree.map(lambda m: m.mean(0), jax.lax.map(one, jax.random.split(key, blocks)))

    def means(parameters, key, samples):
        return {name: m[0] for name, m in zip(("loc", "log_scale"), moments(parameters, key, samples), strict=True)}

    batch, _ = calls(moments, parameters, task.num_samples)
    _, estimates = calls(means, parameters, task.num_samples)
    return batch, estimates
