"""The faults that were seen, one function each: what was measured, and the right answer."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special, stats

import gradmeter
from gradmeter import estimators
from gradmeter.bench.problems import Exact, Problem
from gradmeter.estimators import Estimator, Integrand, Noise, Normal, Requires
from gradmeter.estimators.backends.backend import Backend
from tests.adversary.cases import Blocks
from tests.adversary.judging import Result, row_of

Answer = tuple[bool, dict[str, Any], str]
FAULTS: dict[str, Callable[[], Answer]] = {}


def fault(name: str) -> Callable[[Callable[[], Answer]], Callable[[], Answer]]:
    """Register a fault: a function that returns whether the answer is right, the row, and what it should say."""

    def register(function: Callable[[], Answer]) -> Callable[[], Answer]:
        assert name not in FAULTS
        FAULTS[name] = function
        return function

    return register


def judge(name: str) -> Result:
    right, row, wanted = FAULTS[name]()
    said = str(row.get("verdict")) if row.get("status") == "ok" else str(row.get("status"))
    note = "" if right else f"wanted {wanted}"
    if not right and row.get("reason"):
        note += f"; said: {str(row['reason'])[:100]}"
    return Result("fault", name, str(row.get("backend") or ""), said, row.get("bias_bound"), None, right, note)


def run(limit: int | None = None) -> Iterator[Result]:
    for name in list(FAULTS)[:limit]:
        yield judge(name)


def refused(row: dict[str, Any], *words: str) -> bool:
    """Return whether a row is refused with a reason of one line that is more than an exception's bare argument."""
    reason = str(row.get("reason") or "")
    bare = "Error: '" in reason or reason.startswith("KeyError") or len(reason) < 20 or "\n" in reason.strip()
    return row["status"] == "exception" and not bare and all(word in reason for word in words)


def never_biased(name: str, problem: str, estimator: str, **options: Any) -> None:
    """Register a correct cell of the catalogue."""

    @fault(name)
    def answer() -> Answer:
        row = row_of(problem, estimator, **options)
        return row["status"] == "ok" and row["verdict"] in ("unbiased", "inconclusive"), row, "ok, not biased"


# A1: certificates by integration that sampling contradicts.


def _coin(threshold: float, size: float) -> Estimator:
    @dataclass(frozen=True)
    class Drop(Estimator):
        name = "drop"
        summary = "estimates are lost"
        requires = Requires(("score", "score_identity"))
        weight: float = size

        def noise_specs(self, e: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
            return {**super().noise_specs(e, num_samples, dimension), "coin": Noise("uniform", ())}

        def estimate_integrand(self, b: Any, e: Any, p: Any, noise: Any, state: Any) -> Blocks:
            z = e.family.sample(b, p, noise)
            w = self.weight * b.xp.astype(noise["coin"] > threshold, z.dtype)[:, None] * e.value(b, p, z, noise)
            return {k: b.xp.mean(w[..., None] * s, axis=1) for k, s in e.family.score(b, p, z).items()}

    return Drop()


BERNOULLI = "square[family=bernoulli,probability=0.3]"
for backend in ("numpy", "torch", "jax"):

    def _a1_lost(backend: str = backend) -> Answer:
        row = row_of(BERNOULLI, _coin(0.1, 1.0), backend)
        return row["verdict"] == "biased" and row["bias_bound"] >= 0.1, row, "biased, bound at least 0.1"

    def _a1_weighted(backend: str = backend) -> Answer:
        row = row_of(BERNOULLI, _coin(0.5, 2.0), backend)
        return row["status"] == "ok" and row["verdict"] != "biased", row, "not biased"

    fault(f"A1-coin-lost-{backend}")(_a1_lost)
    fault(f"A1-coin-of-weight-2-{backend}")(_a1_weighted)

# A2: the integration's own error taken for a bias.

for text in (
    "polynomial[degree=4]",
    "polynomial[degree=6]",
    "polynomial[family=exponential,degree=3]",
    "polynomial[family=exponential,degree=4]",
    "polynomial[family=weibull,degree=3]",
    "polynomial[family=gumbel,degree=3]",
    "polynomial[family=logistic,degree=4]",
):
    never_biased(f"A2-stratified-{text}", text, "score-function[draws=stratified]")

# A3: means that rest on events that no replicate met.

for seed in range(6):
    never_biased(
        f"A3-poisson-leave-one-out-{seed}", "poisson-regression", "score-function[baseline=leave-one-out]", seed=seed
    )
for seed in range(2):
    never_biased(f"A3-poisson-1.2-{seed}", "poisson-regression[scale=1.2]", "pathwise", seed=seed)
for seed in range(3):
    never_biased(f"A3-moment-6-{seed}", "exponential-moment[t=6,dim=4]", "measure-valued", seed=seed)
    never_biased(f"A3-mixture-10-{seed}", "square[family=mixture-of-normals,distance=10,dim=2]", "pathwise", seed=seed)
    for estimator in ("pathwise", "score-function"):
        never_biased(
            f"A3-log-normal-2.5-{estimator}-{seed}",
            "square[family=log-normal,scale=2.5,dim=4]",
            estimator,
            seed=seed,
        )
# The baseline is f but where z < 0.4, once in 86,000 draws: what is met varies by little, and says 0.
never_biased(
    "A3-baseline-but-at-a-rare-event",
    "step[k=0.4,family=chi-squared,degrees=9,dim=1]",
    "score-function[baseline=mean]",
    seed=289073,
    max_replicates=2**14,
)
# Odd functions of mirrored noise cancel but for a constant of the size of rounding, which is no control.
for samples in (4, 10):
    never_biased(
        f"A4-cancelled-control-{samples}", "sigmoid-belief-network", "disarm", samples=samples, dtype="float32"
    )
for seed in (8, 75):  # of a symmetric q nothing is left of a model's average
    of_samples = {"samples": 4, "dtype": "float32"}
    never_biased(f"A4-cancelled-model-{seed}", "three-bernoullis", "arm", seed=seed, max_replicates=2**17, **of_samples)


@dataclass(frozen=True)
class Windfall(estimators.Pathwise):
    """Pathwise, and where g lies in a window of probability 1e-4, 300 ‖g‖ more: 3 % of the gradient."""

    name = "windfall"
    summary = "pathwise with a rare addition"
    low: float = 0.0
    high: float = 0.0

    def estimate_integrand(self, b: Any, e: Any, p: Any, noise: Any, state: Any) -> Blocks:
        found = super().estimate_integrand(b, e, p, noise, state)
        z = e.family.sample(b, p, noise)[:, 0, :1]
        more = 300.0 * math.sqrt(2.0 * (15.0**2 + 18.0**2)) * np.array([1.0, 0.0])
        return {**found, "log_rate": found["log_rate"] + more * ((z > self.low) & (z < self.high))}


for seed, ends in ((91, (1.0 - 1e-4, 1.0)), (93, (0.5, 0.5001)), (216, (0.5, 0.5001))):

    def _windfall(seed: int = seed, ends: tuple[float, float] = ends) -> Answer:
        """Met by plain replicates after those relieved of controls were judged, which had not met it."""
        low, high = stats.gamma(3.0).ppf(ends)
        problem = "square[family=gamma,concentration=3,dim=2]"
        row = row_of(problem, Windfall(low=low, high=high), seed=seed, max_replicates=2**17)
        below = row["bias_bound"] is not None and row["bias_bound"] < 0.03
        return row["status"] == "ok" and not below, row, "no bound below 0.03"

    fault(f"A3-met-after-the-verdict-{seed}")(_windfall)


@fault("A3-poisson-4-pathwise")
def _poisson_far() -> Answer:
    row = row_of("poisson-regression[scale=4]", "pathwise")
    right = row["status"] == "ok" and row["verdict"] != "biased" and row["variance_flag"] != "ok"
    return right, row, "not biased, and no flag ok"


# A4: small gradients, and rounding.

#: ‖g‖ over the deviation of an estimate that may be called rounding; larger gradients are what a bias is compared with.
WITHIN_ROUNDING = {"float64": 1e-13, "float32": 1e-5}


def _not_certified(problem: str, estimator: Any, truth: float, **options: Any) -> Answer:
    """Right where no bound is below the true bias, in the row's own units: a gradient within rounding has none."""
    row = row_of(problem, estimator, **options)
    if row.get("bias_scale") == "deviation" and row["variance"]:
        share = row["exact_norm"] / math.sqrt(row["variance"])
        truth *= share if share < WITHIN_ROUNDING[options.get("dtype", "float64")] else math.nan
    below = row.get("bias_bound") is not None and not row["bias_bound"] >= truth * (1.0 - 1e-6)
    return row["status"] == "ok" and not below, row, f"no bound below {truth:g}"


def scaled_pathwise(size: float) -> Estimator:
    """A subclass of the catalogue's estimator, which inherits what that declares."""

    @dataclass(frozen=True)
    class Scaled(estimators.Pathwise):
        name = f"scaled-pathwise-{size:g}"
        summary = "pathwise times a factor"

        def estimate_integrand(self, b: Any, e: Any, p: Any, noise: Any, state: Any) -> Blocks:
            found = super().estimate_integrand(b, e, p, noise, state)
            return {name: size * block for name, block in found.items()}

    return Scaled()


fault("A4-naive-cosine-9")(lambda: _not_certified("cosine[k=9]", "injected-naive-exchange", 1.0))
fault("A4-naive-cosine-5-float32")(
    lambda: _not_certified("cosine[k=5]", "injected-naive-exchange", 1.0, dtype="float32")
)
fault("A4-own-baseline-float32")(
    lambda: _not_certified("square[k=1000,dim=10]", "injected-self-included-baseline", 0.5, samples=2, dtype="float32")
)
for text, dtype in (
    ("exponential[k=1,loc=4,scale=0.1]", "float32"),
    ("exponential[k=1,loc=4,scale=0.1]", "float64"),
    ("polynomial[degree=4,scale=0.0001]", "float64"),
    ("polynomial[degree=4,scale=0.0001]", "float32"),
    ("polynomial[degree=4,scale=0.01]", "float32"),
    ("square[k=0,scale=0.00001]", "float64"),
    ("cosine[k=7]", "float64"),
    ("cosine[k=6,scale=0.9]", "float32"),
):
    for size in (0.0, 0.5, 2.0, -1.0):

        def _a4(text: str = text, dtype: str = dtype, size: float = size) -> Answer:
            return _not_certified(text, scaled_pathwise(size), abs(1.0 - size), dtype=dtype)

        fault(f"A4-factor-{size:g}-{text}-{dtype}")(_a4)


#: Estimates that are 0 in every draw, where the gradient rests on events that no draw meets or is rounding itself.
NEVER_MET = (
    ("step[k=0.4,family=normal,loc=0.1,scale=0.01,dim=6]", "score-function[baseline=optimal]", 1),
    ("step[k=0.4,family=normal,loc=0.1,scale=0.01,dim=6]", "measure-valued[coupling=false]", 10),
    ("step[k=0.4,family=gamma,concentration=20,rate=4,dim=6]", "rao-blackwell[baseline=leave-one-out]", 2),
    ("step[k=0.4,family=gamma,concentration=20,rate=4,dim=1]", "score-function[baseline=optimal]", 10),
    ("step[k=0.4,family=gamma,concentration=20,rate=4,dim=1]", "score-function[baseline=cross-fitted]", 10),
    ("exponential[k=0.7,family=categorical,categories=4,tilt=2,dim=24]", "score-function[baseline=cross-fitted]", 2),
)

for problem, estimator, samples in NEVER_MET:

    def _never_met(problem: str = problem, estimator: str = estimator, samples: int = samples) -> Answer:
        row = row_of(problem, estimator, samples=samples, max_replicates=2**14)
        return row["status"] == "ok" and row["verdict"] == "inconclusive", row, "inconclusive: below rounding"

    fault(f"A4-never-met-{problem.split('[')[0]}-{estimator}-{samples}")(_never_met)


@fault("A4-integral-off-by-rounding")
def _by_rounding() -> Answer:
    estimator = "rao-blackwell[baseline=leave-one-out]"
    row = row_of("exponential-moment[t=-2,family=bernoulli,dim=2]", estimator, samples=10, max_replicates=2**14)
    return row["verdict"] == "unbiased", row, "unbiased: the integral is off by 1.1 times its rounding"


@fault("A4-sticking-the-landing-at-the-optimum")
def _at_optimum() -> Answer:
    row = row_of("linear-regression[family=multivariate-normal,at=fitted]", "pathwise[sticking-the-landing=true]")
    return row["status"] == "ok" and row["verdict"] == "inconclusive", row, "inconclusive: below rounding"


# A5, A6: the bound is for the vector; the bias that is printed is not noise.

WIDE = "square[dim=1000,loc=1,k=0,scale=3]"
for size in (0.99, 0.95):

    def _a5(size: float = size) -> Answer:
        row = row_of(WIDE, scaled_pathwise(size))
        right = row["status"] == "ok" and (row["bias_bound"] or 0.0) >= (1.0 - size) * (1.0 - 1e-6)
        return right, row, f"a bound of at least {1.0 - size:.2f}"

    fault(f"A5-pathwise-{size}")(_a5)

for cap in (2**20, 2**16, 2**12):

    def _a6(cap: int = cap) -> Answer:
        """Two coordinates are off by 2 and −2: of 1,000 derivatives 2 and 1,000 derivatives 18."""
        truth = 2.0 * math.sqrt(2.0) / math.sqrt(1000.0 * (2.0**2 + 18.0**2))
        row = row_of(WIDE, "injected-opposite-biases[offset=2]", max_replicates=cap)
        low, high = row.get("bias_low"), row.get("bias_high")
        right = low is not None and low <= truth <= high and row["bias_bound"] >= truth
        return right, row, f"an interval of the bias around {truth:.4f}, and a bound above it"

    fault(f"A6-opposite-biases-{cap}")(_a6)

# B1: shapes, blocks, types.


def _mine(change: str) -> Estimator:
    """README's leave-one-out, with one thing wrong in what it returns."""

    @dataclass(frozen=True)
    class Mine(Estimator):
        name = f"mine-{change}"
        summary = "score function, less the mean of f"
        requires = Requires(("score", "score_identity"))

        def estimate_integrand(self, b: Any, e: Any, p: Any, noise: Any, state: Any) -> Blocks:
            xp, q = b.xp, e.family
            z = q.sample(b, p, noise)
            f = e.value(b, p, z, noise)
            f = f - xp.mean(f, axis=1, keepdims=True)
            size = f.shape[1] - 1
            found = {name: xp.sum(f[..., None] * s, axis=1) / size for name, s in q.score(b, p, z).items()}
            if change == "mean-over-replicates":
                return {name: xp.mean(block, axis=0) for name, block in found.items()}
            if change == "mean-over-replicates-kept":
                return {name: xp.mean(block, axis=0, keepdims=True) for name, block in found.items()}
            if change == "seven-rows":
                return {name: block[:7] for name, block in found.items()}
            if change == "no-sum":
                return {name: f[..., None] * s / size for name, s in q.score(b, p, z).items()}
            if change == "sum-over-coordinates":
                return {name: xp.sum(block, axis=1) for name, block in found.items()}
            if change == "transposed":
                return {name: block.T for name, block in found.items()}
            if change == "trailing-axis":
                return {name: block[..., None] for name, block in found.items()}
            if change == "complex":
                return {name: block + 0j for name, block in found.items()}
            if change == "integers":
                return {name: xp.astype(block, xp.int64) for name, block in found.items()}
            if change == "missing-block":
                return {"loc": found["loc"]}
            if change == "misnamed-block":
                return {"loc": found["loc"], "log_sigma": found["log_scale"]}
            if change == "extra-block":
                return {**found, "bonus": found["loc"]}
            if change == "tuple":
                return (found["loc"], found["log_scale"])  # type: ignore[return-value]
            assert change == "nothing"
            return found

    return Mine()


CHANGES = (
    "mean-over-replicates",
    "mean-over-replicates-kept",
    "seven-rows",
    "no-sum",
    "sum-over-coordinates",
    "transposed",
    "trailing-axis",
    "complex",
    "integers",
    "missing-block",
    "misnamed-block",
    "extra-block",
    "tuple",
)
for change in CHANGES:
    for text, samples in (("square[dim=3]", 8), ("square[dim=1,loc=1,k=0]", 6)):

        def _b1(change: str = change, text: str = text, samples: int = samples) -> Answer:
            row = row_of(text, _mine(change), samples=samples, max_replicates=2**16)
            return refused(row), row, "an exception that says what is wrong with the blocks, shapes or type"

        fault(f"B1-{change}-{text}")(_b1)


@fault("B1-nothing-wrong")
def _b1_right() -> Answer:
    row = row_of("square[dim=3]", _mine("nothing"), samples=8)
    return row["status"] == "ok" and row["verdict"] == "unbiased", row, "unbiased"


# B2: names do not identify a user's code.


def _named(size: float) -> Estimator:
    @dataclass(frozen=True)
    class Same(Estimator):
        name = "same-name"
        summary = "closes over a factor"
        requires = Requires(())

        def noise_specs(self, e: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
            return {"e": Noise("normal", (dimension,))}

        def estimate_integrand(self, b: Any, e: Any, p: Any, noise: Any, state: Any) -> Blocks:
            return {"loc": size * (noise["e"] - 2.0), "log_scale": size * (noise["e"] + 2.0)}

    return Same()


def _problem(k: float) -> Problem:
    class Shifted(Integrand):
        def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
            return xp.sum((z - k) ** 2, axis=-1)

    @dataclass(frozen=True)
    class Same(Problem):
        name = "same-problem"
        summary = "closes over k"
        dimension = 1
        integrand = Shifted()
        differentiate: str = "closed-form"

        def parameters(self) -> Blocks:
            return {"loc": np.zeros(1), "log_scale": np.zeros(1)}

        def exact(self) -> Exact:
            return Exact({"loc": np.full(1, -2.0 * k), "log_scale": np.full(1, 2.0)}, "closed-form")

    return Same()


def _frame(problem: Any, estimator: Any, **options: Any) -> list[dict[str, Any]]:
    frame = gradmeter.measure(problem, estimator, timing=False, max_replicates=2**16, **options)
    return [row.to_dict() for _, row in frame[frame.block == "all"].iterrows()]


def _ratio(rows: list[dict[str, Any]], wanted: float) -> Answer:
    found = [row["mean_norm"] for row in rows]
    right = len(found) == 2 and abs(found[1] / found[0] - wanted) < 0.1 * wanted
    return right, rows[-1], f"two results whose norms differ {wanted:.3g} times, not {found}"


fault("B2-estimators-of-one-name")(lambda: _ratio(_frame("square", [_named(1.0), _named(3.0)]), 3.0))
fault("B2-estimators-in-turn")(lambda: _ratio([*_frame("square", _named(1.0)), *_frame("square", _named(3.0))], 3.0))
fault("B2-problems-of-one-name")(
    lambda: _ratio(
        _frame([_problem(1.0), _problem(3.0)], "score-function[baseline=leave-one-out]"),
        math.sqrt(40.0) / math.sqrt(8.0),
    )
)


@fault("B2-store")
def _b2_store() -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store.sqlite")
        rows = [*_frame("square", _named(1.0), store=store), *_frame("square", _named(3.0), store=store)]
    return _ratio(rows, 3.0)


@fault("B2-models-of-one-name")
def _b2_models() -> Answer:
    import jax.numpy as jnp

    def model(k: float) -> Any:
        def log_joint(theta: Any, z: Any) -> Any:
            return -k * theta["a"] * jnp.sum(z**2, axis=-1)

        return gradmeter.Model(
            "one-model",
            log_joint,
            {"a": jnp.ones(())},
            latent=1,
            loc=np.ones(1),
            log_scale=np.zeros(1),
            entropy="none",
        )

    rows = []
    for chosen in ([model(1.0), model(3.0)],):
        frame = gradmeter.measure(chosen, "pathwise", "jax", timing=False, max_replicates=2**16)
        rows += [row.to_dict() for _, row in frame[frame.block == "all"].iterrows()]
    return _ratio(rows, 3.0)


# B3: a cap is a cap.

for cap in (64, 100, 1000, 5000, 20_000):
    for text, samples in (("square", 1), ("logistic-regression", 10), ("square[dim=100]", 4)):

        def _b3(cap: int = cap, text: str = text, samples: int = samples) -> Answer:
            row = row_of(text, "score-function[baseline=none]", samples=samples, max_replicates=cap)
            return row["status"] == "ok" and 0 < row["replicates"] <= cap, row, f"at most {cap} replicates"

        fault(f"B3-{cap}-{text}")(_b3)


@fault("B3-below-64")
def _b3_least() -> Answer:
    row = row_of("square", "pathwise", max_replicates=63)
    return row["status"] == "raised" and "UsageError" in row["reason"] and "64" in row["reason"], row, "a UsageError"


# B4: f_λ.


def _reading(backend: str) -> Problem:
    """f = Σ z² − loc²: the derivative in loc is 2 loc − 2 loc = 0, in log σ 2σ²."""

    class Reading(Integrand):
        reads = ("loc",)

        def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
            return xp.sum(z**2, axis=-1) - xp.sum(data["loc"] ** 2)

        if backend == "numpy":

            def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
                return 2.0 * z

    @dataclass(frozen=True)
    class ReadingProblem(Problem):
        name = f"reads-loc-{backend}"
        summary = "f reads loc"
        dimension = 2
        integrand = Reading()
        differentiate: str = "closed-form" if backend == "numpy" else "autodiff"

        def parameters(self) -> Blocks:
            return {"loc": np.ones(2), "log_scale": np.zeros(2)}

        def exact(self) -> Exact:
            return Exact({"loc": np.zeros(2), "log_scale": np.full(2, 2.0)}, "closed-form")

    return ReadingProblem()


for backend in ("numpy", "jax", "torch"):
    for estimator in ("score-function[baseline=leave-one-out]", "pathwise"):

        def _b4(backend: str = backend, estimator: str = estimator) -> Answer:
            row = row_of(_reading(backend), estimator, backend)
            told = backend == "numpy" and row["status"] in ("n/a", "exception") and len(str(row["reason"])) > 20
            right = told or (row["status"] == "ok" and row["verdict"] in ("unbiased", "inconclusive"))
            return right, row, "not biased: the explicit derivative is added (or, on NumPy, asked for)"

        fault(f"B4-reads-loc-{estimator}-{backend}")(_b4)

for estimator in ("pathwise", "score-function[baseline=leave-one-out]"):

    def _b4_bundled(estimator: str = estimator) -> Answer:
        """f = (z − a loc)² at loc 1, σ 1, a = ½: derivatives 2(1 − a)² loc = ½ and 2."""
        row = row_of("tilted-square[a=0.5,loc=1]", estimator)
        right = row["status"] == "ok" and row["verdict"] in ("unbiased", "inconclusive")
        return right and abs(row["exact_norm"] - math.hypot(0.5, 2.0)) < 1e-9, row, "bundled, with its exact gradient"

    fault(f"B4-tilted-square-{estimator}")(_b4_bundled)

# B5: what users bring is checked.


class HalfScore(estimators.FAMILIES["bernoulli"]):  # type: ignore[name-defined, misc]
    """Bernoulli whose first score is halved."""

    def score(self, backend: Backend, parameters: Any, z: Any) -> Blocks:
        found = super().score(backend, parameters, z)["logits"]
        factor = backend.xp.asarray([0.5, 1.0], dtype=found.dtype)
        return {"logits": found * factor}


class DoubledPath(Normal):
    """Normal whose pathwise derivative in loc is doubled."""

    def pathwise(self, *arguments: Any, **more: Any) -> Blocks:
        found = super().pathwise(*arguments, **more)
        return {**found, "loc": 2.0 * found["loc"]}


class PlainSquare(Integrand):
    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(z**2, axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return 2.0 * z


class WrongGradient(PlainSquare):
    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return 1.8 * z


def _brought(title: str, f: Integrand, at: Blocks, answer: Blocks, point: Any) -> Problem:
    size = next(iter(at.values())).shape[-1]

    @dataclass(frozen=True)
    class Brought(Problem):
        name = title
        summary = title
        dimension = size
        q = point
        integrand = f
        differentiate: str = "closed-form"

        def parameters(self) -> Blocks:
            return at

        def exact(self) -> Exact:
            return Exact(answer, "closed-form")

    return Brought()


def _normal_at(loc: float, dim: int) -> Blocks:
    return {"loc": np.full(dim, loc), "log_scale": np.zeros(dim)}


@fault("B5-score-halved")
def _b5_score() -> Answer:
    """The exact gradient is enumerated with the same wrong score, so that the two agree."""
    p = 0.3
    base = estimators.FAMILIES["bernoulli"].Config(probability=p)

    class Config(type(base)):  # type: ignore[misc]
        family = HalfScore()

    problem = _brought(
        "half-score",
        PlainSquare(),
        {"logits": np.full(2, special.logit(p))},
        {"logits": np.array([0.5, 1.0]) * p * (1 - p)},
        Config(probability=p),
    )
    row = row_of(problem, "score-function")
    return refused(row, "score"), row, "a refusal that names the score"


@fault("B5-path-doubled")
def _b5_path() -> Answer:
    class Config(type(Normal.Config())):  # type: ignore[misc]
        family = DoubledPath()

    answer = {"loc": np.full(2, 4.0), "log_scale": np.full(2, 2.0)}
    problem = _brought("double-path", PlainSquare(), _normal_at(1.0, 2), answer, Config())
    row = row_of(problem, "pathwise")
    return refused(row, "pathwise"), row, "a refusal that names the pathwise derivative"


@fault("B5-gradient-of-f")
def _b5_gradient() -> Answer:
    answer = {"loc": np.full(2, 2.0), "log_scale": np.full(2, 2.0)}
    problem = _brought("wrong-slope", WrongGradient(), _normal_at(1.0, 2), answer, Normal.Config())
    row = row_of(problem, "pathwise")
    return refused(row, "gradient"), row, "a refusal that names the gradient of f"


@fault("B5-exact-gradient")
def _b5_exact() -> Answer:
    answer = {"loc": np.full(1, 2.2), "log_scale": np.full(1, 2.0)}
    problem = _brought("wrong-exact", PlainSquare(), _normal_at(1.0, 1), answer, Normal.Config())
    row = row_of(problem, "pathwise")
    return refused(row, "exact"), row, "a refusal that names the exact gradient"


# C: families at the ends of their ranges.

never_biased("C1-relaxed-0.1", "square[family=relaxed-bernoulli,temperature=0.1,k=0]", "score-function")
never_biased(
    "C1-relaxed-0.5-float32",
    "square[family=relaxed-bernoulli,temperature=0.5,k=0]",
    "score-function",
    dtype="float32",
)
for estimator in ("pathwise", "score-function"):
    never_biased(f"C1-beta-bernoulli-{estimator}", "beta-bernoulli[dim=1,alpha=0.3,beta=0.3]", estimator)
    never_biased(f"C1-beta-0.25-{estimator}", "square[family=beta,alpha=2,beta=0.25,k=0]", estimator)
for value in (0.1, 0.01, 0.001):
    for text in (
        f"square[family=gamma,concentration={value}]",
        f"square[family=beta,alpha={value},beta=0.5]",
        f"square[family=dirichlet,concentration={value},dim=3]",
    ):
        for estimator in ("score-function", "pathwise"):
            never_biased(f"C2-{text}-{estimator}", text, estimator)
never_biased("C2-chi-squared", "square[family=chi-squared,degrees=0.1]", "score-function")
never_biased("C2-f", "cosine[family=f,numerator=0.1,denominator=30]", "score-function")
never_biased("C3-gamma", "square[family=gamma,concentration=0.1:2:30,dim=3]", "pathwise")
never_biased("C3-normal", "square[loc=-1:0:2,scale=0.1:1:3,dim=3]", "pathwise")
for text in (
    "square[family=concrete,categories=3,dim=3]",
    "cosine[family=student-t,df=1.1]",
    "absolute-value[family=gamma]",
    "absolute-value[loc=0.3,k=0.1]",
    "step[family=student-t,df=1.1,k=0.4]",
):

    def _c4(text: str = text) -> Answer:
        row = row_of(text, "score-function", max_replicates=2**16)
        right = row["status"] == "ok" and row["verdict"] != "biased" and row["exact_norm"] is not None
        return right, row, "a reference, and not biased"

    fault(f"C4-{text}")(_c4)

# D: messages.


@fault("D1-rebar-far")
def _d1() -> Answer:
    row = row_of("categorical-square[categories=5,tilt=800]", "rebar")
    reason = str(row["reason"] or "")
    raw = any(word in reason for word in ("LinAlgError", "SVD", "LAPACK", "Singular", "DLASCL", "illegal value"))
    return row["status"] != "raised" and not raw, row, "no raw line of LAPACK"


@fault("D2-q-as-a-field")
def _d2_field() -> Answer:
    @dataclass(frozen=True)
    class Field(Problem):
        name = "q-as-a-field"
        summary = "annotates q"
        dimension = 1
        integrand = PlainSquare()
        differentiate: str = "closed-form"
        q: Any = dataclasses.field(default_factory=Normal.Config)

        def exact(self) -> Exact:
            return Exact({"loc": np.zeros(1), "log_scale": np.full(1, 2.0)}, "closed-form")

    row = row_of(Field(), "pathwise")
    clear = row["status"] == "ok" or (" q" in str(row["reason"]) and "JSON serializable" not in str(row["reason"]))
    return clear, row, "it works, or a message that speaks of q and not of JSON"


@fault("D2-without-differentiate")
def _d2_differentiate() -> Answer:
    """The documented problem has the option `differentiate`; one without it gets an answer, not an AttributeError."""

    @dataclass(frozen=True)
    class Without(Problem):
        name = "without-differentiate"
        summary = "lacks the option"
        dimension = 1
        integrand = PlainSquare()

        def parameters(self) -> Blocks:
            return _normal_at(0.0, 1)

        def exact(self) -> Exact:
            return Exact({"loc": np.zeros(1), "log_scale": np.full(1, 2.0)}, "closed-form")

    row = row_of(Without(), "pathwise")
    clear = row["status"] == "ok" or "AttributeError" not in str(row["reason"])
    return clear, row, "it works, or a message that says what is missing"


@fault("D3-backward")
def _d3() -> Answer:
    @dataclass(frozen=True)
    class Backward(Estimator):
        name = "backward"
        summary = "calls loss.backward"
        requires = Requires(())

        def noise_specs(self, e: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
            return {"e": Noise("normal", (dimension,))}

        def estimate_integrand(self, b: Any, e: Any, p: Any, noise: Any, state: Any) -> Blocks:
            import torch

            rows = noise["e"].shape[0]
            free = {name: block.expand(rows, -1).clone().requires_grad_(True) for name, block in p.items()}
            z = free["loc"] + torch.exp(free["log_scale"]) * noise["e"]
            torch.sum((z - 1.0) ** 2).backward()
            return {name: block.grad for name, block in free.items()}

    row = row_of("square", Backward(), "torch")
    right = row["status"] == "ok" or "torch.func" in str(row["reason"])
    return right, row, "it works, or a message that names torch.func"


@fault("D4-z-beside-unbiased")
def _d4() -> Answer:
    rows = [
        row_of(text, estimator, dtype=dtype, max_replicates=2**16)
        for text, estimator, dtype in (
            ("polynomial[degree=1,loc=1000]", "pathwise", "float32"),
            ("linear-regression[at=fitted]", "pathwise[sticking-the-landing=true]", "float64"),
            ("square[k=1000,loc=0.3]", "pathwise[antithetic=true]", "float32"),
            (BERNOULLI, "enumeration", "float32"),
        )
    ]
    bad = [row for row in rows if row["verdict"] == "unbiased" and abs(row["bias_z"] or 0.0) > 6.0]
    return not bad, (bad or rows)[0], "no z above 6 beside unbiased"


@fault("D5-more-samples")
def _d5() -> Answer:
    row = row_of("cosine[k=2.5]", "pathwise", samples=10)
    spent = (row["replicates"] or 0) >= 0.99 * 2**20
    return row["verdict"] == "unbiased" or spent, row, "unbiased, or all of the cap drawn"
