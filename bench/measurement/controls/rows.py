"""Features for the rows of a minibatch: f's dependence on each row, as a tabulated function of one direction of noise.

With rows drawn uniformly without replacement, the expectation of a mean over the drawn rows is exactly the mean over
all rows. Let row i contribute to f, apart from what all rows share,

    r_i(v_i · x),     ‖v_i‖ = 1,  x ~ N(0, I), so that u = v_i · x ~ N(0, 1),

with r_i linear between equidistant knots, and extrapolated linearly. Its slope s_i along u has a table of its own.
Then, with b over the drawn rows and j a number of x, the expectation over x of every term of

    s̄_j = mean_b v_bj (s_b(u_b) − E s_b),    s̄_j x_j,    r̄ = mean_b r_b(u_b),    r̄ x_j,    r̄ φ_2(x_j)

is a moment E s, E s u, E r, E r u or E r φ_2(u) of a table, known in closed form, times a power of v_bj.

The rows themselves are black boxes: f and ∇f are evaluated with one row alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from gradmeter.bench.measurement.controls.slopes import objective, slopes
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.estimators.noise import DrawnNoise

Array = Any
Arrays = dict[str, Any]

#: Knots of the tables.
KNOTS = np.linspace(-4.0, 4.0, 33)
#: Points from which the direction of a row is estimated.
POINTS = 8
#: Limit on evaluations of single rows, in numbers of x; and on the numbers of x of drawn rows processed together.
MOST_LOOKED_AT, TOGETHER = 2**24, 2**21


def moments() -> np.ndarray:
    """Return the weights [3, knots] of a table's values in E table(u), E table(u) u and E table(u) (u² − 1)/√2.

    u is standard normal.
    """
    ends = np.concatenate([[-np.inf], KNOTS[1:-1], [np.inf]])
    inner = np.where(np.isfinite(ends), ends, 0.0)
    density = np.where(np.isfinite(ends), np.exp(-0.5 * inner**2) / math.sqrt(2.0 * math.pi), 0.0)
    zeroth, first = np.diff(ndtr(ends)), -np.diff(density)
    second, third = zeroth - np.diff(inner * density), 2.0 * first - np.diff(inner**2 * density)
    raw, step = (zeroth, first, second, third), KNOTS[1] - KNOTS[0]
    found = np.zeros((3, len(KNOTS)))
    for k in range(3):
        found[k, :-1] += (KNOTS[1:] * raw[k] - raw[k + 1]) / step
        found[k, 1:] += (raw[k + 1] - KNOTS[:-1] * raw[k]) / step
    found[2] = (found[2] - found[0]) / math.sqrt(2.0)
    return found


@dataclass(frozen=True)
class Rows:
    """Noise that selects the rows of a minibatch.

    Attributes
    ----------
    name, population
        Name of the noise, and the number N of rows.
    """

    name: str
    population: int

    def features(self, crossed: bool, others: int) -> int:
        """Return the number of features of every number."""
        return 8 + (2 if crossed else 0) + 2 * others

    def __call__(
        self, noise: Arrays, first: Array, second: Array, others: list[Array], model: Arrays, crossed: bool
    ) -> list[Array]:
        """Evaluate the features of every number, each [R, m], as averages over samples; `means` has their means.

        Parameters
        ----------
        first, second
            x and φ_2(x) [R, S, m].
        others
            φ_1 of noise that is not used to sample z, each [R, S or 1, m].
        model
            "row directions" v [N, m], "row slopes" s and "row values" r [N, knots].
        """
        drawn = noise[self.name].reshape(len(first), -1)
        weights, v = moments(), model["row directions"]
        level = model["row slopes"] @ weights[0]
        value = model["row values"] @ weights[0]
        shared, mean = (v * level[:, None]).mean(axis=0), value.mean()
        parts = []
        size = max(1, TOGETHER // max(1, drawn.shape[1] * first.shape[2]))
        for start in range(0, len(first), size):
            some = slice(start, start + size)
            rows, x, x2 = drawn[some], first[some], second[some]
            along = v[rows]  # [R, B, m]
            u = x @ np.swapaxes(along, 1, 2)  # [R, S, B]
            slope, r = _looked_up(u, rows, model["row slopes"], model["row values"])
            batch = rows.shape[1]
            constant = (level[rows][:, None, :] @ along / batch)[:, 0] - shared
            s = (slope - level[rows][:, None, :]) @ along / batch
            height = value[rows].mean(axis=1)[:, None] - mean
            r = r.mean(axis=2)[..., None] - mean
            x_mean, x2_mean = x.mean(axis=1), x2.mean(axis=1)
            found = [constant, s.mean(axis=1), constant * x_mean, (s * x).mean(axis=1)]
            found += [height * x_mean, height * x2_mean, (r * x).mean(axis=1), (r * x2).mean(axis=1)]
            if crossed:
                found += [r.mean(axis=1) * x_mean, r.mean(axis=1) * x2_mean]
            for other in others:
                found += [constant * other[some].mean(axis=1), (s * other[some]).mean(axis=1)]
            parts.append(found)
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def means(self, model: Arrays, samples: int, crossed: bool, others: int) -> list[np.ndarray]:
        """Return the means of the features, each [m]."""
        weights, v = moments(), model["row directions"]
        slope = (v * v * (model["row slopes"] @ weights[1])[:, None]).mean(axis=0)
        first = (v * (model["row values"] @ weights[1])[:, None]).mean(axis=0)
        second = (v * v * (model["row values"] @ weights[2])[:, None]).mean(axis=0)
        zero = np.zeros(v.shape[1])
        found = [zero, zero, zero, slope, zero, zero, first, second]
        return found + ([first / samples, second / samples] if crossed else []) + [zero] * (2 * others)


def _looked_up(u: np.ndarray, rows: np.ndarray, *tables: np.ndarray) -> list[np.ndarray]:
    """Interpolate the tables [N, knots] of rows [R, B] at u [R, S, B]."""
    place = (u - KNOTS[0]) / (KNOTS[1] - KNOTS[0])
    piece = np.clip(np.floor(place), 0, len(KNOTS) - 2)
    part = place - piece
    at = piece.astype(np.intp) + rows[:, None, :] * len(KNOTS)
    found = []
    for table in tables:
        flat = table.reshape(-1)
        low = flat[at]
        found.append(low + part * (flat[at + 1] - low))
    return found


def row_model(setting: Setting, rows: Rows, name: str, numbers: int) -> Arrays | None:
    """Return directions and tables of every row, for the noise x of this name; None where f cannot be split by rows.

    Parameters
    ----------
    setting
        The cell that is measured.
    rows
        The noise that draws the rows.
    name
        Name of the noise x.
    numbers
        m, numbers of one sample.
    """
    n, knots = rows.population, len(KNOTS)
    batch = int(np.prod(setting.specs[rows.name].shape))
    if n * (knots + POINTS) * numbers > MOST_LOOKED_AT:
        return None
    x = np.random.default_rng(n).standard_normal((POINTS, numbers))
    at = np.repeat(x[None], n, axis=0).reshape(-1, numbers)
    each = np.repeat(np.arange(n), POINTS)
    shape: tuple[int, ...] = (1,)

    def noise(x: np.ndarray, which: np.ndarray) -> DrawnNoise:
        given = np.broadcast_to(which.reshape(-1, *[1] * len(shape)), (len(which), *shape))
        return DrawnNoise({name: x[:, None, :], rows.name: np.ascontiguousarray(given)}, len(x))

    try:  # evaluate one row as a minibatch of its own, unless f needs the declared number of rows
        alone = objective(setting, noise(x, each[:POINTS]))
    except Exception:  # raised by a user's f
        alone = np.full(POINTS, np.nan)
    shape = setting.specs[rows.name].shape
    if not np.allclose(alone, objective(setting, noise(x, each[:POINTS]))):
        if n * (knots + POINTS) * numbers * batch > MOST_LOOKED_AT:
            return None
    else:
        shape = (1,)
    gradient = slopes(setting, name, noise(at, each))
    if gradient is None or not np.all(np.isfinite(gradient)):
        return None
    gradient = gradient.reshape(n, POINTS, numbers)
    _, vectors = np.linalg.eigh(gradient @ np.swapaxes(gradient, 1, 2))
    v = (np.swapaxes(vectors[:, :, -1:], 1, 2) @ gradient)[:, 0]
    norm = np.linalg.norm(v, axis=1, keepdims=True)
    v = np.where(norm > 0.0, v / np.where(norm > 0.0, norm, 1.0), np.eye(numbers)[0])
    at = (KNOTS[None, :, None] * v[:, None, :]).reshape(-1, numbers)
    there = noise(at, np.repeat(np.arange(n), knots))
    gradient = slopes(setting, name, there)
    if gradient is None:
        return None
    along = np.einsum("nkm,nm->nk", gradient.reshape(n, knots, numbers), v)
    return {
        "row directions": v,
        "row slopes": along,
        "row values": objective(setting, there).reshape(n, knots),
    }
