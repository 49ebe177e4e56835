"""What control variates made from a quadratic of z share.

Where f is quadratic its gradient is b + H (z − loc), and the pathwise estimate of it has a closed expectation: Bonnet's
and Price's identities with the slope b and the Hessian H. So for any b and H

    pathwise(∇f(z)) − pathwise(b + H (z − loc)) + bonnet_price(b, H)

is unbiased. Products with the Hessian are of the integrand alone: an entropy's part is added exactly.
"""

from __future__ import annotations

from typing import Any

from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation

#: Coordinates up to which a Hessian is written out: D products, D² numbers.
LARGEST = 128


def check_hessian(name: str, dimension: int) -> None:
    """Raise NotApplicable where a Hessian is too large to write out."""
    if dimension > LARGEST:
        raise NotApplicable(f"{name} writes a Hessian out, of at most {LARGEST} coordinates, not {dimension}")


def centre(backend: Any, expectation: Expectation, parameters: Blocks, z: Array) -> Array:
    """`loc`, as samples [R, D]; one alone [1, D] where f draws nothing itself, so that all replicates share it."""
    rows = z.shape[0] if expectation.noise_specs() else 1
    return backend.xp.broadcast_to(parameters["loc"], (rows, z.shape[-1]))


def hessian(backend: Any, expectation: Expectation, z: Array, noise: dict[str, Array]) -> Array:
    """∇² of the integrand written out [..., D, D]: as it knows itself, or by D products, all in one call as so many
    more samples."""
    if expectation.differentiate == "closed-form" and expectation.integrand.hessian is not None:
        return expectation.integrand.hessian(backend, expectation.data, z, noise)
    xp, dimension = backend.xp, z.shape[-1]
    places = backend.asarray(range(dimension), None)
    one = xp.ones_like(xp.reshape(z, (-1, dimension))[0, ...])
    identity = xp.where(places[:, None] == places, one, xp.zeros_like(one))
    each = xp.broadcast_to(z[..., None, :], (*z.shape, dimension))
    vectors = xp.broadcast_to(identity, each.shape)
    flat = (z.shape[0], -1, dimension)
    product = expectation.integrand_hessian_product(backend, xp.reshape(each, flat), xp.reshape(vectors, flat), noise)
    return xp.reshape(product, each.shape)


def along(xp: Any, z: Array, per_centre: Array) -> Array:
    """What was made at `centre` [n, D], to broadcast with the samples z."""
    return per_centre if z.ndim == 2 else per_centre[:, None, :]


def bent(xp: Any, matrix: Array, offset: Array) -> Array:
    """H [n, D, D] times offsets [R, D] or [R, S, D]."""
    if matrix.shape[0] == 1:
        flat = xp.matmul(xp.reshape(offset, (-1, offset.shape[-1])), matrix[0, ...])
        return xp.reshape(flat, offset.shape)
    if offset.ndim == 2:
        return xp.matmul(offset[:, None, :], matrix)[:, 0, :]
    return xp.matmul(offset, matrix)


def finish(
    backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], z: Array, gradients: Blocks
) -> Blocks:
    """Per-sample pathwise gradients of the integrand to an estimate: a sampled entropy added, averaged over samples."""
    if expectation.entropy == "sampled":
        entropy = expectation.family.entropy_pathwise(backend, parameters, noise, z)
        gradients = gradients | {name: gradients[name] + moved for name, moved in entropy.items()}
    return {name: mean_over_samples(backend.xp, z, gradient) for name, gradient in gradients.items()}
