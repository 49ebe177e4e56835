"""Wrong estimators of discrete z, with their means by enumeration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy import integrate, special

from tests.adversary import settings as s
from tests.adversary.cases import Blocks, Case, Setting, Tools, times
from tests.adversary.parts import (
    bernoulli_plain,
    bits,
    each,
    logit_score,
    probability,
    scaled,
    uniforms,
)
from tests.adversary.wrong import case


def disarm(t: Tools, u: Any, weight: float = 1.0) -> Blocks:
    """DisARM by hand, for one coordinate: u [R, S, 1]."""
    phi = t.row("logits")
    p = probability(t)
    first, second = t.where(u > 1.0 - p, u), t.where(u < p, u)
    delta = t.f(first) - t.f(second)
    larger = 1.0 / (1.0 + t.xp.exp(-t.xp.abs(phi)))
    differ = first - second
    return {"logits": t.xp.mean(0.5 * weight * delta[..., None] * differ * larger, axis=1)}


def arm(t: Tools, u: Any) -> Blocks:
    """ARM by hand, for one coordinate."""
    p = probability(t)
    first, second = t.where(u > 1.0 - p, u), t.where(u < p, u)
    return {"logits": t.xp.mean((t.f(first) - t.f(second))[..., None] * (u - 0.5), axis=1)}


def choose(t: Tools, u: Any, edges: np.ndarray) -> Any:
    """One-hot [R, S, K] of the interval between `edges` that u [R, S] lies in."""
    return t.xp.stack(
        [t.where((u >= float(low)) & (u < float(high)), u) for low, high in itertools.pairwise(edges)],
        axis=-1,
    )


def table_score(t: Tools, weight: Any, z: Any) -> Blocks:
    p = t.fixed(special.softmax(s.LOGITS)[None, None, :], z)
    return {"logits": t.xp.mean(weight[..., None] * (z - p), axis=1)[:, None, :]}


def edges(probabilities: np.ndarray) -> np.ndarray:
    found = np.concatenate([[0.0], np.cumsum(probabilities)])
    found[-1] = 1.0 + 1e-9
    return found


def table_mean(sampled: np.ndarray) -> Blocks:
    """E f(z) (z − p), z drawn with the probabilities `sampled`."""
    p = special.softmax(s.LOGITS)
    return {"logits": sum(sampled[i] * s.TABLE[i] * (np.eye(5)[i] - p) for i in range(5))[None]}


def logits_of(value: float, dim: int = 1) -> Blocks:
    return {"logits": np.full(dim, value)}


def _bernoulli() -> list[Case]:
    b2, b1 = s.bernoulli(0.3, dim=2), s.bernoulli(0.3)
    p = 0.3
    both = {**uniforms(2, 2), **uniforms(name="coin")}
    found = [
        case(
            "coin-lost",
            b1,
            lambda t, n: each(bernoulli_plain(t, n), t.where(n["coin"] > 0.1, n["coin"])),
            {**uniforms(1, 1), **uniforms(name="coin")},
            times(b1.gradient, 0.9),
        ),
        case(
            "two-coins-lost",
            b2,
            lambda t, n: each(bernoulli_plain(t, n), 2.0 * t.where((n["coin"] > 0.13) & (n["coin"] < 0.6), n["coin"])),
            both,
            times(b2.gradient, 0.94),
            2,
        ),
        case("bernoulli-half", b1, scaled(bernoulli_plain, 0.5), uniforms(1, 1), times(b1.gradient, 0.5)),
        case(
            "disarm-without-half",
            b1,
            lambda t, n: disarm(t, n["u"], 2.0),
            uniforms(1, 1),
            times(b1.gradient, 2.0),
        ),
        case("disarm-0.95", b1, lambda t, n: disarm(t, n["u"], 0.95), uniforms(1, 1), times(b1.gradient, 0.95)),
        case("arm-half", b1, scaled(lambda t, n: arm(t, n["u"]), 0.5), uniforms(1, 1), times(b1.gradient, 0.5)),
    ]

    def own(t: Tools, n: Blocks) -> Blocks:
        z = bits(t, n["u"])
        f = t.f(z)
        return logit_score(t, f - t.xp.mean(f, axis=1, keepdims=True), z)

    found.append(case("bernoulli-own-baseline", b2, own, uniforms(3, 2), times(b2.gradient, 2 / 3), 3))

    def straight(t: Tools, n: Blocks) -> Blocks:
        z, q = bits(t, n["u"]), probability(t)
        return {"logits": t.xp.mean(2.0 * (z - 0.2) * q * (1.0 - q), axis=1)}

    other = s.bernoulli(0.3, k=0.2)
    found.append(case("straight-through", other, straight, uniforms(1, 1), logits_of(2.0 * (p - 0.2) * p * (1 - p))))

    def reversed_threshold(t: Tools, n: Blocks) -> Blocks:
        z = t.where(n["u"] > probability(t), n["u"])
        return logit_score(t, t.f(z), z)

    def wrong_side(q: float) -> float:
        """E f(z)(z − p), z Bernoulli(q), f = (z − 1)²: only z = 0 counts."""
        return (1.0 - q) * (0.0 - p)

    def moved(t: Tools, n: Blocks) -> Blocks:
        z = t.where(n["u"] < probability(t) + 0.02, n["u"])
        return logit_score(t, t.f(z), z)

    found += [
        case("threshold-reversed", b1, reversed_threshold, uniforms(1, 1), logits_of(wrong_side(0.7))),
        case("threshold-moved", b1, moved, uniforms(1, 1), logits_of(wrong_side(0.32))),
    ]
    for samples in (2, 4):

        def normalised(t: Tools, n: Blocks) -> Blocks:
            z, q = t.where(n["u"] < 0.5, n["u"]), probability(t)
            w = (2.0 * (z * q + (1.0 - z) * (1.0 - q)))[..., 0]
            w = w / t.xp.mean(w, axis=1, keepdims=True)
            return logit_score(t, w * t.f(z), z)

        mean = 0.0
        for states in itertools.product((0.0, 1.0), repeat=samples):
            weights = np.array([2.0 * (p if z else 1.0 - p) for z in states])
            terms = np.array([(z - 1.0) ** 2 * (z - p) for z in states])
            mean += 0.5**samples * float(weights @ terms / weights.sum())
        found.append(case(f"self-normalised-{samples}", b1, normalised, uniforms(samples, 1), logits_of(mean), samples))
    rare = s.bernoulli(0.05)

    def floored(t: Tools, n: Blocks) -> Blocks:
        z = t.where(n["u"] < 0.1, n["u"])
        return logit_score(t, t.f(z), z)

    found.append(case("probability-floored", rare, floored, uniforms(1, 1), logits_of(0.9 * (0.0 - 0.05))))
    pair = s.bernoulli_pair()

    def local_terms(t: Tools, n: Blocks) -> Blocks:
        z = bits(t, n["u"])
        q = probability(t)
        weight = t.xp.stack([z[..., 0], 3.0 * z[..., 0] * z[..., 1] - 2.0 * z[..., 1]], axis=-1)
        return {"logits": t.xp.mean(weight * (z - q), axis=1)}

    found.append(
        case(
            "rao-blackwell-lost-term",
            pair,
            local_terms,
            uniforms(2, 2),
            {"logits": np.array([0.3 * 0.7 * 1.0, pair.gradient["logits"][1]])},
            2,
        )
    )

    def same_uniform(t: Tools, n: Blocks) -> Blocks:
        u = t.xp.concat([n["u"], n["u"]], axis=-1)
        z = bits(t, u)
        return logit_score(t, t.f(z), z)

    mean = np.zeros(2)
    q = np.array([0.3, 0.6])
    for chance, z in ((0.3, (1.0, 1.0)), (0.3, (0.0, 1.0)), (0.4, (0.0, 0.0))):
        f = 3.0 * z[0] * z[1] + z[0] - 2.0 * z[1]
        mean += chance * f * (np.array(z) - q)
    found.append(case("one-uniform-for-both", pair, same_uniform, uniforms(1, 1), {"logits": mean}))

    def relaxed(t: Tools, n: Blocks) -> Blocks:
        u = t.xp.clip(n["u"], 1e-12, 1.0 - 1e-12)
        y = 1.0 / (1.0 + t.xp.exp(-(t.row("logits") + t.xp.log(u) - t.xp.log1p(-u)) / 0.5))
        return {"logits": t.xp.mean(2.0 * (y - 1.0) * y * (1.0 - y) / 0.5, axis=1)}

    def slope(x: float) -> float:
        y = special.expit((special.logit(p) + x) / 0.5)
        return 2.0 * (y - 1.0) * y * (1.0 - y) / 0.5 * special.expit(x) * special.expit(-x)

    found.append(
        case("gumbel-softmax-as-exact", b1, relaxed, uniforms(1, 1), logits_of(integrate.quad(slope, -60, 60)[0]))
    )

    def biased_draw(t: Tools, n: Blocks) -> Blocks:
        z = bits(t, n["u"])
        f = t.f(z)
        # The sample is drawn again, once, where it is 1: a conditional distribution.
        return logit_score(t, f * (1.0 - z[..., 0]) + 0.0 * f, z)

    # f is 0 at z = 1, so leaving those samples out changes nothing: shift f by 1 to make it matter.
    shifted = s.bernoulli(0.3, k=-1.0)
    found.append(case("states-left-out", shifted, biased_draw, uniforms(1, 1), logits_of(0.7 * 1.0 * (0.0 - 0.3))))
    return found


def _categorical() -> list[Case]:
    table = s.categorical()
    p = special.softmax(s.LOGITS)

    def drawn(probabilities: np.ndarray) -> Any:
        def estimate(t: Tools, n: Blocks) -> Blocks:
            z = choose(t, n["u"], edges(probabilities))
            return table_score(t, t.f(z), z)

        return estimate

    top = np.where(np.isin(np.arange(5), np.argsort(p)[-3:]), p, 0.0)
    top = top / top.sum()
    sharp = special.softmax(s.LOGITS / 0.9)
    uneven = edges(p).copy()
    uneven[2] += 0.01

    def staircase(t: Tools, n: Blocks) -> Blocks:
        z = choose(t, n["u"], uneven)
        return table_score(t, t.f(z), z)

    def without_ratio(t: Tools, n: Blocks) -> Blocks:
        z = choose(t, n["u"], edges(np.full(5, 0.2)))
        return table_score(t, t.f(z), z)

    def gumbel(t: Tools, n: Blocks) -> Blocks:
        """Gumbel-max, its noise divided by 2: a sharper distribution."""
        logits = t.fixed(s.LOGITS[None, None, :], n["x"])
        keys = 2.0 * logits - t.xp.log(n["x"])
        z = t.where(keys == t.xp.max(keys, axis=-1, keepdims=True), n["x"])
        return table_score(t, t.f(z), z)

    one = uniforms(1)
    return [
        case("top-3-sampling", table, drawn(top), one, table_mean(top)),
        case("temperature-0.9", table, drawn(sharp), one, table_mean(sharp)),
        case("edge-moved", table, staircase, one, table_mean(np.diff(uneven))),
        case("off-policy-without-ratio", table, without_ratio, one, table_mean(np.full(5, 0.2))),
        case(
            "gumbel-too-small",
            table,
            gumbel,
            {"x": ("exponential", (1, 5))},
            table_mean(special.softmax(2.0 * s.LOGITS)),
        ),
    ]


def _ladder(setting: Setting) -> list[Case]:
    """Opposite errors at several thresholds, whose sum is small."""
    count = 8

    def estimate(t: Tools, n: Blocks) -> Blocks:
        u = n["coin"]
        factor = 0.0 * u
        for i in range(count):
            inside = t.where((u >= i / count) & (u < (i + 1) / count), u)
            factor = factor + inside * (1.0 + (0.5 if i % 2 else -0.58))
        return each(bernoulli_plain(t, n), factor)

    return [
        case(
            "ladder-of-opposite-errors",
            setting,
            estimate,
            {**uniforms(2, 1), **uniforms(name="coin")},
            times(setting.gradient, 0.96),
            2,
        )
    ]


def cases() -> list[Case]:
    return [*_bernoulli(), *_categorical(), *_ladder(s.bernoulli(0.4))]
