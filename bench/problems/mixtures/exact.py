"""Exact ELBO of the Bayesian mixture and its gradient: closed form if z is averaged over q(z), else by quadrature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Vectors, log_softmax
from gradmeter.bench.problems.mixtures import gaussian
from gradmeter.bench.problems.problem import LOG_2PI, Exact, exact_elbo
from gradmeter.estimators import Expectation
from gradmeter.estimators.backends import get


def expected_log_joint(given: Vectors, own: Vectors) -> np.ndarray:
    """Return E_{q(μ)} log π_k N(x_i | μ_k, σ² I) [N, K].

    Parameters
    ----------
    given : {name: array}
        points [N, P], log_sigma [1] and weight_logits [K].
    own : {block: array}
        loc and log_scale [K P].
    """
    dimension = given["points"].shape[1]
    means, spread = (a.reshape(-1, dimension) for a in (own["loc"], np.exp(own["log_scale"])))
    away = ((given["points"][:, None, :] - means) ** 2).sum(axis=2) + (spread**2).sum(axis=1)
    constant = log_softmax(np, given["weight_logits"]) - dimension * (given["log_sigma"] + 0.5 * LOG_2PI)
    return np.asarray(constant - 0.5 * np.exp(-2.0 * given["log_sigma"]) * away)


def closed_form(bound: Expectation, own: Vectors, entropy: str) -> Exact:
    """Return the exact values with z averaged over q(z).

    q(z) is optimal or, if `own` has its logits, as given. f is then a quadratic in μ, Σ_j (b_j μ_j − a_j μ_j²/2) plus a
    constant.
    """
    given = bound.data
    points = given["points"]
    size, dimension = points.shape
    loc, scale = own["loc"], np.exp(own["log_scale"])
    means, spread = loc.reshape(-1, dimension), scale.reshape(-1, dimension)
    tau, sigma = math.exp(given["log_tau"][0]), math.exp(given["log_sigma"][0])
    log_weights = log_softmax(np, given["weight_logits"])
    if "logits" in own:
        log_q = log_softmax(np, own["logits"])
        q = np.exp(log_q)
        gain = expected_log_joint(given, own) - log_q
        inner = (q * gain).sum(axis=1, keepdims=True)
        away = points[:, None, :] - means
        first, second = (np.einsum("nk,nkp->kp", q, power) for power in (away, away**2))
        found = gaussian.Pass(q.sum(axis=0), first, second, float(inner.sum()))
    else:
        extra = 0.5 * (spread**2).sum(axis=1) / sigma**2
        found = gaussian.expect(points, means, np.full_like(means, sigma), log_weights - extra)
    slope = (found.first / sigma**2 - means / tau**2).ravel()
    curvature = (found.count[:, None] / sigma**2 + np.full_like(means, tau**-2)).ravel()
    prior = -0.5 * ((loc**2 + scale**2) / tau**2 + math.log(2.0 * math.pi * tau**2)).sum()
    numbers = np.log(scale).sum() + 0.5 * len(loc) * (1.0 + LOG_2PI)
    hermite = {
        0: found.log_likelihood + prior + numbers,
        1: scale * slope,
        2: 1.0 - scale**2 * curvature,
        4: np.zeros_like(loc),
    }
    exact = exact_elbo(entropy, scale, hermite, "closed-form")
    gradient, objective, baseline = dict(exact.gradient), exact.objective, exact.optimal_baseline
    if "logits" in own:
        gradient["logits"] = q * (gain - inner)
        baseline = None  # the baselines of loc and log_scale alone would be incomplete
        if entropy == "analytic" and objective is not None:
            objective += float((q * log_q).sum())
    if bound.model_blocks:
        squared = found.second.sum() + (found.count[:, None] * spread**2).sum()
        gradient["log_tau"] = np.asarray([((loc**2 + scale**2) / tau**2).sum() - len(loc)])
        gradient["log_sigma"] = np.asarray([squared / sigma**2 - size * dimension])
        gradient["weight_logits"] = found.count - size * np.exp(log_weights)
    return Exact(gradient, exact.source, objective, baseline)


def by_quadrature(bound: Expectation, own: Vectors, entropy: str) -> Exact:
    """Return the exact values with z summed out, by the trapezoidal rule in ε on a grid with one axis per coordinate.

    At complex ε, the log-sum-exp has no singularity nearer than where two log joints differ by iπ, at a distance of
    about πσ²/(scale |x − μ|), which determines the step. Where |x − μ| is larger than two standard deviations allow
    for, the loss of accuracy is outweighed by the smaller density.
    """
    backend = get("numpy")
    loc, scale = own["loc"], np.exp(own["log_scale"])
    reach = np.abs(bound.data["points"]).max() + np.abs(loc).max() + 2.0 * scale.max()
    pole = math.pi * math.exp(2.0 * bound.data["log_sigma"][0]) / (scale.max() * reach)
    step = min(0.3, 2.0 * math.pi * pole / 34.0)
    nodes = np.arange(-math.ceil(9.5 / step), math.ceil(9.5 / step) + 1) * step
    axes = np.meshgrid(*[nodes] * len(loc), indexing="ij")
    base = np.stack([axis.ravel() for axis in axes], axis=1)
    weights = np.exp(-0.5 * (base**2).sum(axis=1))
    keep = weights > 1e-18 * weights.max()
    base, weights = base[keep], weights[keep] / weights[keep].sum()
    hermite: dict[int, Any] = {n: np.zeros_like(loc) for n in (1, 2, 4)} | {0: 0.0}
    model = {name: np.zeros_like(bound.data[name]) for name in bound.model_blocks}
    chunk = max(1, 2**16 // len(bound.data["points"]))
    for start in range(0, len(base), chunk):
        e, w = base[start : start + chunk], weights[start : start + chunk]
        z = (loc + scale * e)[:, None]
        f = bound.integrand.value(backend.xp, bound.data, z, {})[:, 0]
        f = w * (f + (0.5 * e * e + np.log(scale) + 0.5 * LOG_2PI).sum(axis=1))
        hermite[0] += f.sum()
        hermite[1] += f @ e
        hermite[2] += f @ (e**2 - 1.0)
        hermite[4] += f @ (e**4 - 6.0 * e**2 + 3.0)
        if model:
            for name, slope in bound.integrand.model_pullback(backend.xp, bound.data, z, w[:, None], {}).items():
                model[name] += slope.sum(axis=0)
    exact = exact_elbo(entropy, scale, hermite, "quadrature")
    return Exact({**exact.gradient, **model}, exact.source, exact.objective, exact.optimal_baseline)
