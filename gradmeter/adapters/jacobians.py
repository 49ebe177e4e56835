"""Functions with the signature of the Jacobian estimators that Optax had in `optax.monte_carlo`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def mean(
    jacobians: Callable[..., Sequence[Any]],
    function: Callable[[Any], Any],
    distribution: Callable[..., Any],
    samples: int = 1,
    **options: Any,
) -> Callable[[Any, Any], list[Any]]:
    """Return the gradient of E f(z), the mean of the Jacobians of S samples.

    Parameters
    ----------
    jacobians
        (function, params, dist_builder, rng, num_samples, ...) -> one array [S, *shape] for each parameter, as
        `optax.monte_carlo.score_function_jacobians` returned.
    function
        f of a sample.
    distribution
        dist_builder: (*params) -> a distribution.
    samples
        S.
    **options
        Further arguments of `jacobians`.

    Returns
    -------
    gradient
        (parameters, key) -> one array for each parameter.
    """

    def gradient(parameters: Any, key: Any) -> list[Any]:
        found = jacobians(function, parameters, distribution, key, samples, **options)
        return [each.mean(axis=0) for each in found]

    return gradient
