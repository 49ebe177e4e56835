"""Checks of an integrand at samples of q: its derivatives and other methods against differences of its value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.checks.differences import Compared, compared, derivative, of_columns, verify
from gradmeter.bench.checks.families import replaced
from gradmeter.bench.checks.findings import About, Finding, guarded
from gradmeter.bench.checks.lab import Lab, Vectors
from gradmeter.bench.checks.places import along_coordinates, coordinate_labels, directions, places_of
from gradmeter.bench.forms.objects import WrongForm
from gradmeter.estimators import Expectation, Integrand
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.estimator import described
from gradmeter.estimators.functions import FunctionIntegrand
from gradmeter.estimators.noise import DrawnNoise

#: Largest number of coordinates checked one by one; largest dimension for which a full Hessian is checked.
MOST_COORDINATES, MOST_HESSIAN = 8, 64
#: Weighted sums of f over samples whose derivatives in θ are compared.
SUMS = 3


@dataclass(frozen=True)
class Bench:
    """An integrand with data on a backend, and the source of samples.

    Attributes
    ----------
    expectation, parameters
        The expectation and λ, with data as NumPy arrays.
    dimension : int
        D of one z.
    """

    lab: Lab
    expectation: Expectation
    parameters: Vectors
    dimension: int

    @property
    def integrand(self) -> Integrand:
        return self.expectation.integrand

    @property
    def about(self) -> About:
        return About("integrand", type(self.integrand).__name__)

    def at(self, *path: object, samples: int = 1, rows: int | None = None) -> tuple[Vectors, Any, DrawnNoise]:
        """Return data, z [points, S, D] and noise at fresh samples, all on the backend."""
        lab = self.lab
        data = {name: lab.backend.asarray(a, "float64") for name, a in self.expectation.data.items()}
        bound, own = self.expectation.bind(data).at(lab.to_device(self.parameters))
        rows = lab.effort.points if rows is None else rows
        if isinstance(bound, AmortisedExpectation):
            specs = {**bound.many(bound.family.noise((samples,), self.dimension)), **bound.noise_specs()}
            noise = lab.to_device(lab.draw(specs, max(1, rows // bound.batch), "integrand", *path))
            datum, local, each = bound.each_datum(lab.backend, noise)
            return datum.data, datum.family.sample(lab.backend, local, each), each
        specs = {**bound.family.noise((samples,), self.dimension), **bound.noise_specs()}
        noise = lab.to_device(lab.draw(specs, rows, "integrand", *path))
        return bound.data, bound.family.sample(lab.backend, own, noise), noise

    def method(self, name: str, data: Any, noise: Any) -> Callable[..., Any]:
        """Return a method as a function of (z, ...) on NumPy arrays, whether it takes `backend` or `xp`."""
        first = self.lab.backend if name in ("hessian", "replaced") else self.lab.backend.xp
        call = getattr(self.integrand, name)
        return self.lab.function(lambda z, *more: call(first, data, z, *more, noise))

    def samples(self, *path: object) -> tuple[np.ndarray, Callable[[str], Callable[..., Any]], np.ndarray]:
        """Return z [points, D], a function name -> method at the same noise, and the spread of every coordinate."""
        data, z, noise = self.at(*path)
        points = self.lab.to_numpy(z)[:, 0]
        spread = np.std(points, axis=0)
        spread = np.where(np.isfinite(spread) & (spread > 0.0), spread, 1.0)
        return points, lambda name: self._of_points(name, self.method(name, data, noise)), spread

    def _of_points(self, name: str, method: Callable[..., Any]) -> Callable[..., np.ndarray]:
        """Return a method as a function of z [points, D], ...; it raises WrongForm for a result of a wrong shape."""
        last = {"value": (), "hessian": (self.dimension, self.dimension)}.get(name, (self.dimension,))

        def evaluate(z: np.ndarray, *more: np.ndarray) -> np.ndarray:
            found, right = method(z[:, None], *(a[:, None] for a in more)), (len(z), 1, *last)
            if not isinstance(found, np.ndarray) or found.shape != right:
                array = isinstance(found, np.ndarray)
                shown = f"has shape {list(found.shape)}" if array else f"returns a {described(found)}"
                raise WrongForm(self.integrand, f"{name} {shown}; it must be an array of shape {list(right)}")
            return found[:, 0]

        return evaluate


def shapes(bench: Bench) -> Finding:
    """Check that values for [R, S, D] equal those of single samples, so that no sample depends on the others."""
    rows, samples, about = 3, 4, bench.about
    data, z, noise = bench.at("shapes", samples=samples, rows=rows)
    value = bench.method("value", data, noise)
    points = bench.lab.to_numpy(z)
    found = value(points)
    if not isinstance(found, np.ndarray):
        raise WrongForm(
            bench.integrand, f"value returns a {described(found)}; it must return an array of {bench.lab.backend.name}"
        )
    if found.shape != points.shape[:-1]:
        return about.wrong(
            "shapes",
            f"value has shape {list(found.shape)} for z of {list(points.shape)}; it must be {list(points.shape[:-1])}, "
            "one number for every sample",
        )
    for s in range(samples):
        alone = value(points[:, s : s + 1])
        if not np.allclose(alone[:, 0], found[:, s], rtol=1e-9, atol=1e-9 * np.abs(found).max(), equal_nan=True):
            return about.wrong(
                "shapes",
                f"value of one sample alone is {alone.ravel()[0]:.6g}, but {found[0, s]:.6g} among others; let no "
                "sample depend on the others",
            )
    return about.ok("shapes")


def gradient(bench: Bench) -> Finding:
    """Check ∇f against numerical derivatives of f."""

    def attempt(round: int) -> Compared:
        z, method, spread = bench.samples("gradient", round)
        given = method("gradient")(z)
        return along_coordinates(bench.lab, z, spread, given, method("value"), "gradient", round)

    return verify(bench.about, "gradient", "the derivative of value", "mend gradient or value", attempt)


def _slope(method: Callable[[str], Callable[..., Any]], offered: bool, spread: np.ndarray) -> Callable[..., Any]:
    """Return a function z -> ∇f [points, D]: the integrand's gradient, or numerical derivatives of f."""
    if offered:
        return method("gradient")
    value = method("value")

    def by_differences(z: np.ndarray) -> np.ndarray:
        columns = []
        for i in range(z.shape[-1]):
            step = np.zeros(z.shape[-1])
            step[i] = spread[i]
            found, _ = derivative(lambda t, step=step: value(z + t * step), levels=6)  # type: ignore[misc]
            columns.append(found / spread[i])
        return np.stack(columns, axis=-1)

    return by_differences


def hessian_product(bench: Bench) -> Finding:
    """Check ∇²f times a vector against numerical derivatives of ∇f along it."""
    name, offered = "hessian_product", bench.integrand.gradient is not None
    if not offered and bench.dimension > MOST_COORDINATES:
        return bench.about.not_checked(name, "the integrand offers no gradient to take differences of")

    def attempt(round: int) -> Compared:
        z, method, spread = bench.samples("hessian", round)
        vector = bench.lab.generator("hessian", round).standard_normal(z.shape) * spread
        given = method(name)(z, vector)
        slope = _slope(method, offered, spread)
        found, error = derivative(lambda t: slope(z + t * vector))
        scale = np.abs(found).max(axis=-1, keepdims=True)
        floor = 0.0 if offered else 1e-6
        return compared(given, found, places_of(z), coordinate_labels(z.shape[-1]), error + floor * scale)

    reference = "the derivative of gradient along the vector" if offered else "that by differences of value"
    return verify(bench.about, name, reference, "mend hessian_product or gradient", attempt)


def hessian(bench: Bench) -> Finding:
    """Check the full ∇²f against numerical derivatives of ∇f."""
    name, offered = "hessian", bench.integrand.gradient is not None
    if bench.dimension > MOST_HESSIAN or (not offered and bench.dimension > MOST_COORDINATES):
        return bench.about.not_checked(name, "z has too many coordinates")

    def attempt(round: int) -> Compared:
        z, method, spread = bench.samples("hessian", round)
        given = method(name)(z)
        slope = _slope(method, offered, spread)
        labels, columns = [], []
        for i in _some(bench, "columns", round):
            step = np.zeros(z.shape[-1])
            step[i] = spread[i]
            found, error = derivative(lambda t, step=step: slope(z + t * step))  # type: ignore[misc]
            scale = 0.0 if offered else 1e-6 * np.abs(found).max(axis=-1, keepdims=True)
            columns.append((given[..., i], found / spread[i], (error + scale) / spread[i]))
            labels += [f"[{j}, {i}]" for j in range(z.shape[-1])]
        return of_columns(columns, places_of(z), labels)

    return verify(bench.about, name, "the derivative of gradient", "mend hessian or gradient", attempt)


def _some(bench: Bench, *path: object) -> list[int]:
    count = bench.dimension
    if count <= MOST_COORDINATES:
        return list(range(count))
    return sorted(bench.lab.generator("coordinates", *path).choice(count, MOST_COORDINATES, replace=False).tolist())


def _two(bench: Bench, *path: object) -> tuple[np.ndarray, np.ndarray, Callable[[str], Callable[..., Any]]]:
    """Return two sets of samples, and the methods at the noise of the first."""
    z, method, _ = bench.samples(*path)
    other, _, _ = bench.samples(*path, "other")
    return z, other[: len(z)], method


def replacement(bench: Bench) -> Finding:
    """Check f with one coordinate replaced against f evaluated there."""

    def attempt(round: int) -> Compared:
        z, other, method = _two(bench, "replaced", round)
        given = method("replaced")(z, other)
        value, some = method("value"), _some(bench, "replaced")
        right = np.stack([value(replaced(z, other, i)) for i in some], axis=1)
        size = np.abs(value(z))[:, None] + np.abs(right)
        labels = [coordinate_labels(bench.dimension)[i] for i in some]
        return compared(given[:, some], right, places_of(z), labels, 1e-10 * size)

    return verify(bench.about, "replaced", "value with that coordinate replaced", "mend replaced or value", attempt)


def local_terms(bench: Bench) -> Finding:
    """Check that replacing a coordinate changes its local terms as much as f."""

    def attempt(round: int) -> Compared:
        z, other, method = _two(bench, "terms", round)
        terms, value, some = method("local_terms"), method("value"), _some(bench, "terms")
        before, at = terms(z), value(z)
        moved = [replaced(z, other, i) for i in some]
        given = np.stack([terms(m)[:, i] - before[:, i] for m, i in zip(moved, some, strict=True)], axis=1)
        right = np.stack([value(m) - at for m in moved], axis=1)
        size = np.abs(at)[:, None] + np.abs(right)
        labels = [f" of coordinate {i}" for i in some]
        return compared(given, right, places_of(z), labels, 1e-10 * size)

    what = "with that coordinate replaced, the change of local_terms"
    remedy = "give local_terms every term of value that contains the coordinate"
    return verify(bench.about, "local_terms", "that of value", remedy, attempt, what)


def model_pullback(bench: Bench) -> Finding:
    """Check Σ cotangent ∇_θ f against numerical derivatives of f in θ."""
    shapes = bench.integrand.model_shapes()

    def attempt(round: int) -> Compared:
        data, z, noise = bench.at("model", round)
        lab, integrand, points = bench.lab, bench.integrand, bench.lab.to_numpy(z)
        cotangent = lab.generator("cotangent", round).standard_normal(points.shape[:-1])
        xp = lab.backend.xp
        call = lab.function(lambda z, c: integrand.model_pullback(xp, data, z, c, noise))
        given = call(points, cotangent)
        at = {name: lab.to_numpy(data[name]) for name in shapes}
        value = lab.function(lambda model, z: integrand.value(xp, {**data, **model}, z, noise))
        labels, columns = [], []
        for block, shape in shapes.items():
            for label, v in directions(block, tuple(shape), lab, "model", round):
                labels.append(label)
                moved = derivative(
                    lambda t, block=block, v=v: (cotangent * value({**at, block: at[block] + t * v}, points))[:, 0]  # type: ignore[misc]
                )
                own = np.broadcast_to(given[block], (len(points), *shape)).reshape(len(points), -1) @ v.ravel()
                columns.append((own, *moved))
        return of_columns(columns, places_of(points), labels)

    what = "cotangent · ∂f/∂θ"
    return verify(bench.about, "model_pullback", "the derivative of value", "mend model_pullback", attempt, what)


AUTODIFF = "mend what hides a dependence from automatic differentiation: detach, stop_gradient, a custom derivative"


def automatic_gradient(bench: Bench) -> Finding:
    """Check ∇f by automatic differentiation, which estimators and the exact gradient both use, against differences."""

    def attempt(round: int) -> Compared:
        data, points, noise = bench.at("automatic", round)
        lab, xp = bench.lab, bench.lab.backend.xp
        z = lab.to_numpy(points)[:, 0]
        spread = np.std(z, axis=0)
        spread = np.where(spread > 0.0, spread, 1.0)
        total = lab.backend.gradient(lambda at: xp.sum(bench.integrand.value(xp, data, at, noise)))
        given = lab.function(lambda at: total(at))(z[:, None])[:, 0]
        value = bench.method("value", data, noise)
        return along_coordinates(lab, z, spread, given, lambda at: value(at[:, None])[:, 0], "automatic", round)

    return verify(bench.about, "automatic ∇f", "the derivative of its values", AUTODIFF, attempt)


def automatic_model_gradient(bench: Bench) -> Finding:
    """Check ∇_θ f by automatic differentiation, at samples together, against differences of f in θ."""
    shapes = bench.integrand.model_shapes()

    def attempt(round: int) -> Compared:
        data, points, noise = bench.at("automatic model", round)
        lab, xp = bench.lab, bench.lab.backend.xp
        z = lab.to_numpy(points)
        weights = lab.generator("weights", round).standard_normal((SUMS, *z.shape[:-1]))
        at = {name: lab.to_numpy(data[name]) for name in shapes}
        value = lab.function(lambda model, z: bench.integrand.value(xp, {**data, **model}, z, noise))

        def slopes(block: str) -> np.ndarray:
            """Return the derivatives [SUMS, P] of weighted sums of f in a block."""

            def total(a: Any, w: np.ndarray) -> Any:
                f = bench.integrand.value(xp, {**data, block: a}, points, noise)
                return xp.sum(f * lab.backend.asarray(w, "float64"))

            each = [lab.function(lab.backend.gradient(functools.partial(total, w=w)))(at[block]) for w in weights]
            return np.stack(each).reshape(SUMS, -1)

        labels, columns = [], []
        for block, shape in shapes.items():
            given = slopes(block)
            for label, v in directions(block, tuple(shape), lab, "automatic", round):
                labels.append(label)

                def moved(t: float, block: str = block, v: np.ndarray = v) -> np.ndarray:
                    found: np.ndarray = np.einsum("krs,rs->k", weights, value({**at, block: at[block] + t * v}, z))
                    return found

                columns.append((given @ v.ravel(), *derivative(moved)))
        return of_columns(columns, ["samples of q"] * SUMS, labels)

    return verify(bench.about, "automatic ∂f/∂θ", "the derivative of its values", AUTODIFF, attempt)


CHECKS: dict[str, Callable[[Bench], Finding]] = {
    "gradient": gradient,
    "hessian_product": hessian_product,
    "hessian": hessian,
    "replaced": replacement,
    "local_terms": local_terms,
    "model_pullback": model_pullback,
}


def check_integrand(bench: Bench) -> Iterator[Finding]:
    """Yield the findings of all checks of the integrand's methods."""
    for each in guarded(bench.about, "shapes", lambda: shapes(bench)):
        yield each
        if each.status == "wrong":
            return
    if isinstance(bench.integrand, FunctionIntegrand):
        yield from guarded(bench.about, "automatic ∇f", lambda: automatic_gradient(bench))
        if bench.integrand.model_shapes():
            yield from guarded(bench.about, "automatic ∂f/∂θ", lambda: automatic_model_gradient(bench))
        return
    wrong_gradient = False
    for name, check in CHECKS.items():
        offered = getattr(bench.integrand, name) is not None
        if not offered or (name == "model_pullback" and not bench.integrand.model_shapes()):
            continue
        if name in ("hessian_product", "hessian") and wrong_gradient:
            yield bench.about.not_checked(name, "it is compared with what gradient gives, which is wrong")
            continue
        for each in guarded(bench.about, name, lambda check=check: check(bench)):  # type: ignore[misc]
            wrong_gradient = wrong_gradient or (name == "gradient" and each.status == "wrong")
            yield each
