import jax
from optax.perturbations import Normal, make_perturbed_fun

smoothed = make_perturbed_fun(lambda x: (x - 2.0) ** 2, num_samples=10_000, sigma=0.1, noise=Normal())
gradient = jax.grad(smoothed)(jax.numpy.ones(()), jax.random.PRNGKey(0))
print("d E (x + 0.1 z - 2)^2 / dx at x = 1:", gradient, "exact: -2")
