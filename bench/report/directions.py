"""Which estimators estimate the gradient, and what the others estimate instead: size, direction and length."""

from __future__ import annotations

import functools
import json
import math

from gradmeter.bench.problems import PROBLEMS
from gradmeter.bench.problems.policy import Policy
from gradmeter.bench.reading import names, numbers
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report.ranking import Ranking
from gradmeter.estimators import UsageError
from gradmeter.estimators.options import construct

TITLE = "What each estimates"
HEADINGS = ("estimator", "S", "bias", "cosine", "scale", "variance")
#: Cosine from which a direction counts as that of g, by certificate.
ALONG = {"integration": 1.0 - 1e-9, "sampling": 1.0 - 1e-3}
#: Scale up to which a mean counts as 0, where it has no direction.
NOTHING = 1e-3


def table(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines, the smallest bias first.

    There are no lines where no estimator without an injected bug is biased.
    """
    results = [r for r in (*ranking.ranked, *ranking.unranked) if r["scale_factor"] is not None]
    if not any(r["verdict"] == "biased" for r in results):
        return [], []
    results.sort(key=lambda r: (1, r["bias"] or 0.0) if r["verdict"] == "biased" else (0, r["variance"]))
    context = varying(results, CONTEXT)
    tokens = {id(r): found for r in results if (found := tokens_of(r)) is not None}
    headings = [HEADINGS[0], *context, *HEADINGS[1:], *(["variance × tokens"] if tokens else []), "seconds", "in words"]
    return headings, [
        [
            *(r.estimator, *(r.text(c) for c in context), numbers.count(r["num_samples"])),
            f"{numbers.verdict(r['verdict'])} {numbers.bias(r.row)}".rstrip(),
            "–" if r["cosine"] is None else f"{r['cosine']:.4f}",
            _scale(r),
            numbers.significant(r["variance"]),
            *([numbers.significant(r["variance"] * tokens[id(r)]) if id(r) in tokens else "–"] if tokens else []),
            numbers.seconds(r["seconds"]),
            sentence(r),
        ]
        for r in results
    ]


def _scale(r: Result) -> str:
    text = f"{r['scale_factor']:.4f}"
    exact = r["certificate"] == "integration"
    return text if exact else f"{text} {numbers.interval(r['scale_low'], r['scale_high'])}".rstrip()


def sentence(r: Result) -> str:
    """Return one sentence on the mean of an estimator."""
    if r["verdict"] != "biased":
        return "The gradient." if r["verdict"] == "unbiased" else "A bias is neither shown nor excluded."
    cosine, scale = r["cosine"], r["scale_factor"]
    if cosine is None or (abs(scale) < NOTHING and abs(cosine) < NOTHING):
        said = "0 on average"
    elif cosine >= ALONG.get(r["certificate"], 1.0):
        said = f"{scale:.4g} times the gradient, which a learning rate {1.0 / scale:.4g} times as large undoes"
    else:
        angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
        said = f"{angle:.2g}° from the gradient, and {scale:.4g} times as long along it"
    because = names.follows(r.row)
    return f"{said}: {because}." if because else f"{said}."


def tokens_of(r: Result) -> float | None:
    """Return the mean number of tokens that an estimate draws; None where the problem has none."""
    if r["problem"] != Policy.name or r["num_samples"] is None or r.marked("problem"):
        return None
    try:
        each = _tokens(json.dumps(r["problem_options"], sort_keys=True), r["estimator"] == "policy-gradient")
    except UsageError:  # options of another version
        return None
    return each * float(r["num_samples"])


@functools.lru_cache(maxsize=64)
def _tokens(options: str, from_behaviour: bool) -> float:
    given = {name: value for name, value in json.loads(options).items() if value is not None}
    problem = construct(PROBLEMS[Policy.name], given, f"problem {Policy.name}")
    assert isinstance(problem, Policy)
    return problem.tokens(problem.parameters(), from_behaviour)
