"""NumPyro: an ELBO object, a model and a guide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from numpyro.infer import SVI
from numpyro.optim import SGD


def elbo(
    estimator: Any, model: Callable[..., Any], guide: Callable[..., Any], *arguments: Any, seed: int = 0, **named: Any
) -> tuple[Callable[[Any, Any], Any], dict[str, Any]]:
    """Return the gradient of an ELBO in the unconstrained parameters, and the parameters where NumPyro starts.

    Parameters
    ----------
    estimator
        An object such as `numpyro.infer.Trace_ELBO(num_particles=8)`.
    model, guide
        Functions of `arguments` and `named`.
    *arguments
        Positional arguments of the model and the guide, such as data.
    seed
        Seed of the initial parameters.
    **named
        Keyword arguments of the model and the guide.

    Returns
    -------
    gradient
        (parameters, key) -> ∇ of the ELBO's estimate, {name: array}.
    parameters
        Unconstrained values, {name: array}.
    """
    svi = SVI(model, guide, SGD(1.0), estimator)
    state = svi.init(jax.random.PRNGKey(seed), *arguments, **named)
    parameters = svi.optim.get_params(state.optim_state)

    def loss(unconstrained: Any, key: Any) -> Any:
        return estimator.loss(key, svi.constrain_fn(unconstrained), model, guide, *arguments, **named)

    def gradient(unconstrained: Any, key: Any) -> Any:
        return jax.tree_util.tree_map(lambda g: -g, jax.grad(loss)(unconstrained, key))

    return gradient, parameters
