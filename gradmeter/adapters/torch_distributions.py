"""`torch.distributions`: the pathwise and the score-function gradient of E f(z)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

Parameters = Mapping[str, torch.Tensor]
Gradient = Callable[[Parameters], dict[str, torch.Tensor]]


def rsample(distribution: Callable[[Parameters], Any], f: Callable[[torch.Tensor], Any], samples: int = 1) -> Gradient:
    """Return ∇_λ (1/S) Σ f(z_s) through `rsample`.

    Parameters
    ----------
    distribution
        (λ) -> a `torch.distributions.Distribution` of event z.
    f
        (z [S, ...]) -> f(z) [S], differentiable.
    samples
        S.

    Returns
    -------
    gradient
        (λ) -> {name: tensor}; it draws from PyTorch's global generator.
    """
    return _differentiated(lambda q: f(q.rsample((samples,))).sum() / samples, distribution)


def score(distribution: Callable[[Parameters], Any], f: Callable[[torch.Tensor], Any], samples: int = 1) -> Gradient:
    """Return (1/S) Σ f(z_s) ∇_λ log q_λ(z_s) by `sample` and `log_prob`.

    Parameters
    ----------
    distribution
        (λ) -> a `torch.distributions.Distribution` of event z.
    f
        (z [S, ...]) -> f(z) [S]; it need not be differentiable.
    samples
        S.

    Returns
    -------
    gradient
        (λ) -> {name: tensor}; it draws from PyTorch's global generator.
    """

    def surrogate(q: Any) -> Any:
        z = q.sample((samples,))
        log_q = q.log_prob(z).reshape(samples, -1).sum(dim=1)
        return (f(z).detach() * log_q).sum() / samples

    return _differentiated(surrogate, distribution)


def _differentiated(value: Callable[[Any], Any], distribution: Callable[[Parameters], Any]) -> Gradient:
    def objective(parameters: Parameters) -> Any:
        return value(distribution(parameters))

    def gradient(parameters: Parameters) -> dict[str, torch.Tensor]:
        if functional:
            try:
                found: dict[str, torch.Tensor] = torch.func.grad(objective)(dict(parameters))
                return found
            except RuntimeError as error:
                if "setup_context" not in str(error):
                    raise
                functional.clear()
        leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        return dict(zip(leaves, torch.autograd.grad(objective(leaves), list(leaves.values())), strict=True))

    # `torch.func` can be batched, but it refuses the Beta and the Dirichlet distribution.
    functional = [True]
    return gradient
