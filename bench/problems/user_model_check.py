"""Comparison of the f of a user-defined model without an encoder with a second f."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.problems.user_model_exact import bound_to, whole
from gradmeter.estimators import UsageError
from gradmeter.estimators.backends import get

#: Tolerance on values and derivatives, relative to the largest one of a draw, or to 1.
TOLERANCE = 1e-8


def derivatives(model: Any, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return f [M] and ∇_z f [M, D] at z [M, D], on all data, without the entropy."""
    backend, expectation, parameters = bound_to(whole(model), model.parameters())
    bound, _ = expectation.at(parameters)
    at = backend.asarray(z, "float64")[:, None, :]
    value = bound.integrand.value(backend.xp, bound.data, at, {})
    slope = bound.integrand_gradient(backend, at, {})
    return np.asarray(backend.to_numpy(value))[:, 0], np.asarray(backend.to_numpy(slope))[:, 0]


def compared(model: Any, other: Any, draws: int, seed: int) -> str:
    """Return in words how well two f agree at draws of q; see `Model.check_against`.

    Parameters
    ----------
    model
        The model.
    other
        The same model with the other f.
    draws
        Number of draws.
    seed
        Seed of the draws.
    """
    family, parameters = model.family, model.parameters()
    z = _draws(family, parameters, model.dimension, draws, seed)
    (f, slope), (g, other_slope) = derivatives(model, z), derivatives(other, z)
    what = f"model {model.name}: f and the trusted f differ"
    apart = np.abs(slope - other_slope) / np.maximum(1.0, np.abs(other_slope).max(axis=1, keepdims=True))
    off = ~(apart <= TOLERANCE)
    if off.any():
        draw = int(np.argmax(off.any(axis=1)))
        j = int(np.argmax(np.where(np.isnan(apart[draw]), np.inf, apart[draw])))
        raise UsageError(
            f"{what}: the derivative in {_coordinate(model, j)} is {slope[draw, j]:.8g}, and should be "
            f"{other_slope[draw, j]:.8g}, at {_place(model, z[draw])}"
        )
    constant = f - g - (f[0] - g[0])
    uneven = ~(np.abs(constant) <= TOLERANCE * np.maximum(1.0, np.abs(g)))
    if uneven.any():
        draw = int(np.argmax(uneven))
        raise UsageError(
            f"{what} by {f[draw] - g[draw]:.8g} at {_place(model, z[draw])}, and by {f[0] - g[0]:.8g} at "
            f"{_place(model, z[0])}: not by a constant"
        )
    return (
        f"model {model.name}: f and the trusted f agree at {draws} draws of q, up to the constant {f[0] - g[0]:.6g}; "
        f"derivatives to {apart.max():.1g}"
    )


def _draws(family: Any, parameters: Any, dimension: int, draws: int, seed: int) -> np.ndarray:
    base = np.random.default_rng(seed).standard_normal((1, draws, dimension))
    return np.asarray(family.sample(get("numpy"), parameters, {"base": base}))[0]


def _coordinate(model: Any, j: int) -> str:
    layout = getattr(model.log_joint, "layout", None)
    return f"z_{j + 1}" if layout is None else f"the unconstrained {layout.name_of(j)}"


def _place(model: Any, z: np.ndarray) -> str:
    layout = getattr(model.log_joint, "layout", None)
    if layout is None:
        return f"z = {np.array2string(z[:6], precision=4)}"
    arrays, _ = layout.constrain(get("numpy").xp, z)
    shown = [f"{n} = {np.array2string(np.ravel(a)[:4], precision=4)}" for n, a in list(arrays.items())[:4]]
    return ", ".join(shown)
