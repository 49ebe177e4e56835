"""The measured kernel: noise, estimate and block sums as one function, compiled once per structure.

The static parts (estimator, family, integrand, shapes, dtype) are the key of a cache; every number is passed in an
array. So a grid over k, over data of one shape or over λ compiles once.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradmeter.bench.forms.results import jumps_of
from gradmeter.bench.identity.content import Same
from gradmeter.bench.identity.owner import brought, of_the_catalogue
from gradmeter.estimators import Estimator, Expectation, UsageError, draw
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.noise import DrawnNoise, Noise, make_sampler, replicates_last, stream_root

Array = Any
#: Sums over the replicates of consecutive blocks, in the working precision, by parameter block, with d = ĝ − centre:
#: Σd, Σd² and Σd³, each [blocks, P], the last over the first `StatisticsKernel.cubed` replicates; and Q = ‖d‖² [blocks,
#: replicates].
BlockSums = dict[str, tuple[np.ndarray, ...]]

#: Elements of the widest intermediate array in one block of replicates, which fit in a core's cache.
BLOCK_ELEMENTS = 2**17
LARGEST_BLOCK = 16384
#: Limit on the numbers that a call returns, exceeded only by a single block: large results cost time and fresh memory.
MOST_RETURNED = 2**20
#: Kinds of noise in [0, 1).
BELOW_ONE = ("uniform", "stratum", "sobol")
#: Most blocks in a timed call: enough to hide the overhead of a call, without lengthening the timing.
TIMED_BLOCKS = 4


def block_size(width: int, num_samples: int) -> int:
    """Return the number of replicates in a block, from the problem and S alone, so results do not depend on speed.

    It is rounded down to three binary digits: loops want many factors of two, and rounding to a power of two would
    waste up to half.
    """
    fits = max(1, BLOCK_ELEMENTS // (width * num_samples))
    spare = max(0, fits.bit_length() - 3)
    return min(LARGEST_BLOCK, fits >> spare << spare)


@dataclass(frozen=True)
class Setting:
    """One estimator on one expectation at one λ, on a backend, with arrays on its device.

    Attributes
    ----------
    backend, dtype
        Framework with its device, and precision.
    estimator, expectation
        The estimator and its target; `expectation.data` holds device arrays.
    parameters, state
        λ and the estimator's fitted state, as device arrays.
    dimension
        D, of z.
    num_samples
        S.
    replicates
        Replicates in a block.
    path
        (problem, options, seed, S), the start of every noise stream's path.
    shared
        Whether NumPy draws the noise on the host, the same for every backend.
    """

    backend: Backend
    dtype: str
    estimator: Estimator
    expectation: Expectation
    parameters: dict[str, Array]
    state: dict[str, Array]
    dimension: int
    num_samples: int
    replicates: int
    path: tuple[Hashable, ...]
    shared: bool

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Size P of each parameter block."""
        return {name: math.prod(shape) for name, shape in self.expectation.shapes(self.dimension).items()}

    @functools.cached_property
    def blocks(self) -> tuple[str, ...]:
        return self.expectation.blocks

    @functools.cached_property
    def specs(self) -> dict[str, Noise]:
        return self.estimator.noise_specs(self.expectation, self.num_samples, self.dimension)

    @functools.cached_property
    def users_parts(self) -> tuple[Any, ...]:
        """The user's own parts; two such objects may be equal and still compute different things."""
        e = self.expectation
        parts = (self.estimator, e.family, e.integrand, getattr(e, "encoder", None))
        own = () if of_the_catalogue(type(e)) else (e,)
        return (*own, *(part for part in parts if brought(part)))

    def discontinuities(self) -> dict[str, np.ndarray]:
        """Return the discontinuities that the estimator declares at λ, by name of noise.

        Raises
        ------
        NotApplicable
            A discontinuity is not at a fixed value of a single number.
        """
        host = self.expectation.bind({name: self.backend.to_numpy(a) for name, a in self.expectation.data.items()})
        parameters = {name: self.backend.to_numpy(a).astype(np.float64) for name, a in self.parameters.items()}
        found = self.estimator.discontinuities(host, parameters, self.num_samples, self.dimension)
        return jumps_of(self.estimator, found)

    @property
    def expensive_reductions(self) -> bool:
        """Whether f sums over more than the coordinates of z, such as rows of data."""
        return self.expectation.integrand.width(self.expectation.data, self.dimension) > self.dimension

    @functools.cached_property
    def draws_inside(self) -> bool:
        return bool(self.backend.draws_inside) and not self.shared

    @functools.cached_property
    def structure(self) -> tuple[Hashable, ...]:
        """Cache key of every function compiled for this setting; the compiler itself distinguishes further shapes.

        A user's own parts enter by their content at this moment, since functions compiled earlier hold their old
        content.
        """
        shapes = tuple((name, tuple(a.shape)) for name, a in sorted(self.expectation.data.items()))
        return (
            self.backend.name,
            self.backend.device,
            self.dtype,
            Same((self.estimator, self.expectation.structure)).key,
            tuple(self.specs.items()),
            tuple(sorted(self.state)),
            shapes,
            self.dimension,
            self.draws_inside,
        )

    def roots(self, stream: str) -> dict[str, Any]:
        """Return the root of a stream for each named noise."""
        source = get("numpy") if self.shared else self.backend
        return {name: source.root(stream_root(*self.path, stream, name)) for name in self.specs}

    def noise(self, roots: dict[str, Any], block: int, replicates: int) -> dict[str, Array]:
        """Draw one block's noise on the device, as a plain dict: a compiled function takes that fastest."""
        if self.draws_inside:  # an uncompiled loop would be compiled anew at every call
            backend, specs, dtype = self.backend, {name: self.specs[name] for name in roots}, self.dtype
            key = ("noise", backend.name, backend.device, tuple(specs.items()), replicates, dtype)
            run = compiled_once(
                key, lambda: backend.compile(lambda r, b: dict(draw(backend, specs, r, b, replicates, dtype)))
            )
            inside: dict[str, Array] = run(roots, backend.asarray(block, "int32"))
            return inside
        source = get("numpy") if self.shared else self.backend
        found = draw(source, {name: self.specs[name] for name in roots}, roots, block, replicates, self.dtype)
        return {name: self.backend.asarray(a, None) for name, a in found.items()} if self.shared else found

    def host_noise(self, stream: str, block: int, replicates: int) -> DrawnNoise:
        """Draw one block's noise as NumPy arrays, the same on every backend.

        Nothing is compiled for it. It is drawn in float64 and rounded to the cell's dtype, so its tails reach as far as
        those of float64.
        """
        roots = {name: stream_root(*self.path, stream, name) for name in self.specs}
        found = draw(get("numpy"), self.specs, roots, block, replicates, "float64")
        return DrawnNoise({name: self.rounded(name, a) for name, a in found.items()}, replicates)

    def rounded(self, name: str, noise: np.ndarray) -> np.ndarray:
        """Round noise of this name to the cell's dtype, keeping uniform numbers below 1."""
        if noise.dtype.kind != "f":
            return noise
        found = noise.astype(self.dtype)
        if self.specs[name].kind in BELOW_ONE:
            found = np.minimum(found, 1.0 - np.finfo(self.dtype).epsneg, dtype=self.dtype)
        return found

    def sampler(self, roots: dict[str, Any]) -> Callable[[], dict[str, Array]]:
        """Open the streams of block 0; return a function that draws the noise of the next estimate, on the device."""
        source = get("numpy") if self.shared else self.backend
        streams = {name: source.stream(root, 0) for name, root in roots.items()}
        draw = make_sampler(source, self.specs, 1, self.dtype)
        if not self.shared:
            return lambda: draw(streams)
        return lambda: {name: self.backend.asarray(a, None) for name, a in draw(streams).items()}

    def zeros(self) -> dict[str, Array]:
        """Return zeros on the device, for sums that need no particular centre."""
        return self.to_device({name: np.zeros(size) for name, size in self.sizes.items()})

    def to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, Array]:
        return {name: self.backend.asarray(a, self.dtype) for name, a in arrays.items()}


#: Number of compiled functions kept, the most recently used. One of JAX holds 7 to 10 MB, and a sweep has many workers.
MOST_COMPILED = 128
_COMPILED: dict[Hashable, Any] = {}
_COMPILING = threading.RLock()


def compiled_once(key: Hashable, build: Callable[[], Any]) -> Any:
    """Return the result of `build`, called only the first time for each key."""
    with _COMPILING:  # a background thread compiles the functions that are to be timed
        found = _COMPILED.pop(key, None)
        _COMPILED[key] = found = build() if found is None else found
        while len(_COMPILED) > MOST_COMPILED:
            _COMPILED.pop(next(iter(_COMPILED)))
        return found


def evaluator(setting: Setting, check: Callable[[dict[str, Array], DrawnNoise], None] | None = None) -> Any:
    """Return the pure function behind every compiled one: (data, parameters, state, noise) -> estimates, flat [R, P].

    Parameters
    ----------
    check
        Called with the estimates and the noise before the estimates are flattened.
    """
    backend, estimator, expectation, sizes = setting.backend, setting.estimator, setting.expectation, setting.sizes

    def evaluate(data: Any, parameters: Any, state: Any, noise: DrawnNoise) -> dict[str, Array]:
        found = estimator.estimate(backend, expectation.bind(data), parameters, noise, state)
        if check is not None:
            check(found, noise)
        return flattened(backend.xp, sizes, found)

    return evaluate


def flattened(xp: Any, sizes: dict[str, int], found: dict[str, Array]) -> dict[str, Array]:
    """Reshape estimates [R, *shape] to [R, P], with P of each block from `sizes`.

    Parameters
    ----------
    xp
        Array API namespace.
    sizes
        {parameter block: P}.
    found
        {parameter block: [R, *shape]}.
    """
    return {name: g if g.ndim == 2 else xp.reshape(g, (-1, sizes[name])) for name, g in found.items()}


def _with_noise(setting: Setting, replicates: int, reduce: Any, compiled: bool = True) -> Any:
    """Return a function that computes `reduce(estimates, centre)` for one block.

    On JAX it draws the noise inside and loops over several blocks.
    """
    backend, specs, dtype, evaluate = setting.backend, setting.specs, setting.dtype, evaluator(setting)
    if not setting.draws_inside:

        def of_noise(data: Any, parameters: Any, state: Any, centre: Any, noise: Any) -> Any:
            return reduce(evaluate(data, parameters, state, DrawnNoise(noise, replicates)), centre)

        return backend.compile(of_noise, setting.expensive_reductions) if compiled else of_noise

    def over_blocks(data: Any, parameters: Any, state: Any, centre: Any, roots: Any, blocks: Any) -> Any:
        def one(block: Any) -> Any:
            noise = draw(backend, specs, roots, block, replicates, dtype)
            return reduce(evaluate(data, parameters, state, noise), centre)

        return backend.map(one, blocks)

    return backend.compile(over_blocks, setting.expensive_reductions)


def blocks_per_call(setting: Setting) -> int:
    """Return the number of blocks in one call of a compiled function that draws its own noise; else 1."""
    if not setting.draws_inside:
        return 1
    width = setting.expectation.width(setting.dimension)
    drawn = setting.replicates * setting.num_samples * width
    returned = sum(3 * size + setting.replicates for size in setting.sizes.values())
    blocks = min(setting.backend.chunk // drawn, MOST_RETURNED // returned)
    return max(1, min(64, 1 << max(0, blocks.bit_length() - 1)))


def in_bulk(setting: Setting) -> Setting:
    """Return the setting with the block size that is fastest, for uses whose results do not depend on it."""
    width = setting.expectation.width(setting.dimension)
    cached = setting.draws_inside and setting.backend.device == "cpu"
    fits = (BLOCK_ELEMENTS if cached else setting.backend.chunk) // (setting.num_samples * width)
    return replace(setting, replicates=max(setting.replicates, 1 << max(0, fits.bit_length() - 1)))


class StatisticsKernel:
    """A kernel that turns blocks of noise into estimates and these into block sums.

    Parameters
    ----------
    uncompiled
        Number of first calls that run uncompiled, on backends whose compilation takes seconds.
    """

    def __init__(self, setting: Setting, uncompiled: int = 0) -> None:
        self.setting = setting
        backend, replicates = setting.backend, setting.replicates
        xp = backend.xp
        self.chunk = blocks_per_call(setting)
        # The third moment serves only the correction for skewness, for which a quarter of the replicates suffices.
        self.cubed = cubed = max(1, replicates // 4)

        def reduce(estimates: dict[str, Array], centre: dict[str, Array]) -> dict[str, tuple[Array, ...]]:
            found = {}
            for name, estimate in estimates.items():
                d, axis = estimate - centre[name], 0
                if replicates_last(backend, d.shape):
                    d, axis = xp.matrix_transpose(d), 1  # XLA follows the memory layout only if transposed explicitly
                some = d[:cubed] if axis == 0 else d[:, :cubed]
                square = d * d
                sums = tuple(backend.matrix_sum(powers, axis) for powers in (d, square, some * some * some))
                found[name] = (*sums, backend.matrix_sum(square if axis == 0 else xp.matrix_transpose(square), 1))
            return found

        key = ("statistics", setting.structure, replicates, self.chunk)
        self._run = compiled_once(key, lambda: _with_noise(setting, replicates, reduce))
        self._first, self._left = self._run, uncompiled if backend.compiles_slowly else 0
        if self._left:
            few = (*key, "uncompiled")
            self._first = compiled_once(few, lambda: _with_noise(setting, replicates, reduce, compiled=False))

    @property
    def settled(self) -> bool:
        """Whether all further calls run compiled, so that equal calls of other processes give equal sums."""
        return self._left <= 0

    @np.errstate(over="ignore", divide="ignore", invalid="ignore")  # the caller that accumulates the sums checks them
    def __call__(self, roots: dict[str, Any], first: int, centre: dict[str, Array]) -> BlockSums:
        """Return the sums of blocks `first` to `first + chunk`, the end excluded."""
        s = self.setting
        given = s.expectation.data, s.parameters, s.state, centre
        if s.draws_inside:
            blocks = s.backend.asarray(np.arange(first, first + self.chunk), "int32")
            found = self._called(*given, roots, blocks)
            return {name: tuple(map(s.backend.to_numpy, sums)) for name, sums in found.items()}
        found = self._called(*given, s.noise(roots, first, s.replicates))
        return {name: tuple([s.backend.to_numpy(a)[None] for a in sums]) for name, sums in found.items()}

    def _called(self, *arguments: Any) -> Any:
        self._left -= 1
        if self._left >= 0:
            return self._first(*arguments)
        try:
            return self._run(*arguments)
        except UsageError:  # compilation fails; timing reports the reason
            if self._first is self._run:
                raise
            self._run = self._first
            return self._run(*arguments)


@dataclass(frozen=True)
class TimedCall:
    """A call to be timed: `run()` draws noise and computes `replicates` estimates, blocking until they are done.

    `launch()` starts the same work on `backend` without waiting for it; both are None for work of other software.
    """

    run: Callable[[], Any]
    replicates: int
    launch: Callable[[], Any] | None = None
    backend: Backend | None = None

    def device_seconds(self, repeats: int) -> float | None:
        """Return the seconds of some calls by the clock of the device; None if it has none."""
        if self.launch is None or self.backend is None:
            return None
        return self.backend.device_seconds(self.launch, repeats)

    def peak_memory(self) -> int | None:
        """Return the bytes that a call takes on a device of its own; None if unknown."""
        return None if self.backend is None else self.backend.peak_memory(self.run)


def averaging(setting: Setting, replicates: int, compiled: bool = True) -> Any:
    """Return a function for the mean of this many estimates, of one block of noise or, on JAX, per block.

    Parameters
    ----------
    setting
        The cell that is measured.
    replicates
        Number of estimates in a call.
    compiled
        Whether it is compiled; where noise is drawn inside, it is in any case.
    """
    backend = setting.backend

    def reduce(found: dict[str, Array], centre: Any) -> Any:
        return found if replicates == 1 else {name: backend.matrix_sum(g, 0) / replicates for name, g in found.items()}

    key = ("timed", setting.structure, replicates, *(() if compiled else ("uncompiled",)))
    return compiled_once(key, lambda: _with_noise(setting, replicates, reduce, compiled))


def timed_call(setting: Setting, replicates: int, compiled: bool = True) -> TimedCall:
    """Return the call whose time is measured.

    The estimates are averaged inside it, so the time is that of computing them, not of storing them. A call for a
    single estimate continues to draw from open streams, as a training step does.

    Parameters
    ----------
    setting
        The cell that is measured.
    replicates
        Number of estimates in a call.
    compiled
        Whether the function is compiled.
    """
    s, run, wait = setting, averaging(setting, replicates, compiled), setting.backend.block_until_ready
    roots = s.roots("timing")
    arguments: tuple[Any, ...] = (s.expectation.data, s.parameters, s.state, {})
    if s.draws_inside:
        count = 1 if replicates == 1 else min(blocks_per_call(setting), TIMED_BLOCKS)
        blocks = s.backend.asarray(np.arange(count), "int32")
        return TimedCall(
            lambda: wait(run(*arguments, roots, blocks)),
            replicates * count,
            lambda: run(*arguments, roots, blocks),
            s.backend,
        )
    if replicates == 1:
        draw = s.sampler(roots)
        return TimedCall(lambda: wait(run(*arguments, draw())), 1, lambda: run(*arguments, draw()), s.backend)
    return TimedCall(
        lambda: wait(run(*arguments, s.noise(roots, 0, replicates))),
        replicates,
        lambda: run(*arguments, s.noise(roots, 0, replicates)),
        s.backend,
    )
