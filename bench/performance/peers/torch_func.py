"""Plain PyTorch: `torch.func.vmap(grad(...))` of the objective of one sample, eager, with all noise drawn at once."""

import torch
from torch.func import grad, vmap

PACKAGES = ("torch",)


def prepare(task):
    f = task.integrand(torch.from_numpy, torch.nn.functional.softplus)
    parameters = {"loc": torch.from_numpy(task.loc), "log_scale": torch.from_numpy(task.log_scale)}

    def sample(parameters, noise):
        return parameters["loc"] + torch.exp(parameters["log_scale"]) * noise

    def log_q(parameters, z):
        return torch.distributions.Normal(parameters["loc"], parameters["log_scale"].exp(), False).log_prob(z).sum()

    def pathwise(parameters, noise):
        z = sample(parameters, noise)
        return f(z) - log_q(parameters, z) if task.elbo else f(z)

    def score_function(parameters, noise):
        z = sample(parameters, noise).detach()
        return f(z).detach() * log_q(parameters, z)

    objective = {"pathwise": pathwise, "score-function": score_function}[task.estimator]
    each = vmap(grad(objective), in_dims=(None, 0))

    def gradients(samples):
        return each(parameters, torch.randn(samples, len(task.loc)))

    def batch(samples):
        return lambda: {name: g.mean(0) for name, g in gradients(samples).items()}

    def estimates(seed, replicates):
        torch.manual_seed(seed)
        found = gradients(replicates * task.num_samples)
        return {name: g.reshape(replicates, task.num_samples, -1).mean(1) for name, g in found.items()}

    return batch, estimates
