"""∇f with respect to the numbers of noise, to model the interactions of f and the rows of a minibatch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import Setting
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import MeanField
from gradmeter.estimators.noise import DrawnNoise

Array = Any
Arrays = dict[str, Any]

#: Step of the finite difference in a number of noise, where z is not affine in it.
STEP = 1e-4


def on_numpy_else(setting: Setting, made: Any) -> np.ndarray:
    """Evaluate made(backend, expectation, parameters, cast) as float64, where cast moves arrays to that backend.

    It is evaluated on NumPy, which compiles nothing, if f allows; otherwise on the cell's backend, which may
    differentiate.
    """

    def on(backend: Backend) -> np.ndarray:
        def moved(arrays: Arrays) -> Arrays:
            return {k: backend.asarray(setting.backend.to_numpy(a), None) for k, a in arrays.items()}

        def cast(noise: DrawnNoise) -> DrawnNoise:
            return noise.each(lambda a: backend.asarray(a, None))

        expectation = setting.expectation.bind(moved(setting.expectation.data))
        found = made(backend, expectation, moved(setting.parameters), cast)
        return np.asarray(backend.to_numpy(found), dtype=np.float64)

    try:
        return on(get("numpy"))
    except Exception:  # a user's f may be written for one framework
        return on(setting.backend)


def objective(setting: Setting, noise: DrawnNoise) -> np.ndarray:
    """Evaluate f [n] on noise of one sample each."""
    return on_numpy_else(setting, lambda b, expectation, own, cast: expectation.sampled_objective(b, own, cast(noise)))


@np.errstate(divide="ignore", invalid="ignore", over="ignore")  # at the ends of the noise z may be infinite
def slopes(setting: Setting, name: str, noise: DrawnNoise) -> np.ndarray | None:
    """Return ∂f/∂x [n, m] on noise of one sample each, x the numbers of this name; None where it is not available.

    Parameters
    ----------
    setting
        The cell that is measured.
    name
        Name of the noise x.
    noise
        Noise of one sample in each of n replicates.
    """
    expectation = setting.expectation
    if expectation.importance_samples > 1 or isinstance(expectation, AmortisedExpectation):
        return None
    if expectation.family.discrete:
        return None

    def made(backend: Backend, expectation: Any, parameters: Arrays, cast: Any) -> Array:
        bound, own = expectation.at(parameters)
        family, given = bound.family, cast(noise)
        z = family.sample(backend, own, given)
        gradient = bound.gradient(backend, own, z, given, *family.logs(backend, own, given))

        def sample(x: np.ndarray) -> np.ndarray:
            moved = {**given, name: backend.asarray(x[:, None], None)}
            return np.asarray(backend.to_numpy(family.sample(backend, own, moved)))[:, 0]

        x, slope = np.asarray(noise[name])[:, 0], backend.to_numpy(gradient)[:, 0]
        return backend.asarray(_pulled_back(family, sample, x, slope), None)

    try:
        return on_numpy_else(setting, made)
    except Exception:  # f has no gradient here, for whatever reason
        return None


def differences(setting: Setting, name: str, noise: DrawnNoise, moved: np.ndarray) -> np.ndarray | None:
    """Return the change of f [n, 1, m] if one number of this noise is moved, for every number.

    Return None where it is not available.

    Parameters
    ----------
    setting
        The cell that is measured.
    name
        Name of the noise x.
    noise
        Noise of one sample in each of n replicates.
    moved
        New value of each number [n, 1, m].
    """
    expectation = setting.expectation
    if expectation.importance_samples > 1 or isinstance(expectation, AmortisedExpectation):
        return None
    if not isinstance(expectation.family, MeanField):
        return None

    def made(backend: Backend, expectation: Any, parameters: Arrays, cast: Any) -> Array:
        bound, own = expectation.at(parameters)
        given, other = cast(noise), cast(DrawnNoise({**noise, name: moved}, noise.replicates))
        z, replacement = (bound.family.sample(backend, own, each) for each in (given, other))
        if z.shape != moved.shape:
            raise ValueError("a number of noise is no coordinate of z")
        value = bound.value(backend, own, z, given)
        return bound.replaced(backend, own, z, replacement, given) - value[..., None]

    try:
        return on_numpy_else(setting, made)
    except Exception:  # raised by a user's f
        return None


def _pulled_back(family: Any, sample: Any, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return (∂z/∂x)ᵀ ∇f: at once for an affine z(x), else number by number where each number makes one coordinate."""
    m = x.shape[-1]
    if len(x) > m:  # enough rows to determine the matrix and to test it
        base = sample(np.zeros_like(x))
        unit = np.zeros_like(x)
        unit[:m] = np.eye(m)
        matrix = (sample(unit) - base)[:m]  # [m, D]
        if np.allclose(sample(x), base + x @ matrix, rtol=1e-6, atol=1e-6 * float(np.abs(matrix).max())):
            return gradient @ matrix.T
    if not isinstance(family, MeanField) or gradient.shape != x.shape:
        raise ValueError("z is neither affine in its noise nor made number by number")
    return gradient * (sample(x + STEP) - sample(x - STEP)) / (2.0 * STEP)
