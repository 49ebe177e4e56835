"""Shared parts of the control variates made from a quadratic in z.

If f is quadratic, its gradient is b + H (z − loc), and its pathwise estimate has a known expectation: Bonnet's and
Price's identities with the slope b and the Hessian H. So for any b and H

    pathwise(∇f(z)) − pathwise(b + H (z − loc)) + bonnet_price(b, H)

is unbiased. Hessian-vector products are those of the integrand only; the entropy's contribution is added exactly.
"""

from __future__ import annotations

from typing import Any

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation

#: The largest dimension for which a full Hessian is computed, with D products and D² numbers.
LARGEST = 128


def check_hessian(name: str, dimension: int) -> None:
    """Raise NotApplicable if the dimension is too large for a full Hessian."""
    if dimension > LARGEST:
        raise NotApplicable(f"{name} writes a Hessian out, of at most {LARGEST} coordinates, not {dimension}")


def centre(backend: Backend, expectation: Expectation, parameters: Blocks, z: Array) -> Array:
    """Return `loc` as samples [R, 1, D]; [1, 1, D] if f draws no noise, so that all replicates share it.

    Parameters
    ----------
    backend
        Array framework.
    expectation
        Expectation that is differentiated.
    parameters
        λ, {parameter block: [*shape]}.
    z
        Samples [R, S, D].
    """
    rows = z.shape[0] if expectation.noise_specs() else 1
    return backend.xp.broadcast_to(parameters["loc"], (rows, 1, z.shape[-1]))


def hessian(backend: Backend, expectation: Expectation, z: Array, noise: dict[str, Array]) -> Array:
    """Return the full Hessian ∇² of the integrand [..., D, D].

    It comes from the integrand's `hessian`, or from D Hessian-vector products in one call, as D times as many samples.

    Parameters
    ----------
    backend
        Array framework.
    expectation
        Expectation that is differentiated.
    z
        Samples [R, S, D].
    noise
        Drawn noise, {name: [R, ...]}.
    """
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


def bent(xp: Any, matrix: Array, offset: Array) -> Array:
    """Return matrices times offsets.

    Parameters
    ----------
    xp
        Array API namespace.
    matrix
        H [R or 1, 1, D, D].
    offset
        [R, S, D].
    """
    if matrix.shape[0] == 1:
        flat = xp.matmul(xp.reshape(offset, (-1, offset.shape[-1])), matrix[0, 0, ...])
        return xp.reshape(flat, offset.shape)
    return xp.matmul(offset, matrix[:, 0, ...])


def finish(
    backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], z: Array, gradients: Blocks
) -> Blocks:
    """Return the estimate from per-sample pathwise gradients of the integrand.

    The gradient of a sampled entropy is added, and the samples are averaged.

    Parameters
    ----------
    backend
        Array framework.
    expectation
        Expectation that is differentiated.
    parameters
        λ, {parameter block: [*shape]}.
    noise
        Drawn noise, {name: [R, ...]}.
    z
        Samples [R, S, D].
    gradients
        Gradients by parameter block, per sample.
    """
    if expectation.entropy == "sampled":
        entropy = expectation.family.entropy_pathwise(backend, parameters, noise, z)
        gradients = gradients | {name: gradients[name] + moved for name, moved in entropy.items()}
    return {name: mean_over_samples(backend.xp, gradient) for name, gradient in gradients.items()}
