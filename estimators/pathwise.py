"""Pathwise estimator (the reparameterisation trick).

Approximates   ∇_λ E_{q_λ}[f_λ(z)]
with           (1/S) Σ_s d/dλ f_λ(t(ε_s, λ)),     ε_s ~ s(ε),  z = t(ε, λ)
requires       f differentiable in z almost everywhere and continuous; a differentiable sample path t.

Sources: Kingma & Welling 2014; Rezende et al. 2014; Mohamed et al. 2020, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators import draws, sobol_noise
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Pathwise(Estimator):
    """The pathwise estimator.

    `antithetic` pairs ε with −ε; S counts both, so it is even.

    `sticking-the-landing` (Roeder et al. 2017, equation 8; ELBO with sampled entropy only) drops the score ∇_λ log
    q_λ(z) at fixed z, whose expectation is zero, from the total derivative of −log q_λ(t(ε, λ)).

    `draws=sobol` makes ε from the S points of a scrambled Sobol net (`sobol.py`; Buchholz et al. 2018).
    """

    name: ClassVar[str] = "pathwise"
    summary: ClassVar[str] = "d/dλ f(t(ε, λ)): the reparameterisation trick"
    requires: ClassVar[Requires] = Requires(("pathwise",), ("gradient",))

    antithetic: bool = option(False, "use ε and −ε in pairs; S counts both")
    sticking_the_landing: bool = option(False, "ELBO only: leave out the score term, of expectation zero")
    draws: str = option("independent", "how the samples are drawn", choices=("independent", "sobol"))

    def also_requires(self, entropy: str) -> Requires:
        more = ["mirrored"] if self.antithetic else []
        if entropy == "sampled":
            more.append("score_identity" if self.sticking_the_landing else "score")
        return Requires(tuple(more))

    def also_unsupported(self, family: Family) -> str | None:
        return draws.unsupported_reason(self.draws, family)

    def default_entropy(self) -> str:
        return "sampled" if self.sticking_the_landing else "none"

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if self.antithetic and num_samples % 2:
            raise NotApplicable(f"antithetic=true draws pairs, so samples must be even, not {num_samples}")
        if self.draws == "sobol":
            if self.antithetic:
                raise NotApplicable("antithetic=true draws pairs and draws=sobol a net; choose one")
            sobol_noise.check(family, num_samples, dimension)
        if self.sticking_the_landing and entropy != "sampled":
            wrong = "has no entropy term" if entropy == "none" else "takes the entropy analytically"
            raise NotApplicable(f"sticking-the-landing needs an ELBO with entropy=sampled; this problem {wrong}")

    def smallest_num_samples(self) -> int:
        return 2 if self.antithetic or self.draws == "sobol" else 1

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        drawn = draws.specs(self._draws, expectation.family, num_samples, dimension)
        return {**drawn, **expectation.noise_specs()}

    @property
    def _draws(self) -> str:
        return "antithetic" if self.antithetic else self.draws

    def family_noise(self, backend: Backend, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
        return draws.as_noise(backend, family, self._draws, noise)

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        found = super().discontinuities(expectation, parameters, num_samples, dimension)
        return draws.mirrored_jumps(expectation.family, found) if self.antithetic else found

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        gradients = self.per_sample(backend, expectation, parameters, noise)
        return {name: mean_over_samples(backend.xp, gradient) for name, gradient in gradients.items()}

    def per_sample(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]
    ) -> Blocks:
        """Return the derivative of f along the path of every sample, by block [R, S, *shape]."""
        family = expectation.family
        noise = self.family_noise(backend, family, noise)
        z = family.sample(backend, parameters, noise)
        logs = family.logs(backend, parameters, noise)
        if self.sticking_the_landing:
            slope = expectation.gradient(backend, parameters, z, noise, *logs)
        else:
            slope = expectation.integrand_gradient(backend, z, noise, *logs)
        gradients = family.pathwise(backend, parameters, noise, z, slope)
        if expectation.entropy == "sampled" and not self.sticking_the_landing:
            entropy = family.entropy_pathwise(backend, parameters, noise, z)
            gradients |= {name: gradients[name] + moved for name, moved in entropy.items()}
        return gradients
