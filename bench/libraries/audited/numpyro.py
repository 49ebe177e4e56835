"""NumPyro: its ELBO objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpyro
from numpyro import distributions as dist
from numpyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from gradmeter.adapters import numpyro as adapter
from gradmeter.bench.libraries import elbo
from gradmeter.bench.libraries.case import Case

PACKAGES = ("numpyro", "jax")
X = jnp.asarray(elbo.DATA)
#: Particles of an ELBO.
S = 64


class Score(dist.Normal):
    """A Normal that is not differentiated through, so that the score function is used."""

    reparametrized_params = ()


def normal(kind: Any) -> Any:
    scale = numpyro.param("scale", elbo.SCALE, constraint=dist.constraints.positive)
    return kind(numpyro.param("loc", elbo.LOC), scale)


def one_z(kind: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return model and guide with one z; `kind` is the distribution of the guide."""

    def model() -> None:
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", len(X)):
            numpyro.sample("x", dist.Normal(z, 1.0), obs=X)

    return model, lambda: numpyro.sample("z", normal(kind))


def local_z(kind: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return model and guide with a z for each row, in a subsampled plate."""

    def model() -> None:
        with numpyro.plate("data", len(X), subsample_size=elbo.BATCH):
            x = numpyro.subsample(X, event_dim=0)
            numpyro.sample("x", dist.Normal(numpyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide() -> None:
        q = normal(kind)
        with numpyro.plate("data", len(X), subsample_size=elbo.BATCH):
            numpyro.sample("z", q)

    return model, guide


def binary() -> tuple[Callable[[], None], Callable[[], None]]:
    """Return model and guide with one binary z."""

    def model() -> None:
        z = numpyro.sample("z", dist.Bernoulli(elbo.PRIOR))
        numpyro.sample("x", dist.Normal(2.0 * z - 1.0, 1.0), obs=elbo.X)

    return model, lambda: numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logit", elbo.LOGIT)))


def cases() -> Iterator[Case]:
    for kind in (Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO):
        name = f"{kind.__name__}, reparameterised"
        yield _case(name, elbo.ONE, kind(num_particles=S), one_z(dist.Normal), elbo.global_elbo(), S)
        yield _case(name, elbo.LOCAL, kind(num_particles=S), local_z(dist.Normal), elbo.local_elbo(), S)
    graph = TraceGraph_ELBO(num_particles=S)
    name = "TraceGraph_ELBO, not reparameterised"
    yield _case(name, elbo.ONE, graph, one_z(Score), elbo.global_elbo(), S)
    defect = "numpyro_tracegraph_subsample"
    yield _case(name, elbo.LOCAL, graph, local_z(Score), elbo.local_elbo(), S, defect)
    yield _case("TraceGraph_ELBO, discrete", elbo.BINARY, graph, binary(), elbo.binary_elbo(), S)
    trace = Trace_ELBO(num_particles=S)
    name = "Trace_ELBO, discrete (documented for reparameterised variables alone, but not refused)"
    yield _case(name, elbo.BINARY, trace, binary(), elbo.binary_elbo(), S, "numpyro_trace_discrete")
    for alpha in (0.0, 0.5, 2.0):
        bound = RenyiELBO(alpha=alpha, num_particles=2)
        yield _case(f"RenyiELBO(alpha={alpha:g}), K = 2", elbo.ONE, bound, one_z(dist.Normal), elbo.renyi(alpha, 2))


def _case(
    name: str, problem: str, estimator: Any, programs: Any, exact: Any, samples: int = 1, defect: str | None = None
) -> Case:
    return Case(name, problem, lambda: adapter.elbo(estimator, *programs), exact, samples, defect=defect)
