"""Pyro: an ELBO object, a model and a guide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch


def elbo(
    estimator: Any, model: Callable[..., Any], guide: Callable[..., Any], *arguments: Any, seed: int = 0, **named: Any
) -> tuple[Callable[[], dict[str, Any]], dict[str, Any]]:
    """Return the gradient of an ELBO in the unconstrained parameters, and their present values.

    The parameters are those of Pyro's global store, which is cleared first.

    Parameters
    ----------
    estimator
        An object such as `pyro.infer.TraceGraph_ELBO(num_particles=8)`.
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
        () -> ∇ of the ELBO's estimate, {name: tensor}; it draws from PyTorch's global generator.
    parameters
        Unconstrained values, {name: tensor}.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    estimator.loss(model, guide, *arguments, **named)  # creates the parameters
    parameters = dict(pyro.get_param_store().named_parameters())

    def gradient() -> dict[str, Any]:
        for parameter in parameters.values():
            parameter.grad = None
        estimator.loss_and_grads(model, guide, *arguments, **named)
        return {
            name: torch.zeros_like(p) if p.grad is None else -p.grad.detach().clone() for name, p in parameters.items()
        }

    return gradient, {name: p.detach().clone() for name, p in parameters.items()}
