"""Pointwise checks of a family: derivatives against numerical ones, and methods against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gradmeter.bench.checks.differences import Compared, compared, derivative, of_columns, verify
from gradmeter.bench.checks.findings import Finding
from gradmeter.bench.checks.lab import Vectors
from gradmeter.bench.checks.places import Place, along_coordinates, coordinate_labels, labels_of, places_of
from gradmeter.estimators import Family
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.families.family import MeanField

#: Dispersion, and perturbation of λ, in the check of `dispersed`.
DISPERSION, ASIDE = 1.7, 0.2
#: Search for discontinuous samples: rows of noise, steps in λ, range of λ, and smallest jump in units of z's spread.
JUMP_ROWS, JUMP_STEPS, JUMP_REACH, JUMP = 2**14, 16, 1.0, 1e-4


def batch_axes(place: Place) -> Finding:
    """Check shapes, and that results for a batch [R, S, D] equal those for [R·S, D]."""
    lab, family, check = place.lab, place.family, "shapes"
    rows, samples = 3, 4
    noise = lab.draw(family.noise((samples,), place.dimension), rows, "batch")
    z = place.sample(place.parameters, noise)
    expected: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
        ("sample", place.samples(rows, "batch").shape, (rows, place.dimension)),
        ("sample", z.shape, (rows, samples, place.dimension)),
    ]
    for what, found, right in expected:
        if found != right:
            return place.about.wrong(
                check, f"{what} has shape {list(found)} where it must be {list(right)}; mend {what} or noise"
            )
    flat = z.reshape(rows * samples, -1)
    results: list[tuple[str, np.ndarray, np.ndarray, tuple[int, ...]]] = []
    both = (place.log_density(place.parameters, z), place.log_density(place.parameters, flat))
    results.append(("log_density", *both, ()))
    if has(family, "score"):
        batched, single = place.score(place.parameters, z), place.score(place.parameters, flat)
        place.require_blocks("score", batched)
        results += [(f"score of {n}", batched[n], single[n], a.shape) for n, a in place.parameters.items()]
    if has(family, "pathwise"):
        single_noise = {name: a.reshape(rows * samples, *a.shape[2:]) for name, a in noise.items()}
        batched, single = (
            place.pathwise(place.parameters, n, at, np.ones_like(at)) for n, at in ((noise, z), (single_noise, flat))
        )
        place.require_blocks("pathwise", batched)
        for n, a in place.parameters.items():
            several, alone = (
                np.broadcast_to(found, (*axes, *a.shape)) if found.ndim <= a.ndim else found
                for found, axes in ((batched[n], (rows, samples)), (single[n], (rows * samples,)))
            )
            results.append((f"pathwise of {n}", several, alone, a.shape))
    for what, batch, one, shape in results:
        if batch.shape != (rows, samples, *shape):
            return place.about.wrong(
                check, f"{what} has shape {list(batch.shape)} where it must be {[rows, samples, *shape]}; mend it"
            )
        if not np.allclose(batch.reshape(one.shape), one, rtol=1e-9, atol=1e-12, equal_nan=True):
            return place.about.wrong(
                check,
                f"{what} of a batch of samples is {batch.ravel()[-1]:.6g} where that sample alone has "
                f"{one.ravel()[-1]:.6g}; let no sample depend on the others",
            )
    return place.about.ok(check)


def score(place: Place) -> Finding:
    """Check ∇_λ log q at fixed z."""

    def attempt(round: int) -> Compared:
        z = place.samples(place.lab.effort.points, "score", round)
        given = place.score(place.parameters, z)
        return _along_blocks(
            place, z, lambda block, v: _dot(given[block], v), lambda p: place.log_density(p, z), "score", round
        )

    return verify(place.about, "score", "the derivative of log_density", "mend score or log_density", attempt)


def _along_blocks(
    place: Place,
    z: np.ndarray,
    claimed: Callable[[str, np.ndarray], np.ndarray],
    function: Callable[[Vectors], np.ndarray],
    *path: object,
) -> Compared:
    """Compare claimed derivatives of a function of λ [points] with numerical ones, in every block."""
    labels, columns = [], []
    for block in place.parameters:
        for label, v in place.directions(block, *path):
            labels.append(label)
            found = derivative(lambda t, block=block, v=v: function(place.moved(block, v, t)))  # type: ignore[misc]
            columns.append((claimed(block, v), *found))
    return of_columns(columns, places_of(z), labels)


def _dot(given: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return [points, *shape] times [*shape], summed to [points]; the former may need broadcasting."""
    full = np.broadcast_to(given, (*given.shape[:1], *direction.shape)) if given.ndim else given
    return full.reshape(len(full), -1) @ direction.ravel()


def path_compared(place: Place, round: int) -> Compared:
    """Compare a cotangent times ∂z/∂λ at fixed noise, from `pathwise`, with numerical derivatives of the sample."""
    points = place.lab.effort.points
    noise = place.draw(points, "pathwise", round)
    z = place.sample(place.parameters, noise)
    cotangent = place.lab.generator("cotangent", round).standard_normal(z.shape) / place.spread()
    given = place.pathwise(place.parameters, noise, z, cotangent)
    place.require_blocks("pathwise", given)
    return _along_blocks(
        place,
        z,
        lambda block, v: _dot(given[block], v),
        lambda p: np.sum(cotangent * place.sample(p, noise), axis=-1),
        "pathwise",
        round,
    )


def pathwise(place: Place) -> Finding:
    """Check ∂z/∂λ at fixed noise, for a sampler that is smooth in λ."""
    remedy = "mend pathwise or sample"
    return verify(
        place.about, "pathwise", "the derivative of sample at the same noise", remedy,
        lambda round: path_compared(place, round), "cotangent · ∂z/∂λ",
    )  # fmt: skip


def sample_jumps(place: Place) -> bool:
    """Return whether a sample is discontinuous in λ at fixed noise, as under rejection: its path is then implicit.

    A family with gamma numbers makes its samples by rejection. For others, intervals of λ over which a sample moves
    most are bisected repeatedly; a change that remains is a discontinuity.
    """
    if has(place.family, "gamma_numbers"):
        return True
    noise, spread = place.draw(JUMP_ROWS, "jump"), place.spread()
    for block, a in place.parameters.items():
        direction = place.lab.generator("jump", block).standard_normal(a.shape)
        direction /= np.sqrt(np.mean(direction**2))
        steps = np.linspace(-JUMP_REACH, JUMP_REACH, JUMP_STEPS + 1)
        z = np.stack([place.sample(place.moved(block, direction, t), noise) / spread for t in steps])
        change = np.abs(np.diff(z, axis=0)).max(axis=-1)  # [steps, rows]
        excess = change.max(axis=0) / (np.median(change, axis=0) + 1e-12)
        for row in np.argsort(excess)[-8:]:
            low = int(change[:, row].argmax())
            one = {name: values[row : row + 1] for name, values in noise.items()}
            ends = [float(steps[low]), float(steps[low + 1])]

            def at(t: float, block: str = block, v: np.ndarray = direction, one: Vectors = one) -> np.ndarray:
                found: np.ndarray = place.sample(place.moved(block, v, t), one)[0] / spread
                return found

            values = [at(end) for end in ends]
            for _ in range(30):
                middle = 0.5 * (ends[0] + ends[1])
                value = at(middle)
                left = float(np.abs(value - values[0]).max()) > float(np.abs(values[1] - value).max())
                ends, values = (
                    ([ends[0], middle], [values[0], value]) if left else ([middle, ends[1]], [value, values[1]])
                )
            if float(np.abs(values[1] - values[0]).max()) > JUMP:
                return True
    return False


def log_density_gradient(place: Place) -> Finding:
    """Check ∇_z log q."""
    spread = place.spread()

    def attempt(round: int) -> Compared:
        z = place.samples(place.lab.effort.points, "slope", round)
        given = place.of_z("log_density_gradient")(place.parameters, z)
        return along_coordinates(place.lab, z, spread, given, lambda at: place.log_density(place.parameters, at), round)

    name = "log_density_gradient"
    return verify(place.about, name, "the derivative of log_density in z", f"mend {name} or log_density", attempt)


def log_density_hessian_product(place: Place) -> Finding:
    """Check ∇²_z log q times a vector against numerical derivatives of ∇_z log q."""
    name, spread = "log_density_hessian_product", place.spread()
    slope = place.of_z("log_density_gradient")

    def attempt(round: int) -> Compared:
        z = place.samples(place.lab.effort.points, "curvature", round)
        vector = place.lab.generator("vector", round).standard_normal(z.shape) * spread
        given = place.of_z(name)(place.parameters, z, vector)
        value, error = derivative(lambda t: slope(place.parameters, z + t * vector))
        return compared(given, value, places_of(z), coordinate_labels(place.dimension), error)

    return verify(place.about, name, "the derivative of log_density_gradient", f"mend {name}", attempt)


def log_densities(place: Place) -> Finding:
    """Check that the terms sum to log q, and that each depends on its own coordinate alone."""

    def attempt(round: int) -> Compared:
        z, other = (place.samples(place.lab.effort.points, "terms", round, i) for i in (0, 1))
        terms = place.of_z("log_densities")(place.parameters, z)
        total = place.log_density(place.parameters, z)
        mixed = z.copy()
        mixed[:, 1:] = other[:, 1:]
        first = place.of_z("log_densities")(place.parameters, mixed)[:, 0]
        given, right = np.stack([terms.sum(axis=-1), first], axis=1), np.stack([total, terms[:, 0]], axis=1)
        labels = [": the sum", ": that of z[0], with the other coordinates changed,"]
        return compared(given, right, places_of(z), labels)

    reference = "log_density, or the term of z[0] before,"
    return verify(place.about, "log_densities", reference, "mend log_densities or log_density", attempt)


def log_density_replaced(place: Place) -> Finding:
    """Check against log q evaluated at each replaced z."""

    def attempt(round: int) -> Compared:
        z, other = (place.samples(place.lab.effort.points, "replaced", round, i) for i in (0, 1))
        given = place.of_z("log_density_replaced")(place.parameters, z, other)
        value = np.stack(
            [place.log_density(place.parameters, replaced(z, other, i)) for i in range(z.shape[-1])], axis=1
        )
        return compared(given, value, places_of(z), coordinate_labels(place.dimension))

    name = "log_density_replaced"
    return verify(place.about, name, "log_density with that coordinate replaced", f"mend {name}", attempt)


def replaced(z: np.ndarray, other: np.ndarray, coordinate: int) -> np.ndarray:
    """Return z with one coordinate replaced by that of `other`.

    Parameters
    ----------
    z, other
        [..., D].
    coordinate
        Number of the coordinate.
    """
    found = z.copy()
    found[..., coordinate] = other[..., coordinate]
    return found


def entropy_pathwise(place: Place) -> Finding:
    """Check against the default of `Family`, which combines path, ∇_z log q and score."""
    family, backend = place.family, place.lab.backend

    def attempt(round: int) -> Compared:
        noise = place.draw(place.lab.effort.points, "entropy path", round)
        z = place.sample(place.parameters, noise)
        own, base = (
            place.lab.function(lambda p, noise, z, method=method: method(backend, p, noise, z))
            for method in (family.entropy_pathwise, lambda *a: Family.entropy_pathwise(family, *a))
        )
        given, value = own(place.parameters, noise, z), base(place.parameters, noise, z)
        shapes = {name: (len(z), *a.shape) for name, a in place.parameters.items()}
        full = {n: np.broadcast_to(given.get(n, np.zeros(())), shape) for n, shape in shapes.items()}
        claimed, right = (np.concatenate([a[n].reshape(len(z), -1) for n in shapes], axis=1) for a in (full, value))
        return compared(claimed, right, places_of(z), labels_of(place.parameters), 1e-9 * (1.0 + np.abs(right)))

    reference = "pathwise of −∇ log q, less score,"
    return verify(place.about, "entropy_pathwise", reference, "mend entropy_pathwise", attempt)


def dispersed(place: Place) -> Finding:
    """Check that log q' − log q/τ is log h(z)^(1 − 1/τ) plus a constant.

    Hence its differences between two z do not depend on λ.
    """
    family, backend = place.family, place.lab.backend
    call = place.lab.function(lambda p: family.dispersed(backend, p, DISPERSION))

    def rest(parameters: Vectors, z: np.ndarray) -> np.ndarray:
        wide = place.log_density(call(parameters), z) - place.log_density(parameters, z) / DISPERSION
        found: np.ndarray = wide - wide[:1]
        return found

    def attempt(round: int) -> Compared:
        z = place.samples(place.lab.effort.points, "dispersed", round)
        generator = place.lab.generator("dispersed", round)
        other = {n: a + ASIDE * generator.standard_normal(a.shape) for n, a in place.parameters.items()}
        given, value = rest(place.parameters, z), rest(other, z)
        error = 1e-10 * (1.0 + np.abs(given) + np.abs(place.log_density(place.parameters, z)))
        return compared(given, value, places_of(z), error=error)

    what = "log density of dispersed λ, less log density / dispersion,"
    return verify(place.about, "dispersed", "at another λ it", "mend dispersed", attempt, what)


def mirrored(place: Place) -> Finding:
    """Check that mirroring the noise twice returns it; `laws` checks the distribution of mirrored noise."""
    family, backend = place.family, place.lab.backend
    call = place.lab.function(lambda noise: family.mirrored(backend, noise))

    def attempt(round: int) -> Compared:
        noise = place.draw(place.lab.effort.points, "mirrored", round)
        twice = call(call(noise))
        given, right = (np.concatenate([a[n].reshape(len(a[n]), -1) for n in noise], axis=1) for a in (twice, noise))
        labels = [f" of {n}" for n, a in noise.items() for _ in range(int(np.prod(a.shape[1:])))]
        return compared(given, right, [f"noise {i}" for i in range(len(given))], labels, 1e-9 + 0.0 * right)

    what = "mirrored of mirrored noise"
    return verify(place.about, "mirrored", "the noise", "mend mirrored", attempt, what)


def logits(place: Place) -> Iterator[Finding]:
    """Check log q(z_i = 1)/q(z_i = 0) and its derivatives in λ."""
    family, backend = place.family, place.lab.backend
    dimension = place.dimension
    call = place.lab.function(lambda p: family.logits(backend, p))

    def attempt(round: int) -> Compared:
        z = place.samples(place.lab.effort.points, "logits", round)
        given = np.broadcast_to(call(place.parameters), z.shape)
        sides = [
            np.stack([place.log_density(place.parameters, replaced(z, 0.0 * z + side, i)) for i in range(dimension)], 1)
            for side in (1.0, 0.0)
        ]
        return compared(given, sides[0] - sides[1], places_of(z), coordinate_labels(dimension))

    yield verify(place.about, "logits", "log q(1) − log q(0)", "mend logits or log_density", attempt)
    pull = place.lab.function(lambda g: family.from_logits(backend, g))

    def pulled(round: int) -> Compared:
        gradient = place.lab.generator("logits", round).standard_normal((place.lab.effort.points, dimension))
        given = pull(gradient)
        places = [f"gradient {row}" for row in map(str, range(len(gradient)))]
        found = _along_blocks(
            place,
            gradient,
            lambda block, v: _dot(given[block], v),
            lambda p: gradient @ np.broadcast_to(call(p), (dimension,)),
            "logits",
            round,
        )
        return Compared(found.claimed, found.value, found.error, places, found.labels)

    yield verify(place.about, "from_logits", "the derivative of logits", "mend from_logits or logits", pulled)


def expected(place: Place) -> Finding:
    """Check `expected_pathwise` against numerical derivatives of `expected`, whose value `identities` checks."""
    family, backend = place.family, place.lab.backend
    mean = place.lab.function(lambda p: family.expected(backend, p))
    pull = place.lab.function(lambda p, c: family.expected_pathwise(backend, p, c))

    def attempt(round: int) -> Compared:
        cotangent = place.lab.generator("expected", round).standard_normal((place.lab.effort.points, place.dimension))
        given = pull(place.parameters, cotangent)
        return _along_blocks(
            place,
            cotangent,
            lambda block, v: _dot(given[block], v),
            lambda p: cotangent @ np.broadcast_to(mean(p), (place.dimension,)),
            "expected",
            round,
        )

    return verify(place.about, "expected_pathwise", "the derivative of expected", "mend expected_pathwise", attempt)


#: Check of each method that a family may override, in addition to those listed in `checking`.
CHECKS: dict[str, Callable[[Place], Finding | Iterator[Finding]]] = {
    "log_density_gradient": log_density_gradient,
    "log_density_hessian_product": log_density_hessian_product,
    "log_densities": log_densities,
    "log_density_replaced": log_density_replaced,
    "entropy_pathwise": entropy_pathwise,
    "dispersed": dispersed,
    "mirrored": mirrored,
    "logits": logits,
}


def inherited(family: Family, name: str) -> bool:
    """Return whether a method is that of `MeanField` or `Family`, or is not defined at all."""
    return getattr(type(family), name, None) in (getattr(Family, name, None), getattr(MeanField, name, None), None)
