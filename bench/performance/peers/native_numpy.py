"""A hand-written loop in NumPy for these integrands alone: closed forms, SFC64, mean and variance, nothing else."""

import numpy as np

PACKAGES = ("numpy",)


def prepare(task):
    scale = np.exp(task.log_scale)

    def slope(z):
        """Return ∇f."""
        if not task.elbo:
            return 2.0 * (z - task.data["k"])
        predictor = z @ task.data["design"].T
        return (task.data["response"] - 1.0 / (1.0 + np.exp(-predictor))) @ task.data["design"] - z

    def gradients(noise):
        z = task.loc + scale * noise
        if task.estimator == "pathwise":
            found = slope(z)
            return found, found * (scale * noise) + task.elbo
        value = ((z - task.data["k"]) ** 2).sum(-1, keepdims=True)
        return value * (noise / scale), value * (noise * noise - 1.0)

    def batch(samples):
        generator, noise = np.random.Generator(np.random.SFC64(0)), np.empty((samples, len(task.loc)), np.float32)

        def call():
            generator.standard_normal(dtype=np.float32, out=noise)
            return [(g.mean(0), np.einsum("nd,nd->d", g, g) / samples) for g in gradients(noise)]

        return call

    def estimates(seed, replicates):
        generator = np.random.Generator(np.random.SFC64(seed))
        noise = generator.standard_normal((replicates * task.num_samples, len(task.loc)), dtype=np.float32)
        means = [g.reshape(replicates, task.num_samples, -1).mean(1) for g in gradients(noise)]
        return dict(zip(("loc", "log_scale"), means, strict=True))

    return batch, estimates
