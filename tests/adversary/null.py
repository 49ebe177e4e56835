"""Correct estimators of the catalogue on many families, problems and options: none may be called `biased`."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

from gradmeter.estimators import VARIANTS
from tests.adversary.judging import Result, row_of

CAP = 2**14

FAMILIES = {
    "normal": ("", "loc=1.3,scale=0.4", "loc=-2,scale=2", "loc=0.1,scale=0.01"),
    "multivariate-normal": ("correlation=0.5", "loc=1,scale=0.5,correlation=-0.3"),
    "low-rank-normal": ("", "loc=1,scale=0.5,correlation=0.8"),
    "mixture-of-normals": ("", "distance=6", "components=3,scale=0.5"),
    "laplace": ("", "loc=1,scale=0.3"),
    "student-t": ("df=12", "df=6,loc=1"),
    "logistic": ("", "loc=1,scale=0.3"),
    "uniform": ("", "low=-1,high=2"),
    "triangular": ("", "mode=0.5"),
    "gumbel": ("", "loc=1,scale=0.3"),
    "elliptical": ("", "correlation=0.4"),
    "exponential": ("", "rate=3"),
    "rayleigh": ("", "scale=0.4"),
    "pareto": ("shape=9", "shape=6,scale=0.5"),
    "weibull": ("", "shape=2.5", "shape=0.8"),
    "gompertz": ("", "shape=0.3"),
    "log-logistic": ("shape=9",),
    "reciprocal": ("", "high=2"),
    "log-normal": ("scale=0.3", "loc=-1,scale=0.8"),
    "erlang": ("", "events=4"),
    "gamma": ("", "concentration=0.5", "concentration=20,rate=4"),
    "chi-squared": ("", "degrees=9"),
    "beta": ("", "alpha=0.5,beta=2", "alpha=5,beta=5"),
    "f": ("",),
    "dirichlet": ("", "concentration=3"),
    "relaxed-bernoulli": ("", "probability=0.2,temperature=0.5"),
    "concrete": ("", "tilt=1,temperature=0.5"),
    "bernoulli": ("", "probability=0.02", "probability=0.8"),
    "tied-bernoulli": ("", "probability=0.1"),
    "categorical": ("tilt=1", "categories=4,tilt=2"),
    "geometric": ("", "probability=0.8"),
    "poisson": ("", "rate=0.1", "rate=9"),
}
FUNCTIONS = (
    ("square", "k=1"),
    ("square", "k=-30"),
    ("polynomial", "degree=3"),
    ("polynomial", "degree=4"),
    ("cosine", "k=1"),
    ("cosine", "k=4"),
    ("exponential", "k=0.7"),
    ("exponential-moment", "t=0.3"),
    ("exponential-moment", "t=-2"),
    ("step", "k=0.4"),
    ("absolute-value", "k=0.4"),
)
OTHERS = (
    "banana",
    "banana[entropy=analytic]",
    "linear-regression",
    "linear-regression[scale=0.1]",
    "linear-regression[at=fitted]",
    "linear-regression[batch=16]",
    "logistic-regression",
    "logistic-regression[scale=0.1]",
    "logistic-regression[at=fitted]",
    "poisson-regression",
    "poisson-regression[scale=0.1]",
    "poisson-regression[scale=1.2]",
    "student-t-regression",
    "student-t-regression[entropy=analytic]",
    "gamma-poisson",
    "gamma-poisson[dim=2]",
    "beta-bernoulli",
    "beta-bernoulli[dim=2]",
    "three-bernoullis",
    "three-bernoullis[probability=0.1]",
    "categorical-square[categories=5,tilt=2]",
    "sigmoid-belief-network",
    "linear-gaussian",
    "linear-vae",
    "linear-vae[batch=10]",
    "gaussian-mixture",
    "bayesian-gaussian-mixture[components=2,dim=1]",
)


def problems() -> list[str]:
    """Return all problem texts."""
    found = list(OTHERS)
    for (family, points), (function, own) in itertools.product(FAMILIES.items(), FUNCTIONS):
        for point, dim in itertools.product(points, (1, 2, 6)):
            width = {"concrete": 2, "categorical": 4 if "categories" in point else 2}.get(family)
            if family == "dirichlet":
                width = dim + 1
            size = dim if width is None else width * dim if family != "dirichlet" else width
            inside = ",".join(part for part in (own, f"family={family}", point, f"dim={size}") if part)
            found.append(f"{function}[{inside}]")
    return found


VALUES_ALONE = (
    "score-function",
    "rao-blackwell",
    "importance-sampling",
    "overdispersed",
    "measure-valued",
    "enumeration",
    "partial-summation",
    "arm",
    "disarm",
)


def wrong_by_nature(text: str, estimator: str) -> bool:
    """Return whether ∇f misses a jump of f, or ∇²f a corner: then the estimator is biased, as the problem says."""
    if text.startswith("step"):
        return not estimator.startswith(VALUES_ALONE)
    return text.startswith("absolute-value") and estimator.startswith("price")


def cells(seed: int, backends: list[str]) -> Iterator[tuple[str, str, str, str, int, int]]:
    """Yield problem, estimator, backend, dtype, S and seed for ever, at random; most on NumPy, for its speed."""
    chosen, texts = random.Random(seed), problems()
    weights = [{"numpy": 12, "jax": 3, "torch": 1}[backend] for backend in backends]
    while True:
        # An eighth of the cells are the regressions and other named problems, which are few.
        text = chosen.choice(OTHERS if chosen.random() < 0.125 else texts)
        estimator = chosen.choice(VARIANTS)
        if wrong_by_nature(text, estimator):
            continue
        yield (
            text,
            estimator,
            chosen.choices(backends, weights)[0],
            chosen.choices(("float64", "float32"), (2, 1))[0],
            chosen.choice((0, 0, 2, 4, 10)),
            chosen.randrange(10**6),
        )


def run(verdicts: int, backends: list[str], seed: int = 0, limit: int | None = None) -> Iterator[Result]:
    """Yield every verdict that is wrong, then one line that counts them all."""
    wanted = verdicts if limit is None else min(verdicts, limit)
    counts: Counter[str] = Counter()
    asked = 0
    for text, estimator, backend, dtype, samples, noise_seed in cells(seed, backends):
        if sum(counts.values()) >= wanted or asked >= 40 * wanted + 1000:
            break
        asked += 1
        options = {"samples": samples} if samples else {}
        row = row_of(text, estimator, backend, dtype=dtype, seed=noise_seed, max_replicates=CAP, **options)
        if row["status"] != "ok" or row["verdict"] == "no-reference":
            if row["status"] in ("exception", "crashed"):
                name = f"{text} {estimator} S={samples} seed={noise_seed}"
                where = f"{backend}/{dtype}"
                yield Result("null", name, where, row["status"], None, 0.0, False, str(row["reason"])[:120])
            continue
        counts[str(row["verdict"])] += 1
        dependent = row.get("variance_flag") == "dependent"
        if row["verdict"] == "biased" or dependent:
            name = f"{text} {estimator} S={samples} seed={noise_seed}"
            said = "dependent" if dependent else "biased"
            yield Result("null", name, f"{backend}/{dtype}", said, row["bias_bound"], 0.0, False, f"z {row['bias_z']}")
    total = sum(counts.values())
    note = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) + f"; {asked} cells asked"
    yield Result("null", f"{total} verdicts", ",".join(backends), "", None, 0.0, total >= wanted, note)
