"""Injected bugs of the suite `controls`, on the bundled problems to which they apply.

The mean of a bug follows from what it is where `gradmeter list estimators` says so: leave-one-out with the sample
itself is (S − 1)/S of the gradient, E[∇f] is 0, the opposite biases are `offset` in two coordinates. Of the others,
and for every variance, one plain simulation with noise of our own says it; a bias is then what is left of the simulated
one after four standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradmeter.bench.controls import CONTROLS
from gradmeter.bench.problems import PROBLEMS
from gradmeter.estimators import FAMILIES, backends
from gradmeter.estimators.noise import DrawnNoise
from tests.adversary.cases import Blocks, difference, draw, norm
from tests.adversary.judging import Result, row_of

ESTIMATORS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("injected-self-included-baseline", {}, 2),
    ("injected-self-included-baseline", {}, 8),
    ("injected-in-sample-coefficient", {"form": "covariance"}, 8),
    ("injected-in-sample-coefficient", {"form": "ratio"}, 8),
    ("injected-differentiated-sampler", {}, 1),
    ("injected-differentiated-baseline", {}, 1),
    ("injected-naive-exchange", {}, 1),
    ("injected-redrawn-failures", {"limit": 1.0}, 1),
    ("injected-redrawn-failures", {"limit": 2.5}, 1),
    ("injected-opposite-biases", {"offset": 0.1}, 1),
    ("injected-missing-path", {}, 1),
    ("injected-squared-model-weights", {}, 1),
)


def q(family: str, **options: Any) -> Any:
    return FAMILIES[family].Config(**options)


def _problems() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the problems by a short name: the bundled name and its options."""
    normal = q("normal", loc=0.3, scale=0.8)
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "square": ("square", {"dim": 3}),
        "square-far": ("square", {"k": 1000.0, "dim": 10}),
        "square-narrow": ("square", {"k": 0.0, "q": q("normal", loc=1.0, scale=1e-4)}),
        "square-wide": ("square", {"k": 0.0, "q": q("normal", loc=1.0, scale=100.0), "dim": 2}),
        "square-100": ("square", {"k": 0.0, "q": q("normal", loc=1.0, scale=3.0), "dim": 100}),
        "exponential": ("exponential", {"q": normal}),
        "exponential-small": ("exponential", {"q": q("normal", loc=4.0, scale=0.1)}),
        "cosine": ("cosine", {"k": 1.5, "q": normal}),
        "cosine-small": ("cosine", {"k": 5.0, "q": q("normal", loc=0.2)}),
        "quartic": ("polynomial", {"degree": 4, "q": normal}),
        "quartic-small": ("polynomial", {"degree": 4, "q": q("normal", scale=1e-4)}),
        "moment": ("exponential-moment", {"t": 0.5, "q": normal}),
        "step": ("step", {"k": 0.2}),
        "absolute-value": ("absolute-value", {"k": 0.2}),
        "banana": ("banana", {}),
        "square-full-rank": ("square", {"q": q("multivariate-normal", correlation=0.5), "dim": 3}),
        "square-laplace": ("square", {"q": q("laplace"), "dim": 2}),
        "square-exponential": ("square", {"k": 3.0, "q": q("exponential", rate=2.0)}),
        "square-log-normal": ("square", {"q": q("log-normal", scale=0.3)}),
        "square-bernoulli": ("square", {"q": q("bernoulli", probability=0.3), "dim": 2}),
        "square-bernoulli-even": ("square", {"q": q("bernoulli", probability=0.5)}),
        "square-poisson": ("square", {"q": q("poisson", rate=2.0)}),
        "square-geometric": ("square", {"q": q("geometric", probability=0.6)}),
        "three-bernoullis": ("three-bernoullis", {}),
        "categorical-square": ("categorical-square", {"q": q("categorical", categories=3, tilt=1.0)}),
        "sigmoid-belief-network": ("sigmoid-belief-network", {}),
        "linear-regression": ("linear-regression", {}),
        "logistic-regression": ("logistic-regression", {}),
        "student-t-regression": ("student-t-regression", {}),
        "gamma-poisson": ("gamma-poisson", {"dim": 3}),
        "beta-bernoulli": ("beta-bernoulli", {"dim": 2}),
        "linear-gaussian-8": ("linear-gaussian", {"importance_samples": 8}),
        "linear-vae": ("linear-vae", {}),
        "linear-vae-8": ("linear-vae", {"importance_samples": 8}),
    }
    return found


def bias_of(problem: Any, estimator: Any, name: str, samples: int, gradient: Blocks) -> tuple[Blocks, Blocks]:
    """Return the bias by coordinate and the variance of one estimate, as far as either is certain."""
    backend, expectation = backends.get("numpy"), problem.expectation()
    estimator = expectation.estimated_by(estimator)
    specs = estimator.noise_specs(expectation, samples, problem.dimension)
    width = sum(int(np.prod(spec.shape)) for spec in specs.values()) + sum(block.size for block in gradient.values())
    chunk = max(64, min(2**13, 2**20 // width))
    if problem.dimension > 20 or any(word in name for word in ("regression",)):
        chunk = min(chunk, 256)
    rng, first, second, count = np.random.default_rng(11), {}, {}, 0
    bound = expectation.bind(expectation.data)
    parameters = {block: np.asarray(array, dtype=np.float64) for block, array in problem.parameters().items()}
    for _ in range(32):
        noise = {k: draw(rng, spec.kind, (chunk, *spec.shape), spec.population) for k, spec in specs.items()}
        found = estimator.estimate(backend, bound, parameters, DrawnNoise(noise, chunk), {})
        for block, array in found.items():
            flat = np.reshape(np.asarray(array, dtype=np.float64), (chunk, -1))
            first[block] = first.get(block, 0.0) + flat.sum(axis=0)
            second[block] = second.get(block, 0.0) + (flat**2).sum(axis=0)
        count += chunk
    mean = {block: array / count for block, array in first.items()}
    variance = {block: np.maximum(second[block] / count - mean[block] ** 2, 0.0) for block in mean}
    flat_gradient = {block: np.ravel(array) for block, array in gradient.items()}
    alone = set(gradient) == set(problem.family.blocks)  # no parameters of a model beside those of q
    if name == "injected-self-included-baseline" and alone:
        return {block: -array / samples for block, array in flat_gradient.items()}, variance
    if name == "injected-naive-exchange" and alone:
        return {block: -array for block, array in flat_gradient.items()}, variance
    gap = difference(mean, flat_gradient)
    for block, array in gap.items():
        array *= np.maximum(0.0, 1.0 - 4.0 * np.sqrt(variance[block] / count) / np.maximum(np.abs(array), 1e-300))
        array[np.abs(array) < 1e-6 * norm(flat_gradient)] = 0.0
    return gap, variance


def judge(
    label: str, name: str, options: dict[str, Any], samples: int, backend: str, dtype: str, cap: int
) -> Result | None:
    """Measure one bug on one problem; None where it does not apply."""
    title, settings = _problems()[label]
    problem, estimator = PROBLEMS[title](**settings), CONTROLS[name](**options)
    row = row_of(problem, estimator, backend, samples=samples, dtype=dtype, max_replicates=cap)
    if row["status"] == "n/a":
        return None
    shown = f"{name.removeprefix('planted-')}-{samples} {label}"
    where = f"{backend}/{'f32' if dtype == 'float32' else 'f64'}"
    verdict = str(row["verdict"]) if row["status"] == "ok" else str(row["status"])
    if row["status"] not in ("ok", "nonfinite"):
        return Result("control", shown, where, verdict, None, None, False, str(row["reason"])[:90])
    exact = problem.exact()
    if exact is None:
        return None
    bound = row.get("bias_bound")
    try:
        with np.errstate(all="ignore"):
            bias, variance = bias_of(problem, estimator, name, samples, exact.gradient)
        finite = all(bool(np.all(np.isfinite(variance[block]))) for block in variance)
        note = "" if finite else "its estimates are not finite"
    except Exception as error:
        finite, note = False, f"no simulation: {type(error).__name__}"
    if row["status"] == "nonfinite":
        return Result("control", shown, where, verdict, None, None, not finite, note or str(row["reason"])[:90])
    if not finite:
        # Its bias is not known here; the suite promises that it comes out `biased`, and it must not be certified.
        caught = verdict == "biased"
        return Result("control", shown, where, verdict, bound, None, verdict != "unbiased", note, True, caught)
    size = norm(exact.gradient)
    truth = norm(bias) / size
    half = cap / 2
    clear = truth > 0.02 and any(
        bool(np.any(np.abs(bias[block]) > 5.5 * np.sqrt(variance[block] / half) + 1e-9 * size)) for block in bias
    )
    if row["bias_scale"] == "deviation":
        truth = norm(bias) / math.sqrt(row["variance"])
    below = bound is None or bound < truth * (1.0 - 1e-6)
    if verdict == "unbiased" and below:
        return Result("control", shown, where, verdict, bound, truth, False, "bound below the bias", clear, False)
    if clear and verdict != "biased":
        return Result("control", shown, where, verdict, bound, truth, False, "not found", clear, False)
    note = "bound below the bias" if below else ""
    return Result("control", shown, where, verdict, bound, truth, True, note, clear, verdict == "biased", below)


def run(cap: int, limit: int | None = None, backend_names: list[str] | None = None) -> Iterator[Result]:
    """Yield every bug on every problem to which it applies, in both precisions, on each backend in turn."""
    done, turn = 0, 0
    chosen = backend_names or ["numpy"]
    for label in _problems():
        for name, options, samples in ESTIMATORS:
            for dtype in ("float64", "float32"):
                # NumPy runs all; every seventh cell also runs on one other framework.
                turn += 1
                others = [backend for backend in chosen if backend != "numpy"]
                here = [backend for backend in chosen if backend == "numpy"]
                if others and turn % 7 == 0:
                    here.append(others[(turn // 7) % len(others)])
                for backend in here:
                    result = judge(label, name, options, samples, backend, dtype, cap)
                    if result is None:
                        continue
                    yield result
                    done += 1
                    if limit is not None and done >= limit:
                        return
