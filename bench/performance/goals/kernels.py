"""Budgets of the compiled kernel.

They compare it with its noise alone, autodiff with closed forms, and one estimate with a hand-written step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell, make_estimator, make_problem
from gradmeter.bench.measurement.cost import timed_calls
from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel, timed_call
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.performance.floor import draw_noise_alone, ratio_to_floor
from gradmeter.bench.performance.goals.goal import Goal, Measured, ratio
from gradmeter.estimators.backends import NAMES, missing

FLOOR_LIMITS = {"numpy": 1.50, "torch": 1.35, "jax": 1.25}
ESTIMATORS = (("pathwise", 1), ("score-function", 1), ("score-function[baseline=leave-one-out]", 10))
DIMENSIONS = (10, 100, 1000)


def present(*names: str) -> list[str]:
    """Return those of the backends that are installed."""
    return [name for name in names or NAMES if missing(name) is None]


def setting(problem: str, estimator: str, backend: str, samples: int = 1) -> Setting:
    """Return the setting of a cell in float32.

    Parameters
    ----------
    problem, estimator
        `name[k=v,...]`.
    backend
        Name of the backend.
    samples
        S.
    """
    cell = Cell(make_problem(problem), make_estimator(estimator), backend, dtype="float32", num_samples=samples)
    return prepare(cell).setting


def floor() -> Iterator[Goal]:
    """Yield the time of noise, estimate and statistics over that of the noise alone, float32."""
    for backend, dimension, (estimator, samples) in itertools.product(present(), DIMENSIONS, ESTIMATORS):
        found = ratio_to_floor(setting(f"square[k=2,dim={dimension}]", estimator, backend, samples))
        yield Goal(
            f"kernel over its noise: {backend}, {estimator}, D = {dimension}, S = {samples}",
            Measured(found.ratio, found.low, found.high),
            most=FLOOR_LIMITS[backend],
            remark=f"{1e9 * found.seconds_per_estimate / (dimension * samples):.2f} ns a number",
        )


def profile() -> Iterator[Goal]:
    """Yield the parts of the kernel's time (noise, averaged estimates, all statistics) over the noise alone."""
    for backend, dimension, estimator in itertools.product(present(), (10, 100), ("pathwise", "score-function")):
        s = setting(f"square[k=2,dim={dimension}]", estimator, backend)
        kernel, averaged, roots = StatisticsKernel(s), timed_call(s, s.replicates), s.roots("timing")
        noise = draw_noise_alone(s, 1)
        parts = {"estimates averaged": (averaged.run, averaged.replicates)}
        if not s.draws_inside:
            parts["its noise"] = (lambda: s.backend.block_until_ready(s.noise(roots, 0, s.replicates))), s.replicates  # noqa: B023
        parts["all statistics"] = _statistics(s), s.replicates * kernel.chunk
        for part, (run, replicates) in sorted(parts.items(), key=lambda each: each[0] != "its noise"):
            over = ratio(run, noise)
            scale = s.replicates / replicates
            yield Goal(
                f"of the kernel's time, {part}: {backend}, {estimator}, D = {dimension}",
                Measured(over.value * scale, over.low * scale, over.high * scale),
            )


def autodiff() -> Iterator[Goal]:
    """Yield the time of a user's integrand, differentiated by the framework, over that of the closed form."""
    for backend, dimension in itertools.product(present("torch", "jax"), (10, 100)):
        users, closed = (
            _statistics(setting(f"square[k=2,dim={dimension},differentiate={how}]", "pathwise", backend))
            for how in ("autodiff", "closed-form")
        )
        yield Goal(f"autodiff over closed form: {backend}, pathwise, D = {dimension}", ratio(users, closed), most=1.10)


def _statistics(s: Setting) -> Callable[[], Any]:
    kernel, roots, centre = StatisticsKernel(s), s.roots("timing"), s.zeros()
    return lambda: kernel(roots, 0, centre)


def latency() -> Iterator[Goal]:
    """Yield the time of one pathwise estimate of the logistic regression's ELBO over that of a hand-written step."""
    for backend in present():
        cell = Cell(make_problem("logistic-regression"), make_estimator("pathwise"), backend, dtype="float32")
        ready = prepare(cell)
        _, alone = timed_calls(ready)
        yield Goal(
            f"one estimate over a hand-written step: {backend}, logistic regression, pathwise",
            ratio(alone.run, _STEPS[backend](ready.setting)),
            most=1.2,
        )


def _numpy_step(s: Setting) -> Callable[[], Any]:
    design, response = s.expectation.data["design"], s.expectation.data["response"]
    loc, log_scale = s.parameters["loc"], s.parameters["log_scale"]
    generator = np.random.default_rng(0)

    def step() -> Any:
        scale = np.exp(log_scale)
        noise = generator.standard_normal(len(loc), dtype=np.float32)
        z = loc + scale * noise
        slope = design.T @ (response - 1.0 / (1.0 + np.exp(-(design @ z)))) - z
        return slope, slope * scale * noise + 1.0

    return step


def _torch_step(s: Setting) -> Callable[[], Any]:
    import torch

    design, response = s.expectation.data["design"], s.expectation.data["response"]
    loc, log_scale = s.parameters["loc"], s.parameters["log_scale"]

    def hand_written(noise: Any, loc: Any, log_scale: Any) -> Any:
        scale = torch.exp(log_scale)
        z = loc + scale * noise
        slope = (response - torch.sigmoid(design @ z)) @ design - z
        return slope, slope * scale * noise + 1.0

    compiled = s.backend.compile(hand_written)
    return lambda: compiled(torch.randn(len(loc)), loc, log_scale)


def _jax_step(s: Setting) -> Callable[[], Any]:
    import jax

    xp, design, response = jax.numpy, s.expectation.data["design"], s.expectation.data["response"]
    loc, log_scale = s.parameters["loc"], s.parameters["log_scale"]

    def elbo(parameters: Any, noise: Any) -> Any:
        loc, log_scale = parameters
        z = loc + xp.exp(log_scale) * noise
        predictor = design @ z
        return xp.sum(response * predictor - jax.nn.softplus(predictor)) - 0.5 * z @ z + xp.sum(log_scale)

    @jax.jit
    def step(key: Any, loc: Any, log_scale: Any) -> Any:
        key, use = jax.random.split(key)
        return key, jax.grad(elbo)((loc, log_scale), jax.random.normal(use, loc.shape, loc.dtype))

    key = jax.random.key(0)
    return lambda: jax.block_until_ready(step(key, loc, log_scale))


_STEPS = {"numpy": _numpy_step, "torch": _torch_step, "jax": _jax_step}
