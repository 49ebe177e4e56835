"""The base of the estimators of an importance-weighted bound's gradient.

Approximate    ∇ L_K,  L_K = E[log (1/K) Σ_k w_k],  w_k = p(x, z_k)/q_λ(z_k),  z_1, …, z_K ~ q_λ independent

For a model's parameters θ, all these estimators use Σ_k w̃_k ∇_θ log p(x, z_k) with w̃_k = w_k / Σ_j w_j, however they
estimate ∇_λ. The explicit term of a log p that reads λ is estimated in the same way. S counts groups of K samples; the
groups are independent. With K = 1 all weights are 1.

Sources: Burda, Grosse & Salakhutdinov 2016; Mnih & Rezende 2016.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, spread
from gradmeter.estimators.expectation import Array, Expectation, log_mean_weight, relative_weights
from gradmeter.estimators.families import Family
from gradmeter.estimators.noise import Noise


class Groups:
    """The samples of an estimate, S groups of K, with their importance weights.

    Attributes
    ----------
    z
        [R, S·K, D], where every K consecutive samples are a group.
    logs
        The logs of z from the family (`Family.logs`).
    size
        K.
    """

    def __init__(self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]) -> None:
        self.backend, self.expectation, self.parameters, self.noise = backend, expectation, parameters, noise
        self.z = expectation.family.sample(backend, parameters, noise)
        self.logs = expectation.family.logs(backend, parameters, noise)
        self.size = expectation.importance_samples
        self._log_weights: Array = None
        self._normalised: Array = None

    @property
    def log_weights(self) -> Array:
        """log w [R, S, K]."""
        if self._log_weights is None:
            value = self.expectation.value(self.backend, self.parameters, self.z, self.noise, *self.logs)
            self._log_weights = self.backend.xp.reshape(value, (value.shape[0], -1, self.size))
        return self._log_weights

    def relative(self) -> tuple[Array, Array]:
        """Return w divided by the largest weight of its group [R, S, K], and the logarithm of that weight [R, S, 1]."""
        return relative_weights(self.backend.xp, self.log_weights)

    def bound(self) -> Array:
        """Return log (1/K) Σ_k w_k [R, S]; f itself for K = 1."""
        return log_mean_weight(self.backend.xp, self.log_weights)

    @property
    def normalised(self) -> Array:
        """w̃ [R, S·K], with the sample axes of z; for K = 1 f is not evaluated."""
        xp = self.backend.xp
        if self._normalised is None and self.size == 1:
            self._normalised = xp.zeros_like(self.z[..., 0]) + 1.0
        elif self._normalised is None:
            weights, _ = self.relative()
            self._normalised = self.flat(weights / xp.sum(weights, axis=-1, keepdims=True))
        return self._normalised

    def normalised_in_parts(self, parts: int) -> Array:
        """Return the weights of the mean of `parts` equal parts of a group: w̃ within each part, over `parts`."""
        xp, size = self.backend.xp, self.size // parts
        if size == 1:
            return xp.zeros_like(self.z[..., 0]) + 1.0 / parts
        weights, _ = relative_weights(xp, xp.reshape(self.log_weights, (self.z.shape[0], -1, size)))
        return self.flat(weights / (parts * xp.sum(weights, axis=-1, keepdims=True)))

    @property
    def share(self) -> float:
        """1/S, the weight of a group."""
        return self.size / self.z.shape[1]

    def flat(self, values: Array) -> Array:
        """Reshape [R, S, K] to the sample axes of z."""
        return self.backend.xp.reshape(values, self.z.shape[:-1])

    def mean(self, per_sample: Blocks) -> Blocks:
        """Return the sum over each group's samples, averaged over the groups."""
        if self.z.shape[1] == 1:
            return {name: values[:, 0, ...] for name, values in per_sample.items()}
        return {name: self.share * self.backend.xp.sum(values, axis=1) for name, values in per_sample.items()}


@dataclass(frozen=True)
class ImportanceWeighted(Estimator):
    """The base class: draws the groups of samples and estimates the gradient with respect to θ.

    A subclass implements `family_gradient`.
    """

    bounds: ClassVar[bool] = True

    def default_entropy(self) -> str:
        return "sampled"

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if entropy != "sampled":
            wrong = "has no entropy term" if entropy == "none" else "takes the entropy analytically"
            raise NotApplicable(f"{self.name} needs an ELBO with entropy=sampled, or a bound; this problem {wrong}")

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        shape = (num_samples * expectation.importance_samples,)
        return {**expectation.family.noise(shape, dimension), **expectation.noise_specs()}

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        """Return the evaluations of log p and of its gradient; with K = 1 all weights are 1 and need no values."""
        each = 1 + bool(self.requires.integrand) if expectation.importance_samples > 1 else 1
        return each * num_samples * expectation.importance_samples

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        groups = Groups(backend, expectation, parameters, noise)
        return self.family_gradient(groups), groups.z, groups.share * self.model_weights(groups)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        return self.family_gradient(Groups(backend, expectation, parameters, noise))

    @abstractmethod
    def family_gradient(self, groups: Groups) -> Blocks:
        """Return the estimate of ∇_λ, {parameter block: [R, *shape]}."""

    def model_weights(self, groups: Groups) -> Array:
        """Return the weights, within their group, of the explicit derivatives of log p, with the sample axes of z."""
        return groups.normalised


def along_paths(groups: Groups, weights: Array) -> Blocks:
    """Return Σ_k weight_k · ∂ log w/∂z (z_k) · ∂z_k/∂λ at fixed λ in log w, averaged over the groups."""
    backend, expectation, z = groups.backend, groups.expectation, groups.z
    slope = expectation.gradient(backend, groups.parameters, z, groups.noise, *groups.logs)
    moved = expectation.family.pathwise(backend, groups.parameters, groups.noise, z, spread(weights, slope) * slope)
    return groups.mean(moved)
