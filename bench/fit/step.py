"""One step of a fit as one compiled function: noise, estimate and optimiser.

λ and the optimiser's state stay on the device, in the working precision. Each is one array [P] of concatenated blocks,
since passing many small blocks would cost more than the estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradmeter.bench.fit.minibatches import Minibatches, Places, taken
from gradmeter.bench.measurement.kernel import Setting, compiled_once, evaluator
from gradmeter.bench.optimisation.method import State
from gradmeter.bench.optimisation.optimisers import Optimiser
from gradmeter.estimators import draw
from gradmeter.estimators.noise import DrawnNoise

Array = Any
Blocks = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]

#: Names, or prefixes of names, in a state: λ, the optimiser's state, and the estimator's state.
PARAMETERS, MEMORY, LEARNT = "λ", "optimiser.", "estimator."


def packed(xp: Any, blocks: Blocks, shapes: Shapes) -> Array:
    """Concatenate all blocks to one array [P].

    Parameters
    ----------
    xp
        Array API namespace.
    blocks
        {parameter block: [*shape]}.
    shapes
        {parameter block: shape}.
    """
    return xp.concat([xp.reshape(blocks[name], (-1,)) for name in shapes])


def unpacked(xp: Any, whole: Array, shapes: Shapes) -> Blocks:
    """Split an array [P] into blocks.

    Parameters
    ----------
    xp
        Array API namespace.
    whole
        [P].
    shapes
        {parameter block: shape}.
    """
    found, start = {}, 0
    for name, shape in shapes.items():
        end = start + math.prod(shape)
        found[name] = xp.reshape(whole[start:end], shape)
        start = end
    return found


class Stepper:
    """The function (state, t) -> next state, with block t of a stream as noise and a minibatch of an epoch as rows.

    On JAX or a GPU, the result may still be computing when it is returned.
    """

    def __init__(self, setting: Setting, optimiser: Optimiser, stream: str) -> None:
        self.setting, self.optimiser = setting, optimiser
        self.minibatches = Minibatches(setting, stream)
        roots = setting.roots(stream)
        self._roots = {name: root for name, root in roots.items() if name not in self.minibatches.specs}
        key = ("step", setting.structure, type(optimiser))
        self._run = compiled_once(
            key, lambda: setting.backend.compile(_step(setting, type(optimiser)), setting.expensive_reductions)
        )

    def __call__(self, state: State, t: int) -> State:
        s, places = self.setting, self.minibatches.places(t)
        numbers = np.asarray(self.optimiser.numbers(t), dtype=s.dtype)
        if s.draws_inside:  # accepts NumPy arrays ten times faster than it would convert them
            return dict(self._run(s.expectation.data, state, numbers, places, self._roots, np.int32(t)))
        asarray = s.backend.asarray
        there = {name: {**place, "start": asarray(place["start"], None)} for name, place in places.items()}
        return dict(self._run(s.expectation.data, state, asarray(numbers, None), there, s.noise(self._roots, t, 1)))

    def noise(self, t: int) -> dict[str, np.ndarray]:
        """Return all noise of step t, for one replicate, on the host."""
        rows, others = self.minibatches.rows(t), self.setting.noise(self._roots, t, 1)
        return {**rows, **{name: self.setting.backend.to_numpy(a) for name, a in others.items()}}


def _step(setting: Setting, optimiser: type[Optimiser]) -> Callable[..., State]:
    """Return the pure function to compile.

    It takes data, state, the optimiser's numbers, minibatch places, and noise or the roots to draw it from.
    """
    backend, dtype = setting.backend, setting.dtype
    xp, evaluate = backend.xp, evaluator(setting)
    of_rows = {name: spec for name, spec in setting.specs.items() if spec.kind == "rows"}
    others = {name: spec for name, spec in setting.specs.items() if name not in of_rows}
    shapes = setting.expectation.shapes(setting.dimension)
    alone: Shapes = {"": (sum(math.prod(shape) for shape in shapes.values()),)}
    handed = alone if optimiser.elementwise else shapes

    def step(data: Any, state: State, numbers: Array, places: Places, noise: Blocks) -> State:
        learnt = {n.removeprefix(LEARNT): a for n, a in state.items() if n.startswith(LEARNT)}
        noise = DrawnNoise({**noise, **taken(backend, places, of_rows)}, 1)
        estimate = packed(xp, evaluate(data, unpacked(xp, state[PARAMETERS], shapes), learnt, noise), shapes)
        memory = {kind: unpacked(xp, state[MEMORY + kind], handed) for kind in optimiser.memories}
        here, slope = (unpacked(xp, whole, handed) for whole in (state[PARAMETERS], estimate))
        found, kept = optimiser.step(xp, here, slope, memory, numbers)
        moved = {MEMORY + kind: packed(xp, blocks, handed) for kind, blocks in kept.items()}
        return {**state, PARAMETERS: packed(xp, found, handed), **moved}

    def drawing(data: Any, state: State, numbers: Array, places: Places, roots: Any, block: Any) -> State:
        return step(data, state, numbers, places, draw(backend, others, roots, block, 1, dtype))

    return drawing if setting.draws_inside else step
