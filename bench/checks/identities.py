"""Checks of identities that hold in expectation, by sums over states or means over the noise (`averages.py`).

For a function φ of z: E ∇_λ log q = 0; ∇_λ E φ = E[φ ∇_λ log q], which weak derivatives and an implicit path must also
equal; and ∇_λ of the entropy is −E[log q ∇_λ log q]. The functions φ are sines and cosines of the coordinates, so that
no mean depends on rare samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.checks.averages import SETS, Cloud, cloud, verify_mean
from gradmeter.bench.checks.distributions import listed
from gradmeter.bench.checks.families import path_compared
from gradmeter.bench.checks.findings import Finding, number
from gradmeter.bench.checks.lab import Vectors
from gradmeter.bench.checks.places import Place, labels_of
from gradmeter.estimators import NotApplicable
from gradmeter.estimators.families.capabilities import has

#: Tolerance on sums over all states, relative to the size of the terms.
ROUNDING = 1e-9
#: Orders of the moments checked.
ORDERS = (1, 2)


class Averages:
    """Weighted samples of a family for two rounds, each drawn once."""

    def __init__(self, place: Place, specs: Any = None, purpose: str = "average") -> None:
        self.place, self.purpose = place, purpose
        self.specs = place.family.noise((), place.dimension) if specs is None else specs
        self.points = place.lab.affordable(self._evaluate, SETS * place.lab.effort.average) // SETS
        self._clouds: dict[int, tuple[Cloud, np.ndarray]] = {}

    def _evaluate(self, rows: int) -> None:
        z = self.place.sample(self.place.parameters, self.place.draw(rows, "time"))
        self.place.log_density(self.place.parameters, z)

    def __call__(self, round: int) -> tuple[Cloud, np.ndarray]:
        """Return weighted noise and the samples [N, D] of a round."""
        if round not in self._clouds:
            made = cloud(self.place.lab, self.specs, self.points, self.purpose, round)
            self._clouds[round] = made, self.place.sample(self.place.parameters, made.noise)
        return self._clouds[round]


def flat(blocks: Vectors, like: Vectors, rows: int | None = None) -> np.ndarray:
    """Concatenate blocks to [entries], or blocks that broadcast to [rows, *shape] to [rows, entries].

    Parameters
    ----------
    blocks
        {parameter block: array}.
    like
        {parameter block: [*shape]}, which gives order and shapes.
    rows
        Number of rows, if there are several.
    """
    parts = []
    for name, a in like.items():
        shape = a.shape if rows is None else (rows, *a.shape)
        parts.append(np.broadcast_to(blocks[name], shape).reshape(*shape[:1] if rows is not None else (), -1))
    return np.concatenate(parts, axis=-1)


def score_identity(place: Place, averages: Averages) -> Finding:
    """Check E ∇_λ log q = 0."""
    check, like = "E score = 0", place.parameters
    labels = labels_of(like)
    what, remedy = "E score", "declare score_identity in unsupported, or mend score, sample or log_density"
    z = listed(place)
    if z is not None:
        q = np.exp(place.log_density(like, z))
        s = flat(place.score(like, z), like, len(z))
        away = np.abs(q @ s) > ROUNDING * (1.0 + q @ np.abs(s))
        if not away.any():
            return place.about.ok(check, "over all states")
        entry = int(away.argmax())
        return place.about.wrong(check, f"{what}{labels[entry]} is {number((q @ s)[entry])} over all states; {remedy}")

    def terms(round: int) -> tuple[np.ndarray, Cloud]:
        made, z = averages(round)
        return flat(place.score(like, z), like, len(z)), made

    return verify_mean(place.about, check, np.zeros(len(labels)), labels, "", remedy, terms, what)


def entropy_gradient(place: Place, averages: Averages) -> Finding:
    """Check ∇_λ of −E log q by the score, where E score = 0, as a sum over all states if these can be listed.

    Without the score identity, check it by the path.
    """
    name, like, labels = "entropy_gradient", place.parameters, labels_of(place.parameters)
    family, backend = place.family, place.lab.backend
    if not has(family, "score", "score_identity"):
        path = _entropy_by_path(place, averages)
        return path if path is not None else place.about.not_checked(name, "the family lacks the identity E score = 0")
    claimed = flat(place.lab.function(lambda p: family.entropy_gradient(backend, p))(like), like)
    reference, remedy = "the derivative of −E log q", "mend entropy_gradient"
    z = listed(place)
    if z is not None:
        log_density = place.log_density(like, z)
        value = -(np.exp(log_density) * log_density) @ flat(place.score(like, z), like, len(z))
        away = ~(np.abs(claimed - value) <= ROUNDING * (1.0 + np.abs(value)))
        if not away.any():
            return place.about.ok(name, "over all states")
        entry = int(away.argmax())
        return place.about.wrong(
            name,
            f"{name}{labels[entry]} is {number(claimed[entry])}, but {reference} is {number(value[entry])}; {remedy}",
        )

    centre = float(np.median(place.log_density(like, _pilot(place))))

    def terms(round: int) -> tuple[np.ndarray, Cloud]:
        made, z = averages(round)
        log_density = place.log_density(like, z)
        away = log_density - centre
        s = flat(place.score(like, z), like, len(z))
        return -away[:, None] * s, made

    return verify_mean(place.about, name, claimed, labels, reference, remedy, terms)


def _entropy_by_path(place: Place, averages: Averages) -> Finding | None:
    """Check the entropy gradient against the mean of `entropy_pathwise`; return None without a path."""
    family, backend, like = place.family, place.lab.backend, place.parameters
    if not has(family, "pathwise", "score", "log_density_gradient"):
        return None
    name, labels = "entropy_gradient", labels_of(like)
    claimed = flat(place.lab.function(lambda p: family.entropy_gradient(backend, p))(like), like)
    call = place.lab.function(lambda p, noise, z: family.entropy_pathwise(backend, p, noise, z))

    def terms(round: int) -> tuple[np.ndarray, Cloud]:
        made, z = averages(round)
        found = {n: np.zeros(()) for n in like} | call(like, made.noise, z)
        return flat(found, like, len(z)), made

    return verify_mean(place.about, name, claimed, labels, "E entropy_pathwise", "mend entropy_gradient", terms)


@dataclass(frozen=True)
class _Waves:
    """The test function φ(z) = Σ_i sin(x_i + phase_i) + cos(along · x + 1/2), with x = (z − middle)/spread."""

    middle: np.ndarray
    spread: np.ndarray
    phase: np.ndarray
    along: np.ndarray

    def _arguments(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = (z - self.middle) / self.spread
        return x + self.phase, x @ self.along + 0.5

    def value(self, z: np.ndarray) -> np.ndarray:
        each, total = self._arguments(z)
        return np.asarray(np.sin(each).sum(axis=-1) + np.cos(total))

    def slope(self, z: np.ndarray) -> np.ndarray:
        each, total = self._arguments(z)
        return np.asarray((np.cos(each) - np.sin(total)[..., None] * self.along) / self.spread)

    def hessian(self, z: np.ndarray) -> np.ndarray:
        each, total = self._arguments(z)
        curved = -np.sin(each)[..., None] * np.eye(len(self.along))
        curved = curved - np.cos(total)[..., None, None] * np.outer(self.along, self.along)
        return np.asarray(curved / np.outer(self.spread, self.spread))


def _waves(place: Place) -> _Waves:
    generator = place.lab.generator("waves")
    phase = generator.uniform(0.3, 1.2, place.dimension)
    along = generator.standard_normal(place.dimension) / np.sqrt(place.dimension)
    return _Waves(np.median(_pilot(place), axis=0), place.spread(), phase, along)


def implicit_path(place: Place, averages: Averages) -> Finding:
    """Check E[∇φ · ∂z/∂λ] = E[φ ∇_λ log q], the only condition on a path that is not the sampler's derivative."""
    name, like, labels = "pathwise", place.parameters, labels_of(place.parameters)
    if not has(place.family, "score", "score_identity"):
        return place.about.not_checked(name, "the sample jumps as λ moves, and the family lacks the score identity")
    waves = _waves(place)
    centre = float(waves.value(_pilot(place)).mean())

    def terms(round: int) -> tuple[np.ndarray, Cloud]:
        made, z = averages(round)
        path = flat(place.pathwise(like, made.noise, z, waves.slope(z)), like, len(z))
        phi = (waves.value(z) - centre)[:, None]
        return path - phi * flat(place.score(like, z), like, len(z)), made

    remedy, what = "mend pathwise, score or sample", "for a test function φ, E ∇φ · ∂z/∂λ less E φ score"
    found = verify_mean(place.about, name, np.zeros(len(labels)), labels, "", remedy, terms, what)
    if found.status != "ok":
        return found
    return place.about.ok(name, f"as an implicit derivative, for the sample jumps as λ moves; {found.message}")


def _pilot(place: Place) -> np.ndarray:
    """Draw samples that no average uses, to compute constants."""
    return place.samples(512, "spread")


def explicit(place: Place) -> bool:
    """Return whether the path is the sampler's derivative at fixed noise."""
    return has(place.family, "pathwise") and not path_compared(place, 2).mismatches().any()


def weak_derivatives(place: Place) -> Iterator[Finding]:
    """Check c (E φ(z⁺) − E φ(z⁻)) for every coordinate against E[φ(z_i) ∇_λ_i log q]."""
    family, backend, like, name = place.family, place.lab.backend, place.parameters, "weak_derivatives"
    if not has(family, "score", "score_identity"):
        yield place.about.not_checked(name, "the family lacks the identity E score = 0")
        return
    spread, middle = place.spread(), np.median(_pilot(place), axis=0)

    def phi(z: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin((z - middle) / spread + 0.7))

    centre = phi(_pilot(place)).mean(axis=0)
    for coupling in (True, False) if has(family, "independent_parts") else (True,):
        by_block = family.weak_noise((), place.dimension, coupling)
        specs = {n: spec for noise in by_block.values() for n, spec in noise.items()}
        specs |= family.noise((), place.dimension)
        averages = Averages(place, specs, f"weak {coupling}")
        call = place.lab.function(
            lambda p, noise, coupling=coupling: {
                f"{n} {i}": a
                for n, parts in family.weak_derivatives(backend, p, noise, coupling).items()
                for i, a in enumerate(parts)
            }
        )
        blocks = {n: like[n] for n in by_block}

        def terms(
            round: int, averages: Averages = averages, call: Any = call, blocks: Vectors = blocks
        ) -> tuple[np.ndarray, Cloud]:
            made, z = averages(round)
            found, scores = call(like, made.noise), place.score(like, z)
            value = phi(z)
            columns = []
            for n in blocks:
                constant, above, below = (found[f"{n} {i}"] for i in (0, 1, 2))
                shape = (len(z), place.dimension)
                weak = np.broadcast_to(constant * (phi(above + 0.0 * z) - phi(below + 0.0 * z)), shape)
                columns.append(weak - (value - centre) * scores[n])
            return np.concatenate(columns, axis=1), made

        labels = labels_of(blocks)
        what = f"for a test function φ, c (E φ(z⁺) − E φ(z⁻)) with coupling={str(coupling).lower()}, less E φ score,"
        yield verify_mean(place.about, name, np.zeros(len(labels)), labels, "", "mend weak_derivatives", terms, what)


def power_moments(place: Place, averages: Averages) -> Iterator[Finding]:
    """Check E z_i^n, and its gradient against E[Σ z^n ∇_λ log q] or the pathwise gradient."""
    like, family, name = place.parameters, place.family, "power_moment"
    by_score = has(family, "score", "score_identity")
    if not by_score and not has(family, "pathwise"):
        yield place.about.not_checked(name, "the family has neither the identity E score = 0 nor a path")
        return
    for order in ORDERS:
        try:
            moment, gradient = family.power_moment(like, order)
        except NotApplicable:
            continue
        claimed = np.concatenate([np.broadcast_to(moment, (place.dimension,)), flat(gradient, like)])
        labels = [f": E z[{i}]^{order}" for i in range(place.dimension)]
        labels += [f": the gradient{label} of E Σ z^{order}" for label in labels_of(like)]
        powers = (_pilot(place) ** order).sum(axis=-1)
        centre, scale = float(np.median(powers)), float(np.abs(powers).mean())

        def terms(
            round: int, order: int = order, claimed: np.ndarray = claimed, centre: float = centre
        ) -> tuple[np.ndarray, Cloud]:
            made, z = averages(round)
            power = z**order
            if by_score:
                s = flat(place.score(like, z), like, len(z))
                slope = (power.sum(axis=-1) - centre)[:, None] * s
            else:
                slope = flat(place.pathwise(like, made.noise, z, order * z ** (order - 1)), like, len(z))
            return np.concatenate([power, slope], axis=1), made

        yield verify_mean(place.about, name, claimed, labels, "the average", "mend power_moment", terms, scale=scale)


def bonnet_price(place: Place, averages: Averages) -> Finding:
    """Check ∇_λ E φ from ∇φ and ∇²φ against E[φ ∇_λ log q]."""
    family, backend, like, name = place.family, place.lab.backend, place.parameters, "bonnet_price"
    if not has(family, "score", "score_identity"):
        return place.about.not_checked(name, "the family lacks the identity E score = 0")
    waves, labels = _waves(place), labels_of(like)
    centre = float(waves.value(_pilot(place)).mean())
    call = place.lab.function(lambda p, slope, hessian: family.bonnet_price(backend, p, slope, hessian))

    def terms(round: int) -> tuple[np.ndarray, Cloud]:
        made, z = averages(round)
        given = flat(call(like, waves.slope(z), waves.hessian(z)), like, len(z))
        score = flat(place.score(like, z), like, len(z))
        return given - (waves.value(z) - centre)[:, None] * score, made

    what = "for a test function φ, bonnet_price less E φ score"
    return verify_mean(place.about, name, np.zeros(len(labels)), labels, "", "mend bonnet_price", terms, what)


def support_and_tails(place: Place, averages: Averages) -> Finding:
    """Check that samples lie between the ends of the support."""
    found = place.family.support_and_tails(place.parameters)
    z = averages(0)[1]
    low, high = (np.broadcast_to(end, (place.dimension,)) for end in (found.low, found.high))
    spread = place.spread()
    outside = (z < low - 1e-9 * spread) | (z > high + 1e-9 * spread)
    if not outside.any():
        return place.about.ok("support_and_tails", "samples lie between low and high")
    row, i = np.argwhere(outside)[0]
    return place.about.wrong(
        "support_and_tails",
        f"the sample z[{i}] is {number(z[row, i])}, but support_and_tails says {number(low[i])} to {number(high[i])}; "
        "mend support_and_tails",
    )


def expected(place: Place, averages: Averages) -> Finding:
    """Check that `expected` returns the mean of the samples."""
    family, backend = place.family, place.lab.backend
    mean = place.lab.function(lambda p: family.expected(backend, p))(place.parameters)
    claimed = np.broadcast_to(mean, (place.dimension,))
    labels = [f" of z[{i}]" for i in range(place.dimension)]

    def terms(round: int) -> tuple[np.ndarray, Cloud]:
        made, z = averages(round)
        return z, made

    return verify_mean(place.about, "expected", claimed, labels, "E z", "mend expected or sample", terms)
