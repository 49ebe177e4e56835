"""Noise: the randomness that one estimate consumes, drawn before the estimator runs.

An estimator declares the noise it needs as named `Noise`. A backend supplies three primitives (standard normal, uniform
on [0, 1), random subset of rows), and this module builds all kinds of noise from them, once for all backends. Each name
has a random stream of its own, so two estimators that share a name share its draws (common random numbers).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from gradmeter.estimators import sobol
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError, unknown

Array = Any
Kind = Literal["normal", "uniform", "exponential", "rayleigh", "maxwell", "rademacher", "stratum", "rows", "sobol"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Noise:
    """The declaration of one named array of noise.

    Parameters
    ----------
    kind
        `normal` N(0, 1); `uniform` on [0, 1); `exponential` density exp(-e) on e > 0; `rayleigh` density w exp(-w²/2)
        on w ≥ 0; `maxwell` the double-sided Maxwell density m² exp(-m²/2)/√(2π); `rademacher` −1 or 1; `stratum`
        uniform on [0, 1), the position within a stratum, of which a function may be singular at either end; `rows`
        distinct row numbers below `population`; `sobol` [..., S, width] scrambled Sobol nets in the unit cube.
    shape
        Shape for one estimate; the array drawn is [R, *shape].
    population
        The number of rows to choose from, for `rows`.
    reversible
        Whether the array may have its axes reversed in memory (`replicates_last`).

    Raises
    ------
    UsageError
        The kind or the shape is not valid, or there are fewer rows than are drawn.
    """

    kind: Kind
    shape: tuple[int, ...]
    population: int = 0
    reversible: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of noise", str(self.kind), KINDS)
        sizes = self.shape if isinstance(self.shape, tuple) else (None,)
        if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
            raise UsageError(f"noise of shape {self.shape!r}: a shape is a tuple of whole numbers, such as () or (3,)")
        if self.kind == "rows" and not 0 < math.prod(self.shape) <= self.population:
            drawn, rows = math.prod(self.shape), self.population
            raise UsageError(
                f"noise of kind rows draws {drawn} of a population of {rows}; give Noise('rows', shape, rows)"
            )


class DrawnNoise(dict[str, Any]):
    """The noise of R estimates: arrays [R, *shape] by name, and R itself, which estimators without noise need too.

    Attributes
    ----------
    replicates
        R.
    """

    def __init__(self, arrays: Mapping[str, Any], replicates: int) -> None:
        super().__init__(arrays)
        self.replicates = replicates

    def each(self, function: Callable[[Any], Any]) -> DrawnNoise:
        """Return the noise with a function applied to every array.

        Parameters
        ----------
        function
            Takes an array and returns one, with the same first axis.

        Returns
        -------
        DrawnNoise
        """
        return DrawnNoise({name: function(a) for name, a in self.items()}, self.replicates)

    def at(self, places: np.ndarray) -> DrawnNoise:
        """Return the noise of the replicates with these numbers.

        Parameters
        ----------
        places
            Numbers of replicates [R′].

        Returns
        -------
        DrawnNoise
            Of R′ replicates.
        """
        return DrawnNoise({name: a[places] for name, a in self.items()}, len(places))


def sample_axis(full: tuple[int, ...], one: tuple[int, ...]) -> int | None:
    """Return the axis along which noise of shape `full` has several samples and `one` has one.

    It is None if the shapes are equal, −1 if they differ otherwise.

    Parameters
    ----------
    full
        Shape of noise of several samples.
    one
        Shape of the same noise of one sample.

    Returns
    -------
    int or None
    """
    if full == one:
        return None
    places = [k for k, size in enumerate(one) if size == 1 and full[:k] + full[k + 1 :] == one[:k] + one[k + 1 :]]
    return places[0] if len(full) == len(one) and places else -1


def stream_root(*path: object) -> int:
    """Return a 128-bit number for the stream at `path`, stable across processes and machines.

    Parameters
    ----------
    *path
        Parts of the path, each identified by its text.

    Returns
    -------
    int
    """
    text = "\x1f".join(str(part) for part in path)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


#: Blocks whose seeds are hashed together: one hash costs as much as thousands of normal numbers.
_SEEDED_TOGETHER = 64


@functools.lru_cache(maxsize=64)
def _seeds(root: int, group: int) -> np.ndarray:
    words = np.random.SeedSequence(root, spawn_key=(group,)).generate_state(3 * _SEEDED_TOGETHER, np.uint64)
    return words.reshape(_SEEDED_TOGETHER, 3)


def seed_words(root: int, block: int) -> np.ndarray:
    """Return the three 64-bit words that seed the stream of one block of replicates.

    Parameters
    ----------
    root
        A number that `stream_root` returned.
    block
        Number of the block of replicates, from 0.

    Returns
    -------
    array
        [3], of unsigned integers.
    """
    group, place = divmod(int(block), _SEEDED_TOGETHER)
    return _seeds(root, group)[place]


def draw(
    backend: Backend, specs: Mapping[str, Noise], roots: Mapping[str, Any], block: Any, replicates: int, dtype: str
) -> DrawnNoise:
    """Draw one block of replicates: every named array, each from the stream (its root, block).

    Parameters
    ----------
    backend
        Array framework.
    specs
        The declared noise, {name: Noise}.
    roots
        Stream roots in the backend's form, {name: root}.
    block
        Number of the block of replicates, from 0; it may be traced.
    replicates
        R.
    dtype
        `float64` or `float32`.

    Returns
    -------
    DrawnNoise
        Arrays [R, *shape] by name, on the backend's device.
    """
    arrays = {
        name: _draw(backend, spec, backend.stream(roots[name], block), (replicates, *spec.shape), dtype)
        for name, spec in specs.items()
    }
    return DrawnNoise(arrays, replicates)


def make_sampler(
    backend: Backend, specs: Mapping[str, Noise], replicates: int, dtype: str
) -> Callable[[Mapping[str, Any]], dict[str, Array]]:
    """Return a function that draws all named arrays from open streams, given by name.

    Streams of NumPy and PyTorch are stateful: each call continues where the last one stopped.

    Parameters
    ----------
    backend
        Array framework.
    specs
        The declared noise, {name: Noise}.
    replicates
        R.
    dtype
        `float64` or `float32`.

    Returns
    -------
    callable
        ({name: stream}) -> {name: [R, *shape]}.
    """
    each = {name: _drawer(backend, spec, (replicates, *spec.shape), dtype) for name, spec in specs.items()}
    return lambda streams: {name: draw(streams[name]) for name, draw in each.items()}


def mirror(xp: Any, kind: Kind, values: Array) -> Array:
    """Reflect noise to its mirror image of the same distribution: −ε, 1 − u, or the inverse CDF at 1 − u.

    Parameters
    ----------
    xp
        Array API namespace.
    kind
        Kind of the noise.
    values
        Array of noise.

    Returns
    -------
    array
        Of the shape of `values`.

    Raises
    ------
    ValueError
        Noise of this kind has no mirror image.
    """
    if kind in ("normal", "maxwell", "rademacher"):
        return -values
    if kind == "uniform":
        return 1.0 - values
    if kind == "exponential":  # −log(1 − exp(−e)), to full precision for small and large e
        near = values < 0.7
        far = xp.where(near, xp.ones_like(values), values)
        return -xp.where(near, xp.log(-xp.expm1(-values)), xp.log1p(-xp.exp(-far)))
    raise ValueError(f"noise of kind {kind} has no mirror image here")


def replicates_last(backend: Backend, shape: tuple[int, ...]) -> bool:
    """Return whether an array [R, ...] has its axes reversed in memory, so that replicates are contiguous.

    Loops should run along the longest axis. Compilers benefit only if there is one further axis, as in [R, 1, D]: for
    [R, S, D] reversed, they make slower code than for the usual order.

    Parameters
    ----------
    backend
        Array framework.
    shape
        [R, ...].

    Returns
    -------
    bool
    """
    inner = math.prod(shape[1:-1])
    return shape[0] >= math.prod(shape[1:]) and (backend.strided if inner > 1 else len(shape) <= 3)


def _drawer(backend: Backend, spec: Noise, shape: tuple[int, ...], dtype: str) -> Callable[[Any], Array]:
    last = spec.reversible and replicates_last(backend, shape)
    if spec.kind == "normal" and not last:  # choosing would cost as much as a small draw
        return lambda stream: backend.normal(stream, shape, dtype)
    return lambda stream: _draw(backend, spec, stream, shape, dtype)


def _draw(backend: Backend, spec: Noise, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
    if spec.kind == "rows":
        return backend.subset(stream, shape, spec.population)
    if spec.kind == "sobol":
        nets = (math.prod(shape[:-2]), *shape[-2:])
        return backend.xp.reshape(sobol.draw(backend, stream, nets, dtype), shape)
    if not (spec.reversible and replicates_last(backend, shape)):
        return _draw_in_order(backend, spec.kind, stream, shape, dtype)
    reversed_axes = tuple(range(len(shape)))[::-1]
    return backend.xp.permute_dims(_draw_in_order(backend, spec.kind, stream, shape[::-1], dtype), reversed_axes)


def _draw_in_order(backend: Backend, kind: Kind, stream: Any, shape: tuple[int, ...], dtype: str) -> Array:
    xp = backend.xp
    if kind == "normal":
        return backend.normal(stream, shape, dtype)
    if kind in ("uniform", "stratum"):
        return backend.uniform(stream, shape, dtype)
    if kind == "exponential":  # inverse CDF of a number in the open interval (0, 1), so neither 0 nor infinity is drawn
        half = 2.0**-53 if dtype == "float64" else 2.0**-24
        return -xp.log1p(-(half + (1.0 - 2.0 * half) * backend.uniform(stream, shape, dtype)))
    if kind == "rayleigh":  # inverse CDF
        return xp.sqrt(-2.0 * xp.log1p(-backend.uniform(stream, shape, dtype)))
    if kind == "rademacher":
        above = backend.uniform(stream, shape, dtype) >= 0.5
        return 2.0 * xp.astype(above, getattr(xp, dtype)) - 1.0
    # The norm of a 3-D normal has the Maxwell density and is independent of its direction, hence of this sign.
    normal = backend.normal(stream, (3, *shape), dtype)
    return xp.sign(normal[0, ...]) * xp.sqrt(xp.sum(normal * normal, axis=0))
