"""Training the variational autoencoder of digits: time and result against a plain loop, and memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradmeter.bench.cells import make_problem
from gradmeter.bench.fit.gradient import GradientMethod
from gradmeter.bench.fit.held_out import columns
from gradmeter.bench.fit.recipe import Gradient
from gradmeter.bench.optimisation.optimisers import Adam
from gradmeter.bench.performance.goals.goal import Goal, Measured, ratio
from gradmeter.bench.performance.goals.kernels import present
from gradmeter.bench.performance.goals.plain import LOOPS, Drawn, Loop, plain
from gradmeter.bench.performance.goals.scaling import peak_of
from gradmeter.bench.problems.vae.digits import Vae
from gradmeter.estimators import Pathwise

MODEL = "vae[size=1497,batch=100,hidden=64,latent=2,at=initial,kl=analytic]"
RATE, STEPS, SEEDS = 0.01, 1000, 5
#: Largest deficit of the test ELBO against a plain loop, in nats per image.
MARGIN = 0.01
#: About 10^3 and 10^4 replicates in whole blocks, so that the rows hold the numbers that were requested.
REPLICATES = (1280, 10_240)


def method(problem: Vae, backend: str, seed: int, rate: float = RATE) -> GradientMethod:
    """Return the method of `gradmeter fit --dtype float32 --samples 1 --estimator pathwise`."""
    found = Gradient(Pathwise(), Adam(rate=rate), 1, backend, dtype="float32").prepare(problem, seed)
    assert isinstance(found, GradientMethod)
    return found


def ours(problem: Vae, backend: str, seed: int, rate: float = RATE) -> Loop:
    """Return the loop of that method's steps, each of which blocks."""
    taken = method(problem, backend, seed, rate)
    held: list[Any] = [taken.initial(), 0]

    def step() -> None:
        held[1] += 1
        held[0] = taken.step(held[0], held[1])
        taken.wait(held[0])

    return Loop(step, lambda: taken.parameters(held[0]))


def drawn(problem: Vae, backend: str, seed: int) -> Iterator[Drawn]:
    """Yield what the method's steps draw."""
    found = method(problem, backend, seed).stepper
    for t in itertools.count(1):
        noise = found.noise(t)
        yield noise["rows"][0], noise["base"][0][:, 0]


def vae() -> Iterator[Goal]:
    """Yield time per step over a plain loop's, test ELBO less a plain loop's, and how memory grows."""
    made: Any = make_problem(MODEL)
    for backend in present(*LOOPS):
        yield Goal(
            f"a training step over a plain loop's: {backend}, vae, pathwise, float32",
            ratio(ours(made, backend, 0).step, plain(backend, made, RATE, 0).step),
            most=1.1,
            remark="minibatch and noise drawn, gradient, Adam",
        )
    for backend in present(*LOOPS):
        yield reached(made, backend)
    for backend in present():
        few, many = (peak_of(backend, MODEL, replicates) for replicates in REPLICATES)
        over = many[1] / few[1]
        yield Goal(
            f"peak memory of the variance of vae's gradient, {many[0] / few[0]:g} times the replicates: {backend}",
            Measured(over, over, over),
            most=1.05,
            remark=f"{many[1] / 1024:.0f} MiB at {many[0]:,} replicates, {few[1] / 1024:.0f} MiB at {few[0]:,}",
        )


def reached(problem: Vae, backend: str) -> Goal:
    """Compare test ELBOs after equally many steps from the same weights on the same minibatches and noise.

    The mean difference is over seeds of these, its interval is Student's, and the whole interval is held to the margin.
    On different minibatches and noise, two runs end some 0.2 nats apart, whichever loop takes the steps.
    """
    from scipy import stats

    values = np.array(
        [
            [
                after(ours(problem, backend, s), problem),
                after(plain(backend, problem, RATE, s, drawn(problem, backend, s)), problem),
            ]
            for s in range(SEEDS)
        ]
    )
    away = values[:, 0] - values[:, 1]
    half = float(stats.t.ppf(0.975, SEEDS - 1) * away.std(ddof=1) / np.sqrt(SEEDS))
    mean, (own, other) = float(away.mean()), values.mean(axis=0)
    return Goal(
        f"test ELBO less a plain loop's after {STEPS:,} steps, nats an image: {backend}",
        Measured(mean, mean - half, mean + half),
        least=-MARGIN,
        certain=True,
        remark=f"{own:.3f} and {other:.3f}, means over {SEEDS} seeds, the same draws for both",
    )


def after(loop: Loop, problem: Vae) -> float:
    """Return the test ELBO after `STEPS` steps."""
    for _ in range(STEPS):
        loop.step()
    return float(columns(problem, loop.parameters(), 0, last=False)["test_elbo"])
