"""Amortised inference: an encoder computes the parameters of q for every datum.

    L(φ, θ) = Σ_n E_{q(z_n; λ_n)}[f_θ(x_n, z_n)],     λ_n = encoder(x_n; φ)

Approximates   ∇_φ L
with           (N/B) Σ_{n ∈ B} ĝ_n · ∂λ_n/∂φ,     ĝ_n any estimate of ∇_λ E_{q_λ}[f_θ(x_n, z)] at λ_n
requires       what that estimate requires; the encoder differentiable in φ.

The data are independent of each other given φ and θ, so the inner estimator treats each datum as a replicate: it sees
that datum's z and f, and its baselines use that datum only. So no datum adds noise to the estimate of another.

Sources: Kingma & Welling 2014; Rezende et al. 2014; Mnih & Gregor 2014 (score function).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, WarmupContext, values_and_scores
from gradmeter.estimators.expectation import Array, Differentiate, Entropy, Expectation, Integrand
from gradmeter.estimators.families import Family, Normal
from gradmeter.estimators.families.family import MeanField
from gradmeter.estimators.importance_weighted import Groups
from gradmeter.estimators.noise import DrawnNoise, Noise

ROWS = "rows"
#: The largest number of samples, of single data, that an estimator with memory learns from.
MOST_LEARNT_FROM = 2**15


@dataclass(frozen=True)
class AmortisedNormal(Normal):
    """A mean-field Normal whose loc and log_scale may have the batch axes of z."""

    name: ClassVar[str] = "amortised-normal"
    summary: ClassVar[str] = "mean-field Normal, its loc and log_scale an encoder's"
    unsupported: ClassVar[Mapping[str, str]] = {
        "bonnet_price": "its parameters differ from datum to datum, which what rests on them does not expect"
    }

    @dataclass(frozen=True)
    class Config(Normal.Config):
        @property
        def family(self) -> Family:
            return AmortisedNormal()


class Encoder(ABC):
    """The map from x_n to λ_n.

    Instances are stateless and hashable; φ and the inputs [N, ...] are in `data`.
    """

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the blocks of φ, which are read in `data` under their names."""

    @abstractmethod
    def population(self, data: dict[str, Array]) -> int:
        """Return N."""

    @abstractmethod
    def apply(self, xp: Any, data: dict[str, Array], rows: Array | None) -> Blocks:
        """Return λ of the data in `rows`.

        Parameters
        ----------
        rows
            Row numbers [R, B], or None for all N data.

        Returns
        -------
        dict
            {block: [R, B, *shape]}, or {block: [1, N, *shape]} if `rows` is None.
        """

    #: Optional method: Σ over data of cotangent [R, B, *shape] · ∂λ/∂φ, {block: [R, *shape]}. Takes (xp, data, rows,
    #: {block of λ: cotangent}). Without it, only backends with automatic differentiation work.
    pullback: Any = None

    #: Method needed for entropy=analytic only: ∇_λ of the terms that are computed exactly (the entropy, and the
    #: prior's), for λ [..., D]. Takes (xp, λ).
    exact_gradient: Any = None


class AmortisedExpectation(Expectation):
    """L(φ, θ), over all N data or minibatches of them.

    Parameters
    ----------
    family
        q of one datum.
    integrand
        f of one datum, which it finds in `noise["rows"]`: row numbers [R, 1], or one per sample [R, S].
    encoder
        Computes the parameters of q.
    data
        Arrays that the integrand and the encoder read, with `batch` [B] (any values) if minibatches are drawn.
    entropy
        As for `Expectation`. With `analytic`, f omits the terms whose gradient the encoder's `exact_gradient` adds.
    importance_samples
        K, of every datum's bound; L is the sum of these bounds.

    Raises
    ------
    UsageError
        The integrand reads λ and has an explicit term, or entropy=analytic is asked of an encoder without
        `exact_gradient`.
    """

    def __init__(
        self,
        family: Family,
        integrand: Integrand,
        encoder: Encoder,
        data: dict[str, Array],
        entropy: Entropy = "sampled",
        differentiate: Differentiate = "closed-form",
        importance_samples: int = 1,
    ) -> None:
        super().__init__(family, integrand, data, entropy, differentiate, importance_samples)
        if integrand.reads and not integrand.explicit_term_is_zero:
            raise UsageError(
                f"{type(integrand).__name__} reads {', '.join(integrand.reads)} of λ, which an encoder makes anew for "
                "every datum; compute it from φ and x in f, or give q free parameters"
            )
        if entropy == "analytic" and encoder.exact_gradient is None:
            raise UsageError(
                "entropy=analytic needs the gradient of what f leaves out; add `exact_gradient` to "
                f"{type(encoder).__name__}, or use entropy=sampled"
            )
        self.encoder = encoder

    @property
    def structure(self) -> Hashable:
        return (super().structure, self.encoder)

    def bind(self, data: dict[str, Array]) -> AmortisedExpectation:
        static = (self.entropy, self.differentiate, self.importance_samples)
        return AmortisedExpectation(self.family, self.integrand, self.encoder, data, *static)

    def at(self, parameters: Blocks) -> tuple[AmortisedExpectation, Blocks]:
        own = {name: parameters[name] for name in self.encoder.shapes()}
        return self.bind({**self.data, **parameters}), own

    @property
    def blocks(self) -> tuple[str, ...]:
        return (*self.encoder.shapes(), *self.model_blocks)

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {**self.encoder.shapes(), **self.integrand.model_shapes()}

    @property
    def population(self) -> int:
        """N."""
        return self.encoder.population(self.data)

    @property
    def batch(self) -> int:
        """B; N without minibatches."""
        return int(self.data["batch"].shape[0]) if "batch" in self.data else self.population

    def noise_specs(self) -> dict[str, Noise]:
        return {ROWS: Noise("rows", (self.batch,), self.population)} if "batch" in self.data else {}

    def width(self, dimension: int) -> int:
        of_f = self.importance_samples * self.batch * self.integrand.width(self.data, dimension)
        return max(of_f, *(math.prod(shape) for shape in self.shapes(dimension).values()))

    def estimated_by(self, estimator: Estimator) -> Estimator:
        return Amortised(estimator)

    def sample_specs(self, dimension: int) -> dict[str, Noise]:
        return {**self.many(self.family.noise((self.importance_samples,), dimension)), **self.noise_specs()}

    def sampled_objective(self, backend: Backend, parameters: Blocks, noise: DrawnNoise) -> Array:
        return backend.xp.sum(self.sampled_terms(backend, parameters, noise), axis=1) * (self.population / self.batch)

    def sampled_terms(self, backend: Backend, parameters: Blocks, noise: DrawnNoise) -> Array:
        """Return f of every datum at one sample of its z [R, B], from noise that `sample_specs` declares."""
        bound, _ = self.at(parameters)
        datum, local, each = bound.each_datum(backend, noise)
        value = Groups(backend, datum, local, each).bound()[:, 0]
        return backend.xp.reshape(value, (-1, self.batch))

    def datum(self) -> Expectation:
        """Return E f of one datum, or its bound; the row number of the datum is noise."""
        entropy: Entropy = "sampled" if self.entropy == "sampled" else "none"
        static = (entropy, self.differentiate, self.importance_samples)
        return Expectation(self.family, self.integrand, self.data, *static)

    def many(self, specs: dict[str, Noise]) -> dict[str, Noise]:
        """Return the noise for the estimates of every datum of a batch, from that of a single datum."""
        last = self.batch > 1  # a batch of one datum keeps the usual order in memory, so old seeds stay valid
        each = {name: spec for name, spec in specs.items() if name != ROWS}
        return {n: replace(spec, shape=(self.batch, *spec.shape), reversible=last) for n, spec in each.items()}

    def per_datum_parameters(self, backend: Backend, parameters: Blocks) -> list[Blocks]:
        bound, _ = self.at(parameters)
        found = bound.infer(backend.xp, None)
        if isinstance(self.family, MeanField):
            return [{name: backend.xp.reshape(a, (-1,)) for name, a in found.items()}]
        return [{name: a[0, n, ...] for name, a in found.items()} for n in range(self.population)]

    def infer(self, xp: Any, rows: Array | None) -> Blocks:
        """Return λ of the data, {block: [R or 1, B, D]}; call it on the expectation that `at` returned."""
        return self.encoder.apply(xp, self.data, rows)

    def each_datum(self, backend: Backend, noise: DrawnNoise) -> tuple[Expectation, Blocks, DrawnNoise]:
        """Return one datum's problem, and λ and noise of R · B data; the data of a replicate are consecutive."""
        xp = backend.xp
        rows, shape = noise.get(ROWS), (noise.replicates, self.batch)
        data = noise.replicates * self.batch
        flat = {name: xp.reshape(a, (data, *a.shape[2:])) for name, a in noise.items() if name != ROWS}
        local = {}
        for name, values in self.infer(xp, rows).items():
            full = xp.broadcast_to(values, (*shape, *values.shape[2:]))
            local[name] = xp.reshape(full, (data, 1, *values.shape[2:]))
        if rows is None:
            rows = xp.broadcast_to(backend.asarray(range(self.batch), None)[None, :], shape)
        datum = self.datum()
        read = {name: local[name] for name in self.integrand.reads}
        return datum.bind({**datum.data, **read}), local, DrawnNoise({**flat, ROWS: xp.reshape(rows, (data, 1))}, data)

    def encoder_pullback(self, backend: Backend, own: Blocks, rows: Array | None, cotangent: Blocks) -> Blocks:
        """Return Σ over data of cotangent [R, B, D] · ∂λ/∂φ, {block of φ: [R, *shape]}.

        Call it on the expectation that `at` returned.
        """
        xp, encoder, data = backend.xp, self.encoder, self.data
        if self.differentiate == "closed-form" and encoder.pullback is not None:
            return encoder.pullback(xp, data, rows, cotangent)

        names = tuple(cotangent)

        def total(phi: Blocks, *arrays: Array) -> Array:
            drawn = arrays[len(names)][None, ...] if rows is not None else None
            found = encoder.apply(xp, {**data, **phi}, drawn)
            return sum(xp.sum(arrays[i] * found[name][0, ...]) for i, name in enumerate(names))

        drawn = () if rows is None else (rows,)
        return backend.pullback(total, "the encoder a `pullback` method")(own, *cotangent.values(), *drawn)


@dataclass(frozen=True)
class Amortised(Estimator):
    """An estimator for free parameters, applied to λ of each datum and pulled back through the encoder.

    This is the estimator of an `AmortisedExpectation`.

    Attributes
    ----------
    inner
        The estimator of ∇_λ for one datum.
    """

    name: ClassVar[str] = "amortised"
    summary: ClassVar[str] = "an estimate for every datum's parameters, pulled back through an encoder"
    requires: ClassVar[Requires] = Requires()

    inner: Estimator

    def also_requires(self, entropy: str) -> Requires:
        return self.inner.requires | self.inner.also_requires(entropy)

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        self.inner.check_settings(family, entropy, num_samples, dimension)

    def smallest_num_samples(self) -> int:
        return self.inner.smallest_num_samples()

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        assert isinstance(expectation, AmortisedExpectation)
        specs = self.inner.noise_specs(expectation.datum(), num_samples, dimension)
        return {**expectation.many(specs), **expectation.noise_specs()}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        assert isinstance(expectation, AmortisedExpectation)
        if not expectation.family.discrete or "batch" in expectation.data:  # Normals are smooth in their noise
            return {}
        bound, _ = expectation.at(parameters)
        specs = self.inner.noise_specs(bound.datum(), num_samples, dimension)
        local = {name: np.asarray(a)[0] for name, a in bound.infer(np, None).items()}
        each = [
            self.inner.discontinuities(bound.datum(), {name: a[n] for name, a in local.items()}, num_samples, dimension)
            for n in range(bound.batch)
        ]
        found = {}
        for name in [n for n in each[0] if n in specs]:
            axes = len(specs[name].shape) + 1
            found[name] = np.stack([np.reshape(a[name], (1,) * (axes - a[name].ndim) + a[name].shape) for a in each])
        return found

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        """Return how many evaluations of the sum of f over the minibatch one estimate costs."""
        assert isinstance(expectation, AmortisedExpectation)
        return self.inner.evaluations(expectation.datum(), num_samples, dimension)

    def fit(self, known: WarmupContext) -> Blocks:
        def pilot() -> Any:
            assert known.pilot is not None
            backend, bound, _, noise = known.pilot()
            assert isinstance(bound, AmortisedExpectation)
            size = max(a.size / a.shape[0] for a in map(backend.to_numpy, noise.values()))
            kept = max(1, int(MOST_LEARNT_FROM / size))
            few = DrawnNoise({name: a[:kept] for name, a in noise.items()}, min(kept, noise.replicates))
            return backend, *bound.each_datum(backend, few)

        return self.inner.fit(WarmupContext(None, None, lambda: values_and_scores(*pilot()), pilot))

    def estimate(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        assert isinstance(expectation, AmortisedExpectation)
        xp, (bound, own) = backend.xp, expectation.at(parameters)
        replicates = noise.replicates
        shape, weight = (replicates, bound.batch), bound.population / bound.batch
        datum, local, each = bound.each_datum(backend, noise)
        if bound.model_blocks:
            found, z, weights = self.inner.estimate_and_samples(backend, datum, local, each, state)
        else:
            found = self.inner.estimate_integrand(backend, datum, local, each, state)
        slopes = {name: xp.reshape(g, (*shape, *g.shape[1:])) for name, g in found.items()}
        rows = noise.get(ROWS)
        if bound.entropy == "analytic":
            exact = bound.encoder.exact_gradient(xp, bound.infer(xp, rows))
            slopes = {name: slope + exact[name] for name, slope in slopes.items()}
        gradients = bound.encoder_pullback(backend, own, rows, {n: weight * slope for n, slope in slopes.items()})
        if bound.model_blocks:
            samples = z.shape[1]
            z = xp.reshape(z, (replicates, bound.batch * samples, z.shape[-1]))
            which = xp.broadcast_to(each[ROWS], (replicates * bound.batch, samples))
            one_each = {ROWS: xp.reshape(which, (replicates, bound.batch * samples))}
            cotangent = weight * xp.reshape(weights, z.shape[:-1])
            gradients = {**gradients, **datum.explicit_pullback(backend, z, cotangent, one_each)}
        return gradients

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        raise NotImplementedError("the estimate of every datum is pulled back as a whole")
