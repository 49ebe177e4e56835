"""Pyro: its ELBO objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from pyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from gradmeter.adapters import pyro as adapter
from gradmeter.bench.libraries import elbo
from gradmeter.bench.libraries.case import Case

PACKAGES = ("pyro-ppl", "torch")
X = torch.tensor(elbo.DATA)
#: Particles of an ELBO, in one vectorised plate; a call takes a millisecond with one particle as with many.
PARTICLES = 256
#: Gradients of a case: calls cannot be batched.
REPLICATES = 2**11


def normal(kind: Any) -> Any:
    scale = pyro.param("scale", torch.tensor(elbo.SCALE), constraint=dist.constraints.positive)
    return kind(pyro.param("loc", torch.tensor(elbo.LOC)), scale)


def one_z(kind: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return model and guide with one z; `kind` is the distribution of the guide."""

    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(X)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=X)

    return model, lambda: pyro.sample("z", normal(kind))


def local_z(kind: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return model and guide with a z for each row, in a subsampled plate."""

    def model() -> None:
        with pyro.plate("data", len(X), subsample_size=elbo.BATCH) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X[rows])

    def guide() -> None:
        q = normal(kind)
        with pyro.plate("data", len(X), subsample_size=elbo.BATCH):
            pyro.sample("z", q)

    return model, guide


def binary() -> tuple[Callable[[], None], Callable[[], None]]:
    """Return model and guide with one binary z."""

    def model() -> None:
        z = pyro.sample("z", dist.Bernoulli(elbo.PRIOR))
        pyro.sample("x", dist.Normal(2.0 * z - 1.0, 1.0), obs=torch.tensor(elbo.X))

    return model, lambda: pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(elbo.LOGIT))))


def cases() -> Iterator[Case]:
    for kind in (Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO):
        yield _case(f"{kind.__name__}, reparameterised", elbo.ONE, kind, one_z(dist.Normal), elbo.global_elbo())
        yield _case(f"{kind.__name__}, reparameterised", elbo.LOCAL, kind, local_z(dist.Normal), elbo.local_elbo())
    for kind in (Trace_ELBO, TraceGraph_ELBO):
        name = f"{kind.__name__}, not reparameterised"
        yield _case(name, elbo.ONE, kind, one_z(NonreparameterizedNormal), elbo.global_elbo())
        yield _case(name, elbo.LOCAL, kind, local_z(NonreparameterizedNormal), elbo.local_elbo())
        yield _case(f"{kind.__name__}, discrete", elbo.BINARY, kind, binary(), elbo.binary_elbo())
    for alpha in (0.0, 0.5, 2.0):
        name, exact = f"RenyiELBO(alpha={alpha:g}), K = 2", elbo.renyi(alpha, 2)
        yield _case(name, elbo.ONE, RenyiELBO, one_z(dist.Normal), exact, 2, alpha=alpha)
    name = "RenyiELBO(alpha=0), K = 2, not reparameterised"
    yield _case(name, elbo.ONE, RenyiELBO, one_z(NonreparameterizedNormal), elbo.renyi(0.0, 2), 2)


def _case(
    name: str, problem: str, kind: Any, programs: Any, exact: Any, particles: int = PARTICLES, **options: Any
) -> Case:
    """Return the case of an ELBO; RenyiELBO's K particles make one sample of its bound."""

    def make() -> Any:
        estimator = kind(num_particles=particles, vectorize_particles=True, max_plate_nesting=1, **options)
        return adapter.elbo(estimator, *programs)[0], None

    renyi = kind is RenyiELBO
    samples, replicates = (1, 4 * REPLICATES) if renyi else (particles, REPLICATES)
    return Case(name, problem, make, exact, samples, replicates, options={"rng": "global", "backend": "torch"})
