"""Training the variational autoencoder of digits: against a plain loop, in time and in what is reached; its memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.fit.held_out import columns
from bench.fit.optimisers import Adam
from bench.fit.recipe import Gradient
from bench.goals.goal import Goal, Measured, ratio
from bench.goals.kernels import present
from bench.goals.plain import LOOPS, Loop
from bench.goals.scaling import peak_of
from bench.problems.vae.digits import Vae
from bench.sweep.cells import make_problem
from estimators import Pathwise

MODEL = "vae[size=1497,batch=100,hidden=64,latent=2,at=initial,kl=analytic]"
RATE, STEPS, SEEDS = 0.01, 1000, 5
#: Nats an image by which what is reached may be below a plain loop's: half a per cent of the ELBO, far above the
#: spread of the mean over seeds.
MARGIN = 0.1
#: What whole blocks make of about 10^3 and 10^4: else the rows would hold other numbers than were asked for.
REPLICATES = (1280, 10_240)


def ours(problem: Vae, backend: str, seed: int, rate: float = RATE) -> Loop:
    """The steps that `gradvar fit --dtype float32 --samples 1 --estimator pathwise` takes."""
    method = Gradient(Pathwise(), Adam(rate=rate), 1, backend, dtype="float32").prepare(problem, seed)
    held: list[Any] = [method.initial(), 0]

    def step() -> None:
        held[1] += 1
        held[0] = method.step(held[0], held[1])

    return Loop(step, lambda: method.parameters(held[0]))


def vae() -> Iterator[Goal]:
    """A step over a plain one, the test ELBO less a plain loop's, and memory at 10^4 replicates of the gradient."""
    made: Any = make_problem(MODEL)
    for backend in present(*LOOPS):
        yield Goal(
            f"a training step over a plain loop's: {backend}, vae, pathwise, float32",
            ratio(ours(made, backend, 0).step, LOOPS[backend](made, RATE, 0).step),
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
    """The difference of the test ELBOs after equal steps, over seeds; the interval is Student's."""
    from scipy import stats

    values = np.array(
        [
            [after(loop, problem) for loop in (ours(problem, backend, s), LOOPS[backend](problem, RATE, s))]
            for s in range(SEEDS)
        ]
    )
    away = values[:, 0] - values[:, 1]
    half = float(stats.t.ppf(0.975, SEEDS - 1) * away.std(ddof=1) / np.sqrt(SEEDS))
    mean, (own, plain) = float(away.mean()), values.mean(axis=0)
    return Goal(
        f"test ELBO less a plain loop's after {STEPS:,} steps, nats an image: {backend}",
        Measured(mean, mean - half, mean + half),
        least=-MARGIN,
        remark=f"{own:.3f} and {plain:.3f}, means over {SEEDS} seeds",
    )


def after(loop: Loop, problem: Vae) -> float:
    """The test ELBO after `STEPS` steps."""
    for _ in range(STEPS):
        loop.step()
    return float(columns(problem, loop.parameters(), 0, last=False)["test_elbo"])
