"""Storchastic: costs of a stochastic node, whose `backward` leaves the average gradient of n samples in `.grad`."""

import storch
import torch

PACKAGES = ("storchastic", "torch")


def prepare(task):
    f = task.integrand(torch.from_numpy, torch.nn.functional.softplus)
    loc = torch.from_numpy(task.loc).clone().requires_grad_()
    log_scale = torch.from_numpy(task.log_scale).clone().requires_grad_()

    def method(samples):
        if task.estimator == "pathwise":
            return storch.method.Reparameterization("z", n_samples=samples)
        baseline = {"none": "none", "leave-one-out": "batch_average"}[task.options["baseline"]]
        return storch.method.ScoreFunction("z", n_samples=samples, baseline_factory=baseline)

    def gradient(samples):
        loc.grad = log_scale.grad = None
        q = torch.distributions.Independent(torch.distributions.Normal(loc, log_scale.exp()), 1)
        z = method(samples)(q)
        storch.add_cost(f(z) - q.log_prob(z) if task.elbo else f(z), "f")
        storch.backward()
        return loc.grad, log_scale.grad

    def batch(samples):
        return lambda: gradient(samples)

    def estimates(seed, replicates):
        torch.manual_seed(seed)
        found = [gradient(task.num_samples) for _ in range(replicates)]
        return {name: torch.stack([g[i] for g in found]) for i, name in enumerate(("loc", "log_scale"))}

    return batch, estimates
