"""Estimators whose replicates are not independent functions of their own noise.

Each computes something from the whole array of replicates, or from hidden state. Most have the right mean, or nearly:
the right answer is a refusal (status `exception` with a reason) or the flag `dependent`, never a certificate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.adversary import settings as s
from tests.adversary.cases import Blocks, Case, Tools, times
from tests.adversary.parts import at, each, normals, path, score, square_path

CAUGHT = frozenset({"exception", "dependent"})
SETTING = s.square(loc=0.3, dim=2)


def case(name: str, estimate: Any, noise: Any, samples: int = 1, factor: float = 1.0) -> Case:
    return Case(
        "wrong",
        name,
        SETTING,
        estimate,
        noise,
        times(SETTING.gradient, factor),
        samples,
        caught_by=CAUGHT,
        simulated=False,
    )


def _f(t: Tools, n: Blocks) -> Any:
    return t.f(at(t, n["e"]))


def baseline_over_replicates(t: Tools, n: Blocks) -> Blocks:
    f = _f(t, n)
    return score(t, f - t.xp.mean(f, axis=0, keepdims=True), n["e"])


def standardised_over_replicates(t: Tools, n: Blocks) -> Blocks:
    f = _f(t, n)
    return score(t, (f - t.xp.mean(f)) / t.xp.std(f), n["e"])


def clipped_by_batch(limit: float) -> Any:
    def estimate(t: Tools, n: Blocks) -> Blocks:
        g = square_path()(t, n)
        found = {}
        for name, block in g.items():
            middle, deviation = t.xp.mean(block, axis=0), t.xp.std(block, axis=0)
            top, bottom = middle + limit * deviation, middle - limit * deviation
            found[name] = t.xp.minimum(t.xp.maximum(block, bottom[None]), top[None])
        return found

    return estimate


def first_noise_for_all(t: Tools, n: Blocks) -> Blocks:
    e = n["e"][:1] + 0.0 * n["e"]
    return square_path()(t, {"e": e})


def half_shared(t: Tools, n: Blocks) -> Blocks:
    e = 0.5**0.5 * (n["e"] + n["e"][:1])
    return square_path()(t, {"e": e})


def shared_in_groups(t: Tools, n: Blocks) -> Blocks:
    """Groups of up to 64 replicates share half of the variance with their first."""
    e = n["e"]
    index = np.arange(e.shape[0]) // 64 * 64
    return square_path()(t, {"e": 0.5**0.5 * (e + e[index])})


def rolled(t: Tools, n: Blocks) -> Blocks:
    e = 0.5**0.5 * (n["e"] + t.xp.roll(n["e"], 1, axis=0))
    return square_path()(t, {"e": e})


def chain(t: Tools, n: Blocks) -> Blocks:
    """AR(0.9) within runs of 32 replicates, by a matrix of its own."""
    e = n["e"]
    size = e.shape[0]
    steps = np.empty(e.shape)
    for start in range(0, size, 32):
        steps[start] = e[start]
        for i in range(start + 1, min(start + 32, size)):
            steps[i] = 0.9 * steps[i - 1] + (1.0 - 0.81) ** 0.5 * e[i]
    return square_path()(t, {"e": steps})


def chain_by_sums(t: Tools, n: Blocks) -> Blocks:
    """AR(0.9) over replicates as a moving sum of 40 terms, rolled around."""
    total, weight = 0.0 * n["e"], 0.0
    for lag in range(40):
        total = total + 0.9**lag * t.xp.roll(n["e"], lag, axis=0)
        weight += 0.81**lag
    return square_path()(t, {"e": total / weight**0.5})


def frozen_generator(t: Tools, n: Blocks) -> Blocks:
    e = np.random.default_rng(0).standard_normal(n["e"].shape)
    return square_path()(t, {"e": e})


HIDDEN = np.random.default_rng(5)


def hidden_generator(t: Tools, n: Blocks) -> Blocks:
    e = 0.8 * n["e"] + 0.6 * HIDDEN.standard_normal(n["e"].shape)
    return square_path()(t, {"e": e})


def first_rows_only(t: Tools, n: Blocks) -> Blocks:
    """The first three replicates of a call are doubled."""
    g = square_path()(t, n)
    factor = np.where(np.arange(n["e"].shape[0]) < 3, 2.0, 1.0)
    return each(g, t.fixed(factor, n["e"]))


def last_row_lost(t: Tools, n: Blocks) -> Blocks:
    factor = np.where(np.arange(n["e"].shape[0]) == n["e"].shape[0] - 1, 0.0, 1.0)
    return each(square_path()(t, n), t.fixed(factor, n["e"]))


def sorted_over_replicates(t: Tools, n: Blocks) -> Blocks:
    return square_path()(t, {"e": t.xp.sort(n["e"], axis=0)})


def antithetic_over_replicates(t: Tools, n: Blocks) -> Blocks:
    """Odd replicates take minus the noise of the even ones before them."""
    e = n["e"]
    index = np.arange(e.shape[0]) // 2 * 2
    sign = np.where(np.arange(e.shape[0]) % 2 == 0, 1.0, -1.0)
    return square_path()(t, {"e": e[index] * sign[:, None, None]})


def mean_over_replicates(t: Tools, n: Blocks) -> Blocks:
    return {name: 0.0 * block + t.xp.mean(block, axis=0)[None] for name, block in square_path()(t, n).items()}


def previous_baseline(t: Tools, n: Blocks) -> Blocks:
    """The baseline is f of the replicate before: the mean is right."""
    f = _f(t, n)
    return score(t, f - t.xp.roll(f, 1, axis=0), n["e"])


def other_score(t: Tools, n: Blocks) -> Blocks:
    f = _f(t, n)
    return score(t, f, t.xp.roll(n["e"], 1, axis=0))


def divided_by_batch_maximum(t: Tools, n: Blocks) -> Blocks:
    f = _f(t, n)
    return score(t, f / t.xp.max(t.xp.abs(f)), n["e"])


def sampled_with_replacement(t: Tools, n: Blocks) -> Blocks:
    """A hidden bootstrap: the noise of each replicate is that of another, chosen by the noise itself."""
    e = n["e"]
    size = e.shape[0]
    index = (np.abs(np.asarray(e[:, 0, 0])) * 1e6).astype(int) % size
    return path(t, 2.0 * (at(t, e[index]) - 1.0), e[index])


def cases() -> list[Case]:
    one, four = normals(1, 2), normals(4, 2)
    return [
        case("baseline-over-replicates", baseline_over_replicates, four, 4),
        case("standardised-over-replicates", standardised_over_replicates, four, 4, 0.3),
        case("clipped-by-batch-3", clipped_by_batch(3.0), one, factor=0.99),
        case("clipped-by-batch-10", clipped_by_batch(10.0), one),
        case("first-noise-for-all", first_noise_for_all, one),
        case("half-shared", half_shared, one),
        case("shared-in-groups", shared_in_groups, one),
        case("rolled-sum", rolled, one),
        case("chain-of-32", chain, one),
        case("chain-by-sums", chain_by_sums, one),
        case("frozen-generator", frozen_generator, one),
        case("hidden-generator", hidden_generator, one),
        case("first-rows-only", first_rows_only, one),
        case("last-row-lost", last_row_lost, one),
        case("sorted-over-replicates", sorted_over_replicates, one),
        case("antithetic-over-replicates", antithetic_over_replicates, one),
        case("mean-over-replicates", mean_over_replicates, one),
        case("previous-baseline", previous_baseline, normals(2, 2), 2),
        case("score-of-another-replicate", other_score, one, factor=0.0),
        case("divided-by-batch-maximum", divided_by_batch_maximum, one, factor=0.05),
        case("bootstrap-of-replicates", sampled_with_replacement, one),
    ]
