"""Randomised quasi-Monte Carlo: means over scrambled Sobol nets, with an error bound from their spread."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradmeter.bench.identity.content import Same
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.latent_rule import Key, key_of, parameters_of
from gradmeter.bench.problems.problem import Exact
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.capabilities import require

#: `Exact.source` of such a mean.
RQMC = "rqmc"
#: Number of independently scrambled nets.
NETS = 16
#: Probability that an error bound fails for any coordinate; bound of the whole gradient's error in standard errors.
LEVEL, STANDARD_ERRORS = 1e-3, 4.0
#: Relative error of rounding, added to every bound.
ROUNDING = 1e-13
#: For a problem: largest number of points of a net, and of elements (points × `Integrand.width`); elements at once.
POINTS, ELEMENTS, AT_ONCE = 2**14, 2**21, 2**20
#: Points of the first pilot net, and the relative error at which more points are not needed.
FEWEST, ENOUGH = 2**8, 5e-4


def normal_net(dimension: int, number: int, points: int) -> np.ndarray:
    """Return the points [points, dimension] of a net, mapped to standard Normals."""
    from scipy.special import ndtri  # slow to import
    from scipy.stats import qmc

    return np.asarray(ndtri(np.clip(qmc.Sobol(dimension, seed=number).random(points), 1e-16, 1.0 - 1e-16)))


def exact_of_nets(found: Sequence[Vectors]) -> Exact:
    """Return the mean over nets of a gradient, with the bound on its error that the spread over nets gives.

    Every coordinate's bound is a Student quantile times its standard error, jointly for all coordinates at `LEVEL`. The
    relative error of the whole gradient is `STANDARD_ERRORS` times the norm of the standard errors over its own norm.
    """
    from scipy.stats import t  # slow to import

    mean = {name: np.mean([f[name] for f in found], axis=0) for name in found[0]}
    spread = {name: np.std([f[name] for f in found], axis=0, ddof=1) / math.sqrt(len(found)) for name in mean}
    quantile = float(t.isf(0.5 * LEVEL / sum(a.size for a in mean.values()), len(found) - 1))
    size, error = (math.sqrt(sum(float((a**2).sum()) for a in parts.values())) for parts in (mean, spread))
    relative = max(STANDARD_ERRORS * error / size, ROUNDING) if size > 0.0 else None
    return Exact(
        mean, RQMC, error=relative, errors={name: quantile * s + ROUNDING * size for name, s in spread.items()}
    )


def exact_by_rqmc(problem: Any, parameters: Vectors) -> Exact:
    """Return the gradient of an ELBO, without minibatches: the pathwise gradient, averaged over nets and reflections.

    The second-order expansion of log p at `loc` is taken off, and its gradient added in closed form, as is that of the
    entropy. The objective is left out: its error is not part of an `Exact`.

    Parameters
    ----------
    problem : Problem
        An ELBO with `hessian_product`, under a Normal family.
    """
    return _exact(Same(problem), key_of(parameters))


@functools.lru_cache(maxsize=32)
def _exact(same: Same, key: Key) -> Exact:
    problem, parameters, backend = same.value, parameters_of(key), get("numpy")
    family: Any = require(problem.family, "pathwise", "entropy_gradient", "bonnet_price")
    specs = family.noise((), problem.dimension)
    sizes = [math.prod(spec.shape) for spec in specs.values()]
    data, integrand, xp, loc = problem.data(), problem.integrand, backend.xp, parameters["loc"]
    slope = integrand.gradient(xp, data, loc[None, None], {})[0, 0]
    unit = np.eye(len(loc))[None]
    hessian = integrand.hessian_product(xp, data, np.broadcast_to(loc, unit.shape), unit, {})[0]
    known = family.bonnet_price(backend, parameters, slope, hessian), family.entropy_gradient(backend, parameters)

    def estimates(base: np.ndarray) -> Vectors:
        """Return the estimates from standard Normals [points, ...], summed over points."""
        parts = np.split(base, np.cumsum(sizes)[:-1], axis=1)
        noise = {
            name: np.reshape(part, (1, len(part), *spec.shape))
            for (name, spec), part in zip(specs.items(), parts, strict=True)
        }
        z = family.sample(backend, parameters, noise)
        left = integrand.gradient(xp, data, z, {}) - slope - (z - loc) @ hessian
        moved = family.pathwise(backend, parameters, noise, z, left)
        return {name: np.sum(a, axis=(0, 1)) for name, a in moved.items()}

    def gradient(points: int, first: int) -> Exact:
        """Return the mean over nets and their reflections, with the seeds from `first` on."""

        def mean(seed: int) -> Vectors:
            half = normal_net(sum(sizes), seed, points)
            some = math.ceil(2 * points * width / AT_ONCE)
            found = [estimates(part) for part in np.array_split(np.concatenate([half, -half]), some)]
            sums = {name: sum(part[name] for part in found) / (2 * points) for name in parameters}
            return {name: value + sum(part[name] for part in known) for name, value in sums.items()}

        return exact_of_nets([mean(seed) for seed in range(first, first + NETS)])

    width = max(integrand.width(data, len(loc)), *(a.size for a in parameters.values()))
    most = min(POINTS, max(1, 2 ** int(math.log2(ELEMENTS / width))))
    # A pilot with seeds of its own chooses the number of points, so that the error's estimate stays independent of it.
    points = min(FEWEST, most)
    while points < most and (gradient(points, NETS).error or 1.0) > ENOUGH:
        points = min(4 * points, most)
    return gradient(points, 0)
