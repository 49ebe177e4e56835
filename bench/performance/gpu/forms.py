"""The forms in which a kernel can run: eager, compiled, as a CUDA graph, or with the noise drawn inside.

A kernel here draws the noise of R replicates and averages their estimates. PyTorch's forms are

- `eager`: noise and estimate operation by operation;
- `compiled`: noise by PyTorch's generator, the estimate by torch.compile, as everywhere in this project;
- `graph`: the same, captured once as a CUDA graph and replayed. The noise is drawn inside the graph, by a generator
  that is registered with it, so every replay draws fresh noise;
- `fused`: noise and estimate in one compiled function. Inductor draws the noise in the kernel that reads it, from the
  seed of the default generator: not the noise of this project's streams.

JAX has one form, `compiled`, whose noise is drawn inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell, make_estimator, make_problem
from gradmeter.bench.measurement.kernel import Setting, TimedCall, averaging
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import one_line, typed
from gradmeter.estimators.noise import make_sampler

FORMS = {"numpy": ("eager",), "torch": ("compiled", "graph", "eager", "fused"), "jax": ("compiled",)}
#: Calls before a capture, in which lazy initialisation and compilation take place.
WARM_UPS = 3


def setting(problem: str, estimator: str, backend: str, device: str, dtype: str, replicates: int) -> Setting:
    """Return a cell's setting with this many replicates in a block."""
    cell = Cell(make_problem(problem), make_estimator(estimator), backend, device, dtype)
    return replace(prepare(cell).setting, replicates=replicates)


def call(form: str, s: Setting) -> TimedCall:
    """Return the call of a kernel in one form.

    Raises
    ------
    UsageError
        The device has no such form.
    """
    launch = _launched(form, s)
    return TimedCall(lambda: s.backend.block_until_ready(launch()), s.replicates, launch, s.backend)


def _launched(form: str, s: Setting) -> Callable[[], Any]:
    arguments: tuple[Any, ...] = (s.expectation.data, s.parameters, s.state)
    roots = s.roots("timing")
    if s.draws_inside:
        run, first = averaging(s, s.replicates), s.backend.asarray(np.arange(1), "int32")
        return lambda: run(*arguments, {}, roots, first)
    sample = make_sampler(s.backend, s.specs, s.replicates, s.dtype)
    if form == "fused":
        inner, nameless = averaging(s, s.replicates, compiled=False), dict.fromkeys(s.specs)

        def with_noise(data: Any, parameters: Any, state: Any) -> Any:
            return inner(data, parameters, state, {}, sample(nameless))

        fused = s.backend.compile(with_noise, s.expensive_reductions)
        return lambda: fused(*arguments)
    run = averaging(s, s.replicates, compiled=form != "eager")
    streams = {name: s.backend.stream(root, 0) for name, root in roots.items()}

    def launch() -> Any:
        return run(*arguments, {}, sample(streams))

    return launch if form != "graph" else captured(s, launch, streams.values())[0]


def captured(s: Setting, work: Callable[[], Any], generators: Iterable[Any] = ()) -> tuple[Callable[[], Any], Any]:
    """Capture the work of a function as a CUDA graph.

    Parameters
    ----------
    work
        Function without arguments, whose arrays stay where they are in memory.
    generators
        Random generators that it draws from; registered, they advance with every replay.

    Returns
    -------
    The replay, which returns the results; and these results, arrays that every replay overwrites.
    """
    if s.backend.device != "cuda":
        raise UsageError("a CUDA graph needs a CUDA device")
    import torch

    work()  # compiles
    here, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(here)
    with torch.no_grad(), torch.cuda.stream(side):  # as a capture needs: warm-up on a stream that is not the default
        for _ in range(WARM_UPS):
            work()
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.no_grad(), torch.cuda.graph(graph):
        results = work()

    def replay() -> Any:
        graph.replay()
        return results

    return replay, results


def why(error: Exception) -> str:
    """Return in one line why a form does not run."""
    return one_line(error) if isinstance(error, UsageError) else typed(error)
