"""Linear VAE: probabilistic PCA with a linear encoder; the ELBO and its gradient are in closed form.

    z_n ~ N(0, I),  x_n ~ N(z_n W + b, σ² I);     q(z_n | x_n) = N(loc_n, diag scale_n²), loc_n and log scale_n affine
    in x_n

At the maximum of the likelihood, W holds the principal axes of largest variance, each of length √(variance − σ²), and
σ² is the mean of the other variances (Tipping & Bishop 1999). The rows of W [L, P] are orthogonal there, so the
posterior is mean-field and linear in x_n: the encoder can equal it, and then the ELBO is the marginal likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Vectors, oriented
from gradmeter.bench.problems.options import batch_option, differentiate_option, entropy_option
from gradmeter.bench.problems.problem import LOG_2PI, Exact
from gradmeter.bench.problems.vae import inputs
from gradmeter.bench.problems.vae.autoencoder import Autoencoder, importance_samples
from gradmeter.bench.problems.vae.coding import divergence
from gradmeter.bench.problems.vae.quadrature import exact_by_quadrature
from gradmeter.estimators import UsageError
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class LinearVae(Autoencoder):
    """ELBO of a linear autoencoder; θ includes `decoder.log_scale`, the log of σ."""

    name: ClassVar[str] = "linear-vae"
    summary: ClassVar[str] = "ELBO of a linear autoencoder (probabilistic PCA), both networks' gradients in closed form"

    dataset: str = option("iris", "iris, wine or digits, standardised, or an .npy or .csv file of points")
    size: int = option(
        None, "rows fitted, the first; up to 300 after them are test data (all if absent)", minimum=1, optional=True
    )
    latent: int = option(2, "coordinates of z", minimum=1, maximum=1000)
    at: str = option(
        "halfway",
        "both networks: random weights, the maximum of the likelihood with its posterior, or half way",
        choices=("initial", "halfway", "optimum"),
    )
    batch: int | None = batch_option()
    kl: str = entropy_option("how KL(q(z | x) ‖ p(z)) enters")
    importance_samples: int = importance_samples()
    differentiate: str = differentiate_option()

    hidden_sizes = ()
    likelihood = "gaussian"

    def check(self) -> None:
        inputs.check(self.dataset, inputs.BUNDLED, f"problem {self.name}")
        super().check()
        if self.latent >= self.columns:
            raise UsageError(
                f"problem {self.name}: latent is {self.latent}; it must be less than the {self.columns} columns of "
                f"{self.dataset}"
            )
        if self.at != "initial" and self.rows <= self.latent + 1:
            raise UsageError(
                f"problem {self.name}: size is {self.rows}; {self.latent} principal axes and what is left need at "
                f"least {self.latent + 2} rows (or at=initial)"
            )

    def all_inputs(self) -> np.ndarray:
        """Return all rows, standardised by the fitted rows, so that no information of the test rows enters."""
        return inputs.standardised(self.dataset, self.rows)

    def parameters(self) -> Vectors:
        share = {"initial": 0.0, "halfway": 0.5, "optimum": 1.0}[self.at]
        start = self.initial()
        if not share:
            return start
        end = self.optimum()
        return {name: (1.0 - share) * start[name] + share * end[name] for name in start}

    def optimum(self) -> Vectors:
        """Return the maximum-likelihood θ, with the encoder equal to the posterior."""
        x = self.inputs()
        mean = x.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(x.T, bias=True))
        variances, axes = variances[::-1], axes[:, ::-1]
        noise = float(variances[self.latent :].mean())
        if noise <= 0.0:
            raise UsageError(
                f"problem {self.name}: {self.latent} principal axes hold all of the variance; use fewer, or at=initial"
            )
        kept = variances[: self.latent]
        weight = (oriented(axes[:, : self.latent].T).T * np.sqrt(kept - noise)).T  # [L, P]
        inference = weight.T / kept  # (WᵀW + σ² I)⁻¹ is diagonal
        nothing = np.zeros_like(inference)
        return {
            "encoder.0.weight": np.concatenate([inference, nothing], axis=1),
            "encoder.0.bias": np.concatenate([-mean @ inference, 0.5 * np.log(noise / kept)]),
            "decoder.0.weight": weight,
            "decoder.0.bias": mean,
            "decoder.log_scale": np.asarray([0.5 * math.log(noise)]),
        }

    def evidence(self, parameters: Vectors) -> float:
        """Return Σ_n log N(x_n | b, Wᵀ W + σ² I) at any θ."""
        away = self.inputs() - parameters["decoder.0.bias"]
        weight, variance = parameters["decoder.0.weight"], np.exp(2.0 * parameters["decoder.log_scale"])
        covariance = weight.T @ weight + variance * np.eye(self.columns)
        _, log_determinant = np.linalg.slogdet(covariance)
        fit = float(np.sum(away * np.linalg.solve(covariance, away.T).T))
        return -0.5 * (fit + len(away) * (log_determinant + self.columns * LOG_2PI))

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values: closed form for the ELBO, quadrature for bounds.

        log p(x | z) is quadratic in z, so that it depends on q only through loc_n and scale_n².
        """
        if self.importance_samples > 1:
            return exact_by_quadrature(replace(self, batch=None, differentiate="closed-form"), parameters)
        x, encoder = self.inputs(), self.encoder
        data = {"inputs": x, **parameters}
        local = {name: values[0] for name, values in encoder.apply(np, data, None).items()}
        loc, variance, weight = local["loc"], np.exp(2.0 * local["log_scale"]), parameters["decoder.0.weight"]
        precision = float(np.exp(-2.0 * parameters["decoder.log_scale"])[0])
        away = x - loc @ weight - parameters["decoder.0.bias"]
        square = np.sum(away * away) + np.sum(variance @ (weight * weight))
        prior = encoder.exact_gradient(np, local)
        slopes = {
            "loc": precision * away @ weight.T + prior["loc"],
            "log_scale": -precision * variance * np.sum(weight * weight, axis=1) + prior["log_scale"],
        }
        phi = encoder.pullback(np, data, None, {name: slope[None] for name, slope in slopes.items()})
        theta = {
            "decoder.0.weight": precision * (loc.T @ away - variance.sum(axis=0)[:, None] * weight),
            "decoder.0.bias": precision * away.sum(axis=0),
            "decoder.log_scale": np.asarray([precision * square - x.size]),
        }
        objective = -0.5 * precision * square - x.size * (float(parameters["decoder.log_scale"][0]) + 0.5 * LOG_2PI)
        if self.kl == "sampled":
            objective -= divergence(np, local).sum()
        return Exact({**{name: g[0] for name, g in phi.items()}, **theta}, "closed-form", float(objective))
