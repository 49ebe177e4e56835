"""Evaluate a few estimates from given noise, as they are or with their arithmetic perturbed by units in the last place.

Perturbed are: every floating-point number that an estimate reads (λ, data, fitted state, noise); every value, gradient
or Hessian product that f and log q return; every sample of a continuous q. Perturbing the results of f shows the
rounding of f itself: in f = 1e6 + z² the constant is part of the code, where a perturbed input cannot reach it.
Perturbing samples shows the digits lost where samples are close together relative to their size, as near loc = 1000.

Exact numbers are not perturbed: whole numbers in data and state (labels, counts, codes), row numbers, random signs,
points of a net. Uniform noise stays inside [0, 1).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.measurement.evaluate import check_form
from gradmeter.bench.measurement.kernel import BELOW_ONE, Setting, compiled_once, flattened
from gradmeter.estimators import Expectation
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.noise import DrawnNoise

Array = Any
Arrays = dict[str, np.ndarray]

#: Methods of f and of q whose results are rounded, and therefore perturbed.
OF_INTEGRAND = ("value", "gradient", "hessian_product", "hessian", "replaced", "local_terms", "model_pullback")
OF_FAMILY = (
    "log_density",
    "log_densities",
    "log_density_replaced",
    "log_density_gradient",
    "log_density_hessian_product",
)
EXACT = ("rows", "rademacher", "sobol")


@dataclass(frozen=True)
class Inputs:
    """The inputs of estimates beside their noise, on the device.

    Attributes
    ----------
    data, parameters, state
        Arrays by name.
    movement
        Perturbation of the results of f and log q: (ε, phase), as for `with_moved_values`.
    """

    data: dict[str, Array]
    parameters: dict[str, Array]
    state: dict[str, Array]
    movement: Array


class FewEstimates:
    """Estimates of a few replicates at a time, compiled on JAX only.

    Every call on more than one replicate should have `size` of them, so that JAX compiles at most two shapes.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        #: Replicates in a call; fewer than 8 where a block has fewer, because estimates are large.
        self.size = min(8, setting.replicates)
        self._eps = float(np.finfo(setting.dtype).eps)
        self._movable = {name: spec for name, spec in setting.specs.items() if spec.kind not in EXACT}
        own = setting.users_parts
        key = ("few", setting.structure, tuple(map(id, own)))
        self._run = compiled_once(key, lambda: (self._compiled(), own))[0]  # keep `own`, so that no id is reused

    def _compiled(self) -> Any:
        s = self.setting

        def evaluate(data: Any, parameters: Any, state: Any, movement: Any, noise: Any) -> dict[str, Array]:
            expectation = with_moved_values(s.backend, s.expectation.bind(data), movement)
            found = s.estimator.estimate(s.backend, expectation, parameters, noise, state)
            check_form(s, found, noise)
            return flattened(s.backend.xp, s.sizes, found)

        return s.backend.compile_for_few_calls(evaluate, handful=True)

    @np.errstate(all="ignore")  # the caller reports non-finite numbers
    def __call__(self, noise: DrawnNoise, inputs: Inputs | None = None) -> Arrays:
        """Return estimates [R, P] by parameter block, as NumPy arrays."""
        backend, given = self.setting.backend, inputs or self.unmoved()
        on_device = noise.each(lambda a: backend.asarray(a, None))
        found = self._run(given.data, given.parameters, given.state, given.movement, on_device)
        return {name: backend.to_numpy(a) for name, a in found.items()}

    def changed(self, noise: DrawnNoise) -> list[str]:
        """Return which of its inputs a call changes in place: `noise`, `parameters`, `data` or `state`."""
        backend, s = self.setting.backend, self.setting
        if backend.name == "jax":  # its arrays cannot be changed
            return []
        inputs = {"data": s.expectation.data, "parameters": s.parameters, "state": s.state}
        before = {
            what: {n: np.array(backend.to_numpy(a)) for n, a in arrays.items()} for what, arrays in inputs.items()
        }
        before["noise"] = noise
        given = {
            what: {n: backend.asarray(a.copy(), None) for n, a in arrays.items()} for what, arrays in before.items()
        }
        movement = backend.asarray([0.0, 0.0], s.dtype)
        with np.errstate(all="ignore"):
            own = DrawnNoise(given["noise"], noise.replicates)
            self._run(given["data"], given["parameters"], given["state"], movement, own)
        return [
            what
            for what, arrays in given.items()
            if any(backend.to_numpy(a).tobytes() != before[what][n].tobytes() for n, a in arrays.items())
        ]

    def unmoved(self) -> Inputs:
        s = self.setting
        return Inputs(s.expectation.data, s.parameters, s.state, s.backend.asarray([0.0, 0.0], s.dtype))

    def moved(self, generator: np.random.Generator) -> Inputs:
        """Return randomly perturbed inputs: λ, data, state and the perturbation of f's results."""
        s = self.setting
        movement = s.backend.asarray([self._eps, generator.uniform(1.0, 3.0)], s.dtype)
        data, state = (self._all_moved(a, generator, whole=False) for a in (s.expectation.data, s.state))
        return Inputs(data, self._all_moved(s.parameters, generator, whole=True), state, movement)

    def _all_moved(self, arrays: dict[str, Array], generator: np.random.Generator, whole: bool) -> dict[str, Array]:
        backend, found = self.setting.backend, {}
        for name, array in arrays.items():
            values = backend.to_numpy(array)
            if values.dtype.kind == "f":
                moved = moved_array(values, generator)
                array = backend.asarray(moved if whole else np.where(values == np.rint(values), values, moved), None)
            found[name] = array
        return found

    def moved_noise(self, noise: DrawnNoise, generator: np.random.Generator) -> DrawnNoise:
        moved = {name: moved_array(noise[name], generator) for name in self._movable}
        for name, spec in self._movable.items():
            if spec.kind in BELOW_ONE:
                moved[name] = np.where(moved[name] < 1.0, moved[name], noise[name])
        return DrawnNoise({**noise, **moved}, noise.replicates)


def moved_array(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return x (1 + ε r), with each r drawn from −1, 0 and 1."""
    units = generator.integers(-1, 2, size=values.shape, dtype=np.int8)
    return values * (1.0 + np.finfo(values.dtype).eps * units.astype(values.dtype))


def with_moved_values(backend: Backend, expectation: Expectation, movement: Array) -> Expectation:
    """Return the expectation with each number x that f, log q and the sampler return replaced by x (1 + ε r).

    r is a cosine of the position in the array and of the number of earlier calls. So it is constant to differentiation,
    and differs between values of f that an estimate compares with each other. With ε = 0 no bit changes. Samples are
    only moved towards 0, so that they stay inside a bounded support such as (0, 1).

    Parameters
    ----------
    movement
        (ε, the phase of the cosine), an array.
    """
    calls = itertools.count()
    found = copy.copy(expectation)
    found.integrand = _shadowed(backend, expectation.integrand, OF_INTEGRAND, movement, calls)
    found.family = family = _shadowed(backend, expectation.family, OF_FAMILY, movement, calls)
    if not family.discrete:
        inward = _moved_method(backend, expectation.family.sample, movement, calls, inward=True)
        object.__setattr__(family, "sample", inward)
    return found


def _shadowed(backend: Backend, owner: Any, names: tuple[str, ...], movement: Array, calls: Any) -> Any:
    """Return a copy whose methods of these names return perturbed results."""
    twin = copy.copy(owner)
    for name in names:
        method = getattr(owner, name, None)
        if callable(method):
            object.__setattr__(twin, name, _moved_method(backend, method, movement, calls))
    return twin


def _moved_method(
    backend: Backend, method: Callable[..., Any], movement: Array, calls: Any, inward: bool = False
) -> Callable[..., Any]:
    xp = backend.xp

    def moved(found: Any) -> Any:
        if isinstance(found, dict):
            return {name: moved(each) for name, each in found.items()}
        if not (hasattr(found, "shape") and xp.isdtype(found.dtype, "real floating")):
            return found
        shape = tuple(found.shape)
        places = np.reshape(np.arange(math.prod(shape), dtype=np.float64) + 7919.0 * next(calls), shape)
        wave = xp.cos(movement[1] * xp.astype(backend.asarray(places, None), found.dtype))
        wave = -xp.abs(wave) if inward else wave
        return found * xp.astype(1.0 + movement[0] * wave, found.dtype)

    return lambda *given, **named: moved(method(*given, **named))
