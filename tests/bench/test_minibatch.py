"""The two parts of a minibatch's variance, against closed forms; false alarms: five standard errors, at fixed seeds."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import make_problem
from gradmeter.bench.measurement.decomposition import Part, as_series, from_series
from gradmeter.estimators import NotApplicable
from gradmeter.estimators.backends.backend import Backend

LINEAR = "linear-regression[loc=0.1,scale=0.2,batch={},entropy=analytic]"
MIXTURE = "bayesian-gaussian-mixture[at=start,batch=20,dataset=synthetic,size=60]"


def near(row: Any, part: str, expected: float) -> bool:
    """Within five standard errors, of which a 95 % interval holds 3.92."""
    return abs(row[part] - expected) <= 5.0 * (row[f"{part}_high"] - row[f"{part}_low"]) / 3.92


def exact_parts(batch: int, samples: int) -> tuple[float, float]:
    """∂loc of a linear regression, pathwise: rows drawn without replacement from N.

    The sum of B rows' u, times N/B, has variance N²/B (1 − B/N) s²(u), s² with N − 1. Given the rows ∂loc is linear in
    z, with slope −A, A = (N/B) X_BᵀX_B + I.
    """
    problem = make_problem(LINEAR.format(batch))
    data, at = problem.expectation().data, problem.parameters()
    design, response = data["design"], data["response"]
    size = len(design)

    def spread(rows: np.ndarray) -> float:
        return float(size**2 / batch * (1.0 - batch / size) * rows.var(axis=0, ddof=1).sum())

    minibatch = spread(design * (response - design @ at["loc"])[:, None])
    whole = design.T @ design + np.eye(design.shape[1])
    sampling = sum(
        variance * ((whole[:, j] ** 2).sum() + spread(design * design[:, [j]]))
        for j, variance in enumerate(np.exp(2.0 * at["log_scale"]))
    )
    return sampling / samples, minibatch


@pytest.mark.parametrize("batch", [8, 100])
def test_the_parts_are_what_they_are(batch: int) -> None:
    found = gradmeter.minibatch_split(LINEAR.format(batch), "pathwise", samples=(1, 4), replicates=2**12)
    for _, row in found[found["block"] == "loc"].iterrows():
        sampling, minibatch = exact_parts(batch, row["num_samples"])
        assert near(row, "sampling", sampling)
        assert near(row, "minibatch", minibatch)
        assert near(row, "total", sampling + minibatch)


@pytest.mark.parametrize("estimator", ["score-function[baseline=leave-one-out]", "pathwise[antithetic=true]"])
def test_they_add_up(estimator: str) -> None:
    found = gradmeter.minibatch_split(MIXTURE, estimator, samples=4, replicates=2**13)
    assert list(found["block"]) == ["loc", "log_scale", "all"]
    for _, row in found.iterrows():
        widths = [row[f"{part}_high"] - row[f"{part}_low"] for part in ("sampling", "minibatch", "total")]
        missing = row["sampling"] + row["minibatch"] - row["total"]
        assert abs(missing) <= 5.0 * math.sqrt(sum(w * w for w in widths)) / 3.92
    whole = found.iloc[-1]
    assert whole["sampling"] == pytest.approx(found["sampling"][:2].sum())
    assert whole["minibatch"] == pytest.approx(found["minibatch"][:2].sum())


def test_only_sampling_falls_with_the_samples() -> None:
    found = gradmeter.minibatch_split(MIXTURE, "pathwise", samples=(1, 16), replicates=2**13)
    few, many = (found[(found["num_samples"] == s) & (found["block"] == "all")].iloc[0] for s in (1, 16))
    assert near(few, "sampling", 16.0 * many["sampling"])
    assert near(few, "minibatch", many["minibatch"])


def test_all_rows_leave_no_minibatch_part() -> None:
    row = gradmeter.minibatch_split(LINEAR.format(442), "pathwise", replicates=2**12).iloc[0]
    assert near(row, "minibatch", 0.0)
    assert row["minibatch"] < 0.05 * row["sampling"]


@pytest.mark.slow
def test_the_same_on_other_backends(differentiating: Backend) -> None:
    given = {"samples": 2, "replicates": 2**12, "noise": "shared"}
    found = gradmeter.minibatch_split(LINEAR.format(8), "pathwise", differentiating.name, **given)
    expected = gradmeter.minibatch_split(LINEAR.format(8), "pathwise", **given)
    for column in ("sampling", "minibatch", "total"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-9)


def test_refused() -> None:
    with pytest.raises(NotApplicable, match="problem square draws no minibatch here; give it a batch"):
        gradmeter.minibatch_split("square", "pathwise")
    with pytest.raises(NotApplicable, match="at least 2 samples"):
        gradmeter.minibatch_split(LINEAR.format(8), "vargrad", samples=1)


def test_parts_are_kept_as_arrays_and_do_not_add_up_by_chance_alone() -> None:
    split = gradmeter.minibatch_split(LINEAR.format(8), "pathwise", replicates=2**12).to_dict("records")
    series = as_series(split)
    assert sorted(series) == ["parts:all", "parts:loc", "parts:log_scale"]
    for row in split:
        parts = from_series(series, row["block"])
        assert parts is not None
        assert (parts.replicates, parts.sure) == (row["replicates"], True)
        for part in ("sampling", "minibatch", "total"):
            found = getattr(parts, part)
            assert (found.value, found.low, found.high) == tuple(row[part + end] for end in ("", "_low", "_high"))
        assert parts.add_up
        assert not replace(parts, total=Part(*(1.5 * number for number in astuple(parts.total)))).add_up
    assert from_series({"parts:all": np.ones(3)}) is None
    assert from_series({}) is None
