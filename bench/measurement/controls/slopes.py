"""∇f in the numbers of the noise: what f's interactions, and what every row of a minibatch adds, are modelled by."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import Setting
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.family import MeanField

Array = Any
Arrays = dict[str, Any]

#: How far a number is moved where z is not affine in it.
STEP = 1e-4


def on_numpy_else(setting: Setting, made: Any) -> np.ndarray:
    """made(backend, expectation, parameters, arrays to that backend) as float64: on NumPy, which compiles nothing,
    where f can, else on the cell's backend, which may differentiate."""

    def on(backend: Any) -> np.ndarray:
        def moved(arrays: Arrays) -> Arrays:
            return {k: backend.asarray(setting.backend.to_numpy(a), None) for k, a in arrays.items()}

        def cast(arrays: Arrays) -> Arrays:
            return {k: backend.asarray(a, None) for k, a in arrays.items()}

        expectation = setting.expectation.bind(moved(setting.expectation.data))
        found = made(backend, expectation, moved(setting.parameters), cast)
        return np.asarray(backend.to_numpy(found), dtype=np.float64)

    try:
        return on(get("numpy"))
    except Exception:  # of a user's f, which may be made for one framework
        return on(setting.backend)


def objective(setting: Setting, noise: Arrays) -> np.ndarray:
    """f [n] on noise of one sample each."""
    return on_numpy_else(setting, lambda b, expectation, own, cast: expectation.sampled_objective(b, own, cast(noise)))


@np.errstate(divide="ignore", invalid="ignore", over="ignore")  # of noise at an end, where z may be infinite
def slopes(setting: Setting, name: str, noise: Arrays) -> np.ndarray | None:
    """∂f/∂x [n, m] on noise of one sample each, x the numbers of that name; None where it cannot be had."""
    expectation = setting.expectation
    if expectation.importance_samples > 1 or isinstance(expectation, AmortisedExpectation):
        return None
    if expectation.family.discrete:
        return None

    def made(backend: Any, expectation: Any, parameters: Arrays, cast: Any) -> Array:
        bound, own = expectation.at(parameters)
        family, given = bound.family, cast(noise)
        z = family.sample(backend, own, given)
        gradient = bound.gradient(backend, own, z, given, *family.logs(backend, own, given))

        def sample(x: np.ndarray) -> np.ndarray:
            return np.asarray(backend.to_numpy(family.sample(backend, own, {**given, name: backend.asarray(x, None)})))

        return backend.asarray(_pulled_back(family, sample, np.asarray(noise[name]), backend.to_numpy(gradient)), None)

    try:
        return on_numpy_else(setting, made)
    except Exception:  # f has no gradient there, whatever the reason
        return None


def differences(setting: Setting, name: str, noise: Arrays, moved: np.ndarray) -> np.ndarray | None:
    """f with one number of the noise of that name moved, less f, for every number [n, m]; None where it cannot be had.

    Parameters
    ----------
    moved : where each number is moved to [n, m].
    """
    expectation = setting.expectation
    if expectation.importance_samples > 1 or isinstance(expectation, AmortisedExpectation):
        return None
    if not isinstance(expectation.family, MeanField):
        return None

    def made(backend: Any, expectation: Any, parameters: Arrays, cast: Any) -> Array:
        bound, own = expectation.at(parameters)
        given, other = cast(noise), cast({**noise, name: moved})
        z, replacement = (bound.family.sample(backend, own, each) for each in (given, other))
        if z.shape != moved.shape:
            raise ValueError("a number of noise is no coordinate of z")
        value = bound.value(backend, own, z, given)
        return bound.replaced(backend, own, z, replacement, given) - value[..., None]

    try:
        return on_numpy_else(setting, made)
    except Exception:  # of a user's f
        return None


def _pulled_back(family: Any, sample: Any, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """∂z/∂x, transposed, times ∇f: of an affine z(x) at once, else number by number where each makes its own z."""
    m = x.shape[-1]
    if len(x) > m:  # enough to find and to try the matrix
        base = sample(np.zeros_like(x))
        unit = np.zeros_like(x)
        unit[:m] = np.eye(m)
        matrix = (sample(unit) - base)[:m]  # [m, D]
        if np.allclose(sample(x), base + x @ matrix, rtol=1e-6, atol=1e-6 * float(np.abs(matrix).max())):
            return gradient @ matrix.T
    if not isinstance(family, MeanField) or gradient.shape != x.shape:
        raise ValueError("z is neither affine in its noise nor made number by number")
    return gradient * (sample(x + STEP) - sample(x - STEP)) / (2.0 * STEP)
