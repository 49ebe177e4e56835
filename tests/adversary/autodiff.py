"""Surrogate losses differentiated by JAX and PyTorch, right and wrong, and which other cases run there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.adversary import correct, settings, wrong, wrong_discrete
from tests.adversary.cases import Blocks, Case, Tools
from tests.adversary.parts import normals

SETTING = settings.square(loc=0.4, scale=0.8, k=-0.6)
MU, SD, K = 0.4, 0.8, -0.6
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def _frameworks(backend: str) -> tuple[Any, Any, Any]:
    """Return grad, vmap and stop-gradient."""
    if backend == "jax":
        import jax

        return jax.grad, jax.vmap, jax.lax.stop_gradient
    import torch

    return torch.func.grad, torch.func.vmap, lambda x: x.detach()


def surrogate(backend: str, loss: Any) -> Any:
    """Return an estimate that differentiates loss(xp, λ, ε, stop) of one replicate, ε [S, D]."""

    def estimate(t: Tools, n: Blocks) -> Blocks:
        grad, vmap, stop = _frameworks(backend)

        def one(parameters: Blocks, e: Any) -> Any:
            return loss(t.xp, parameters, e, stop)

        if backend == "jax":
            return vmap(grad(one), (None, 0))(t.parameters, n["e"])
        return vmap(grad(one), (None, 0))(t.parameters, n["e"])

    return estimate


def _sample(xp: Any, p: Blocks, e: Any) -> Any:
    return p["loc"] + xp.exp(p["log_scale"]) * e


def _log_density(xp: Any, p: Blocks, z: Any) -> Any:
    scaled = (z - p["loc"]) / xp.exp(p["log_scale"])
    return xp.sum(-0.5 * scaled**2 - p["log_scale"] - HALF_LOG_2PI, axis=-1)


def _f(xp: Any, z: Any) -> Any:
    return xp.sum((z - K) ** 2, axis=-1)


def stopped(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    z = stop(_sample(xp, p, e))
    return xp.mean(_f(xp, z) * _log_density(xp, p, z))


def path(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    return xp.mean(_f(xp, _sample(xp, p, e)))


def stopped_leave_one_out(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    z = stop(_sample(xp, p, e))
    f = _f(xp, z)
    size = f.shape[0]
    return xp.sum((f - xp.mean(f)) * _log_density(xp, p, z)) / (size - 1.0)


def stopped_baseline(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    z = stop(_sample(xp, p, e))
    return xp.mean((_f(xp, z) - stop(_f(xp, p["loc"]))) * _log_density(xp, p, z))


def free_baseline(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    z = stop(_sample(xp, p, e))
    return xp.mean((_f(xp, z) - _f(xp, p["loc"])) * _log_density(xp, p, z))


def sampler_differentiated(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    z = _sample(xp, p, e)
    return xp.mean(stop(_f(xp, z)) * _log_density(xp, p, z))


def nothing_stopped(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    z = _sample(xp, p, e)
    return xp.mean(_f(xp, z) * _log_density(xp, p, z))


def own_mean(xp: Any, p: Blocks, e: Any, stop: Any) -> Any:
    z = stop(_sample(xp, p, e))
    f = _f(xp, z)
    return xp.mean((f - xp.mean(f)) * _log_density(xp, p, z))


def _cases(backend: str) -> list[Case]:
    mean_f = (MU - K) ** 2 + SD**2
    log_q = -0.5 - math.log(SD) - HALF_LOG_2PI
    g_loc, g_scale = 2.0 * (MU - K), 2.0 * SD**2

    def case(kind: str, name: str, loss: Any, samples: int, loc: float, log_scale: float) -> Case:
        mean = {"loc": np.array([loc]), "log_scale": np.array([log_scale])}
        return Case(
            kind,
            name,
            SETTING,
            surrogate(backend, loss),
            normals(samples, 1),
            mean,
            samples,
            backend=backend,
            simulated=False,
        )

    return [
        case("correct", "surrogate-stopped", stopped, 2, g_loc, g_scale),
        case("correct", "surrogate-path", path, 1, g_loc, g_scale),
        case("correct", "surrogate-leave-one-out", stopped_leave_one_out, 4, g_loc, g_scale),
        case("correct", "surrogate-stopped-baseline", stopped_baseline, 2, g_loc, g_scale),
        case("wrong", "surrogate-free-baseline", free_baseline, 2, g_loc - log_q * g_loc, g_scale),
        case("wrong", "surrogate-sampler-differentiated", sampler_differentiated, 2, 0.0, -mean_f),
        case(
            "wrong",
            "surrogate-nothing-stopped",
            nothing_stopped,
            2,
            g_loc * log_q,
            2.0 * SD**2 * (log_q - 1.0) - mean_f,
        ),
        case("wrong", "surrogate-own-mean", own_mean, 4, 0.75 * g_loc, 0.75 * g_scale),
    ]


WRONG = (
    "leave-one-out-over-S",
    "factor-0.9",
    "sigma-for-log-sigma",
    "weights-truncated",
    "noise-clipped-2",
    "gradient-clipped-8",
    "dropped-0.01",
    "spike-0.001-inside",
    "spread-0.05-100",
    "coin-lost",
    "self-normalised-2",
    "temperature-0.9",
    "stratum-lost",
    "size-1e-12-factor-0.5",
)
CORRECT = (
    "leave-one-out-8",
    "antithetic-path",
    "importance-mixture",
    "rejection-of-6",
    "log-normal-2",
    "rests-on-0.0001",
    "roulette",
    "minibatch-rows",
    "disarm-by-hand",
    "gumbel-max",
    "coin-of-weight-2",
    "size-1e-12",
    "constant",
)


def cases(backend: str) -> list[Case]:
    """Return what runs on `jax` or `torch`: a part of the others, and surrogate losses."""
    found = [
        *(case for case in [*wrong.cases(), *wrong_discrete.cases()] if case.name in WRONG),
        *(case for case in correct.cases() if case.name in CORRECT and case.dtype == "float64"),
    ]
    single = [
        case.on(backend, "float32")
        for case in found
        if case.name in ("factor-0.9", "leave-one-out-8", "noise-clipped-2")
    ]
    return [*(case.on(backend, case.dtype) for case in found), *single, *_cases(backend)]
