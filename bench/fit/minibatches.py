"""Minibatches of a fit: the rows of an epoch, shuffled once and split into consecutive minibatches.

A row is in at most one minibatch of an epoch; the N mod B rows left over get their turn in other epochs. A single
minibatch is distributed as B rows drawn without replacement, so its estimate is unbiased; conditionally on the previous
minibatches of its epoch, it favours the remaining rows. One shuffle per epoch adds next to nothing to a step, whereas
fresh draws of B rows would need N random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import Setting, compiled_once
from gradmeter.estimators import Noise, draw
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend

Array = Any
#: By noise name: `order`, an epoch's shuffled row numbers [N], and `start`, the position of a minibatch in them.
Places = dict[str, dict[str, Array]]


class Minibatches:
    """The minibatches of steps t = 1, 2, …, each a function of the stream and t alone.

    Attributes
    ----------
    specs : {name: Noise}
        The noise that consists of row numbers; empty if every step uses all data.
    """

    def __init__(self, setting: Setting, stream: str) -> None:
        self.specs = {name: spec for name, spec in setting.specs.items() if spec.kind == "rows"}
        self._backend, roots = setting.backend, setting.roots(stream)
        self._roots = {name: roots[name] for name in self.specs}
        self._shuffled = {name: _shuffler(setting, spec) for name, spec in self.specs.items()}
        self._held: dict[str, tuple[int, Array]] = {}

    def places(self, t: int) -> Places:
        """Return the rows of step t as an order on the device and a start on the host."""
        found = {}
        for name, spec in self.specs.items():
            epoch, place = divmod(t - 1, spec.population // spec.shape[0])
            if name not in self._held or self._held[name][0] != epoch:
                self._held[name] = epoch, self._shuffled[name](self._roots[name], epoch)
            found[name] = {"order": self._held[name][1], "start": np.asarray(place * spec.shape[0], dtype=np.int32)}
        return found

    def rows(self, t: int) -> dict[str, np.ndarray]:
        """Return the row numbers [1, B] of step t on the host."""
        places = {n: {**p, "order": self._backend.to_numpy(p["order"])} for n, p in self.places(t).items()}
        return taken(get("numpy"), places, self.specs)


def taken(backend: Backend, places: Places, specs: dict[str, Noise]) -> dict[str, Array]:
    """Return the row numbers [1, B] of a minibatch, by name of noise.

    Parameters
    ----------
    backend
        Array framework.
    places
        Shuffled row numbers, and the position of the minibatch in them, by name of noise.
    specs
        Declared noise, {name: Noise}.
    """
    found = {}
    for name, place in places.items():
        among = place["start"] + backend.asarray(np.arange(specs[name].shape[0]), None)
        found[name] = backend.xp.take(place["order"], among, axis=0)[None, :]
    return found


def _shuffler(setting: Setting, spec: Noise) -> Callable[[Any, int], Array]:
    """Return a function (root of the stream, epoch) -> all row numbers [N] in that epoch's order, on the device."""
    source = get("numpy") if setting.shared else setting.backend
    whole = {"rows": replace(spec, shape=(spec.population,))}

    def shuffled(root: Any, epoch: Any) -> Array:
        return draw(source, whole, {"rows": root}, epoch, 1, setting.dtype)["rows"][0, :]

    if setting.draws_inside:
        compiled = compiled_once(("shuffled", source.name, source.device, spec), lambda: source.compile(shuffled))
        return lambda root, epoch: compiled(root, np.int32(epoch))
    return (lambda root, epoch: setting.backend.asarray(shuffled(root, epoch), None)) if setting.shared else shuffled
