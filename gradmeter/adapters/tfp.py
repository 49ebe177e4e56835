"""TensorFlow Probability on JAX: a variational loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from tensorflow_probability.substrates import jax as probability


def variational_loss(
    target_log_prob: Callable[..., Any],
    surrogate: Callable[[Any], Any],
    *,
    samples: int = 1,
    stopped: bool = False,
    **options: Any,
) -> Callable[[Any, Any], Any]:
    """Return the gradient of `tfp.vi.monte_carlo_variational_loss`, with the sign of an objective that is maximised.

    Parameters
    ----------
    target_log_prob
        log p(x, z), a function of z.
    surrogate
        (parameters) -> q, a distribution of TensorFlow Probability.
    samples
        `sample_size` of the loss.
    stopped
        Whether the loss gets a `stopped_surrogate_posterior`, as doubly reparameterised gradients need.
    **options
        Other arguments of the loss, such as `gradient_estimator` or `importance_sample_size`.

    Returns
    -------
    gradient
        (parameters, key) -> −∇ loss, in the form of the parameters.
    """

    def loss(parameters: Any, key: Any) -> Any:
        copy = {"stopped_surrogate_posterior": surrogate(jax.lax.stop_gradient(parameters))} if stopped else {}
        found = probability.vi.monte_carlo_variational_loss(
            target_log_prob, surrogate(parameters), sample_size=samples, seed=key, **copy, **options
        )
        return found.sum()

    def gradient(parameters: Any, key: Any) -> Any:
        return jax.tree_util.tree_map(lambda g: -g, jax.grad(loss)(parameters, key))

    return gradient
