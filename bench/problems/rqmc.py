"""Randomised quasi-Monte Carlo: means over scrambled Sobol nets, with an error bound from their spread."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gradmeter.bench.identity.content import Same
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.latent_rule import Key, key_of, parameters_of
from gradmeter.bench.problems.problem import Exact
from gradmeter.estimators import Expectation
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
#: Most coordinates of which the Hessian is taken off, and of a Sobol net.
MOST_BENT, MOST_COORDINATES = 512, 21201
#: Points for which functions are compiled.
COMPILED = 2**11
#: Points of the first pilot net, and the relative error at which more points are not needed.
FEWEST, ENOUGH = 2**8, 5e-4


def normal_net(dimension: int, number: int, points: int) -> np.ndarray:
    """Return the points of a net, mapped to standard Normals.

    Parameters
    ----------
    dimension
        D, the number of coordinates of z.
    number
        Number of the net.
    points
        Number of points, a power of two.
    """
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


def exact_by_rqmc(problem: Any, parameters: Vectors, smooth: bool = True) -> Exact:
    """Return the gradient of an expectation without minibatches: the pathwise gradient, averaged over nets.

    The second-order expansion of f at `loc`, of many coordinates that of first order, is taken off, and its gradient
    added in closed form, as is that of the entropy. Points come with their reflections. The objective is left out: its
    error is not part of an `Exact`.

    Parameters
    ----------
    problem : Problem
        With a Normal family. f has a `hessian_product`, unless the problem names a framework, which differentiates it.
    parameters
        λ, {parameter block: float64 NumPy array [*shape]}.
    smooth : bool
        Whether f is known to be continuous. If not, the score function's gradient over the same nets is compared with
        the pathwise one; if the two differ by more than their error, it is returned in its place. A discontinuity whose
        part of the gradient is smaller than that error is not seen.
    """
    return _exact(Same(problem), key_of(parameters), smooth)


@functools.lru_cache(maxsize=32)
def _exact(same: Same, key: Key, smooth: bool) -> Exact:
    nets = _Nets(same.value, parameters_of(key))
    most = min(POINTS, max(1, 2 ** int(math.log2(ELEMENTS / nets.width))))
    # A pilot with seeds of its own chooses the number of points, so that the error's estimate stays independent of it.
    points, pilot = min(FEWEST, most), range(NETS, 2 * NETS)
    while points < most and (exact_of_nets(nets.pathwise(pilot, points)).error or 1.0) > ENOUGH:
        points = min(4 * points, most)
    paths = nets.pathwise(range(NETS), points)
    exact = exact_of_nets(paths)
    if smooth:
        return exact
    scores = nets.score_function(range(NETS), points)
    apart = exact_of_nets([{n: p[n] - a for n, a in s.items()} for p, s in zip(paths, scores, strict=True)])
    assert apart.errors is not None
    if all(np.all(np.abs(a) <= apart.errors[name]) for name, a in apart.gradient.items()):
        return exact
    return exact_of_nets([{**p, **s} for p, s in zip(paths, scores, strict=True)])


class _Nets:
    """Gradients of an expectation, each averaged over one net: the part that the expansion of f leaves, and the rest.

    Attributes
    ----------
    width
        Size of the largest array of a sample.
    """

    def __init__(self, problem: Any, every: Vectors) -> None:
        self.backend = backend = get(problem.framework or "numpy")
        self.family: Any = require(problem.family, "pathwise", "entropy_gradient", "bonnet_price")
        data, *parameters = (
            {n: backend.asarray(a, "float64") for n, a in arrays.items()} for arrays in (problem.data(), every)
        )
        expectation = Expectation(self.family, problem.integrand, data)
        self.expectation, self.parameters = expectation.at(*parameters)
        self.width = max(problem.integrand.width(data, problem.dimension), *(a.size for a in every.values()))
        self.specs = self.family.noise((), problem.dimension)
        self.sizes = [math.prod(spec.shape) for spec in self.specs.values()]
        self.bent = problem.dimension <= MOST_BENT
        unit = np.eye(problem.dimension) if self.bent else np.zeros((0, problem.dimension))
        expansion = backend.compile_for_few_calls(self._expansion, handful=True)
        self.value, self.slope, self.hessian = expansion(backend.asarray(unit, "float64"))
        if self.bent:
            known = [self.family.bonnet_price(backend, self.parameters, self.slope, self.hessian)]
        else:
            known = [{n: backend.xp.zeros_like(a) for n, a in self.parameters.items()} | {"loc": self.slope}]
        if problem.entropy != "none":
            known.append(self.family.entropy_gradient(backend, self.parameters))
        self.known = {n: sum(backend.to_numpy(part[n]) for part in known) for n in self.parameters}
        self._moved = backend.compile_for_few_calls(self._path)
        self._scored = backend.compile_for_few_calls(self._scores)

    def _expansion(self, unit: Any) -> tuple[Any, Any, Any]:
        """Return f [], ∇f [D] and ∇²f [D, D] at `loc`, from the unit vectors [D, D]; ∇²f [0, D] without any."""
        loc, backend = self.parameters["loc"], self.backend
        centres = backend.xp.broadcast_to(loc, (1, *unit.shape))
        slope = self.expectation.integrand_gradient(backend, loc[None, None], {})[0, 0]
        hessian = unit
        if self.bent:
            hessian = self.expectation.integrand_hessian_product(backend, centres, unit[None], {})[0]
        return self._values(loc[None, None])[0, 0], slope, hessian

    def pathwise(self, seeds: Iterable[int], points: int) -> list[Vectors]:
        """Return the pathwise gradient of every net."""
        means = [self._mean(self._moved, seed, points) for seed in seeds]
        return [{n: a + self.known.get(n, 0.0) for n, a in mean.items()} for mean in means]

    def score_function(self, seeds: Iterable[int], points: int) -> list[Vectors]:
        """Return the gradient of q's parameters by the score function of every net.

        The baseline of a net is the mean over all others, on which it does not depend.
        """
        means = [self._mean(self._scored, seed, points) for seed in seeds]
        total, found = sum(float(mean["value"]) for mean in means), []
        for mean in means:
            baseline = (total - float(mean["value"])) / (len(means) - 1)
            found.append({n: mean[n] - baseline * mean[f"score {n}"] + a for n, a in self.known.items()})
        return found

    def _mean(self, function: Any, seed: int, points: int) -> Vectors:
        """Return the means of a function of standard Normals over a net and its reflection."""
        half = normal_net(sum(self.sizes), seed, points)
        some = math.ceil(2 * points * self.width / AT_ONCE)
        if self.backend.name == "jax":  # which compiles for every size
            some = max(some, 2 * points // COMPILED)
        parts = np.array_split(np.concatenate([half, -half]), some)
        found = [function(self.backend.asarray(part, "float64")) for part in parts]
        return {n: sum(self.backend.to_numpy(part[n]) for part in found) / (2 * points) for n in found[0]}

    def _sampled(self, base: Any) -> tuple[Any, dict[str, Any]]:
        """Return samples [1, points, D] and their noise from standard Normals [points, ...]."""
        noise, first = {}, 0
        for (name, spec), size in zip(self.specs.items(), self.sizes, strict=True):
            part = base[:, first : first + size]
            noise[name], first = self.backend.xp.reshape(part, (1, part.shape[0], *spec.shape)), first + size
        return self.family.sample(self.backend, self.parameters, noise), noise

    def _values(self, z: Any) -> Any:
        return self.expectation.integrand.value(self.backend.xp, self.expectation.data, z, {})

    def _path(self, base: Any) -> dict[str, Any]:
        """Return the pathwise estimates, summed over points, and the explicit derivatives of f."""
        z, noise = self._sampled(base)
        xp, away = self.backend.xp, z - self.parameters["loc"]
        left = self.expectation.integrand_gradient(self.backend, z, {}) - self.slope
        left = left - away @ self.hessian if self.bent else left
        moved = self.family.pathwise(self.backend, self.parameters, noise, z, left)
        found = {name: xp.sum(a, axis=(0, 1)) for name, a in moved.items()}
        if self.expectation.explicit_blocks:
            ones = xp.ones_like(z[..., 0])
            explicit = self.expectation.explicit_pullback(self.backend, z, ones, {})
            found |= {name: xp.sum(a, axis=0) for name, a in explicit.items()}
        return found

    def _scores(self, base: Any) -> dict[str, Any]:
        """Return the sums over points of what is left of f, of the scores, and of their products."""
        z, _ = self._sampled(base)
        xp, away = self.backend.xp, z - self.parameters["loc"]
        slope = self.slope + 0.5 * (away @ self.hessian) if self.bent else self.slope
        left = self._values(z) - self.value - xp.sum(away * slope, axis=-1)
        found = {"value": xp.sum(left)}
        for name, score in self.family.score(self.backend, self.parameters, z).items():
            found[name] = xp.sum(left[..., None] * score, axis=(0, 1))
            found[f"score {name}"] = xp.sum(score, axis=(0, 1))
        return found
