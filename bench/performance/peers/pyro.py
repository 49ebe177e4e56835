"""Pyro: `Trace_ELBO`, with one particle at a time in a loop, or an average over many in one vectorised plate.

A test function f enters as a factor of the model, whose prior is the guide itself, so that the ELBO reduces to f.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from pyro.infer import Trace_ELBO

PACKAGES = ("pyro-ppl", "torch")


def prepare(task):
    f = task.integrand(torch.from_numpy, torch.nn.functional.softplus)
    pathwise = {"pathwise": True, "score-function": False}[task.estimator]
    pyro.clear_param_store()
    loc = pyro.param("loc", torch.from_numpy(task.loc).clone())
    log_scale = pyro.param("log_scale", torch.from_numpy(task.log_scale).clone())

    def guide():
        normal = dist.Normal if pathwise else NonreparameterizedNormal
        return pyro.sample("z", normal(pyro.param("loc"), pyro.param("log_scale").exp()).to_event(1))

    def test_function():
        loc, scale = pyro.param("loc"), pyro.param("log_scale").exp()
        if not pathwise:  # a prior that depends on λ would add its own score
            loc, scale = loc.detach(), scale.detach()
        pyro.factor("f", f(pyro.sample("z", dist.Normal(loc, scale).to_event(1))))

    design, response = (torch.from_numpy(task.data[n]) for n in ("design", "response")) if task.elbo else (None, None)

    def regression():
        z = pyro.sample("z", dist.Normal(torch.zeros(len(task.loc)), 1.0).to_event(1))
        pyro.sample("y", dist.Bernoulli(logits=z @ design.T).to_event(1), obs=response)

    model = regression if task.elbo else test_function

    def gradient(elbo):
        loc.grad = log_scale.grad = None
        elbo.loss_and_grads(model, guide)
        return -loc.grad, -log_scale.grad

    def several(samples):
        """Return a function that averages this many gradient samples."""
        if task.settings["particles"] == "plate":
            elbo = Trace_ELBO(num_particles=samples, vectorize_particles=samples > 1, max_plate_nesting=0)
            return lambda: gradient(elbo)
        elbo = Trace_ELBO(num_particles=1)

        def loop():
            found = [gradient(elbo) for _ in range(samples)]
            return sum(g[0] for g in found) / samples, sum(g[1] for g in found) / samples

        return loop

    def estimates(seed, replicates):
        pyro.set_rng_seed(seed)
        one = several(task.num_samples)
        found = [one() for _ in range(replicates)]
        return {name: torch.stack([g[i] for g in found]) for i, name in enumerate(("loc", "log_scale"))}

    return several, estimates
