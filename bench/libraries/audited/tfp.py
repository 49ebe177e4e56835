"""TensorFlow Probability on JAX: the gradient estimators of `tfp.vi.monte_carlo_variational_loss`, and VIMCO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tensorflow_probability.substrates import jax as probability

from gradmeter.adapters import tfp as adapter
from gradmeter.bench.libraries import elbo
from gradmeter.bench.libraries.case import Case

PACKAGES = ("tfp-nightly", "jax")
S = 64
#: Draws of VIMCO, which cannot be compiled: a call takes as long for many as for few, and few can be made.
MANY, FEW = 512, 2**10
KINDS = probability.vi.GradientEstimators
#: Divergences as functions of log u, u = p / q, in the library and in NumPy.
DIVERGENCES: tuple[tuple[str, Any, Callable[[Any], Any]], ...] = (
    ("kl_reverse", probability.vi.kl_reverse, lambda log_u: -log_u),
    ("squared_hellinger", probability.vi.squared_hellinger, lambda log_u: (np.exp(0.5 * log_u) - 1.0) ** 2),
)


def joint(z: Any) -> Any:
    x = probability.distributions.Normal(z[..., None], 1.0).log_prob(jnp.asarray(elbo.DATA)).sum(-1)
    return probability.distributions.Normal(0.0, 1.0).log_prob(z) + x


def surrogate(parameters: Any) -> Any:
    return probability.distributions.Normal(parameters["loc"], jnp.exp(parameters["scale"]))


def cases() -> Iterator[Case]:
    for name, library, exact in DIVERGENCES:
        for kind in (KINDS.REPARAMETERIZATION, KINDS.SCORE_FUNCTION):
            options = {"discrepancy_fn": library, "gradient_estimator": kind}
            yield _case(f"{name}, {kind.name}", elbo.divergence(exact), **options)
    iwae = elbo.renyi(0.0, 2)
    for kind in (KINDS.REPARAMETERIZATION, KINDS.DOUBLY_REPARAMETERIZED):
        stopped = kind is KINDS.DOUBLY_REPARAMETERIZED
        options = {"importance_sample_size": 2, "gradient_estimator": kind, "stopped": stopped}
        yield _case(f"kl_reverse, K = 2, {kind.name}", iwae, **options)
    options = {"importance_sample_size": 2, "gradient_estimator": KINDS.VIMCO}
    yield _case("kl_reverse, K = 2, VIMCO", iwae, MANY, FEW, **options)
    yield Case("csiszar_vimco(kl_reverse), K = 2", elbo.ONE, lambda: (_vimco, _at()), iwae, MANY, FEW)


def _at() -> dict[str, Any]:
    return {"loc": jnp.asarray(elbo.LOC), "scale": jnp.log(elbo.SCALE)}


def _case(name: str, exact: Any, samples: int = S, replicates: int = Case.replicates, **options: Any) -> Case:
    def make() -> Any:
        return adapter.variational_loss(joint, surrogate, samples=samples, **options), _at()

    return Case(name, elbo.ONE, make, exact, samples, replicates)


def _vimco(parameters: Any, key: Any) -> Any:
    def loss(parameters: Any) -> Any:
        reverse = probability.vi.kl_reverse
        return probability.vi.csiszar_vimco(reverse, joint, surrogate(parameters), 2, num_batch_draws=MANY, seed=key)

    return jax.tree_util.tree_map(jnp.negative, jax.grad(loss)(parameters))
