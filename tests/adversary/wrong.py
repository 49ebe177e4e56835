"""Wrong estimators of continuous z: what people get wrong, with the bias it has."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from tests.adversary import settings as s
from tests.adversary.cases import Blocks, Case, Setting, Tools, times
from tests.adversary.parts import (
    around,
    at,
    blocks,
    each,
    exponential_plain,
    exponentials,
    leave_one_out,
    normals,
    only,
    own_baseline,
    path,
    plain,
    rate_score,
    scaled,
    score,
    square_path,
    uniforms,
)
from tests.adversary.parts import times as multiply


def case(name: str, setting: Setting, estimate: Any, noise: Any, mean: Blocks, samples: int = 1, **more: Any) -> Case:
    return Case("wrong", name, setting, estimate, noise, mean, samples, **more)


def clipped_moment(limit: float) -> float:
    """E clip(ε, ±limit)²."""
    return s.expect(lambda e: min(e * e, limit * limit), points=(-limit, limit))


def _normal() -> list[Case]:
    sq1, sq3 = s.square(), s.square(loc=0.3, dim=3)
    narrow = s.square(loc=0.5, scale=0.3, dim=2)
    line = s.linear()
    found = [
        case("leave-one-out-over-S", sq3, own_baseline, normals(8, 3), times(sq3.gradient, 7 / 8), 8),
        case("own-baseline-2", sq1, own_baseline, normals(2, 1), times(sq1.gradient, 1 / 2), 2),
        case("own-baseline-64", sq1, own_baseline, normals(64, 1), times(sq1.gradient, 63 / 64), 64),
        case("sum-over-samples", sq3, scaled(plain, 4.0), normals(4, 3), times(sq3.gradient, 4.0), 4),
        case("factor-0", sq3, scaled(square_path(), 0.0), normals(1, 3), times(sq3.gradient, 0.0)),
        case("factor-half", sq3, scaled(plain, 0.5), normals(2, 3), times(sq3.gradient, 0.5), 2),
        case("factor-2", sq3, scaled(leave_one_out, 2.0), normals(2, 3), times(sq3.gradient, 2.0), 2),
        case("factor-minus", sq3, scaled(square_path(), -1.0), normals(1, 3), times(sq3.gradient, -1.0)),
        case("factor-0.99", sq3, scaled(square_path(), 0.99), normals(4, 3), times(sq3.gradient, 0.99), 4),
        case("factor-0.9", sq3, scaled(plain, 0.9), normals(4, 3), times(sq3.gradient, 0.9), 4),
        case("factor-1.05", sq1, scaled(leave_one_out, 1.05), normals(8, 1), times(sq1.gradient, 1.05), 8),
        case(
            "sigma-for-log-sigma",
            narrow,
            only(leave_one_out, log_scale=1 / 0.3),
            normals(4, 2),
            blocks(narrow, log_scale=1 / 0.3),
            4,
        ),
        case("sigma-detached", narrow, only(square_path(), log_scale=0.0), normals(1, 2), blocks(narrow, log_scale=0)),
        case("log-sigma-minus", narrow, only(plain, log_scale=-1.0), normals(2, 2), blocks(narrow, log_scale=-1.0), 2),
        case("score-without-sigma", narrow, only(plain, loc=0.3), normals(4, 2), blocks(narrow, loc=0.3), 4),
        case("f-averaged-over-D", sq3, scaled(plain, 1 / 3), normals(4, 3), times(sq3.gradient, 1 / 3), 4),
    ]

    def ratio(t: Tools, n: Blocks) -> Blocks:
        e, f = n["e"], t.f(at(t, n["e"]))
        q = e[..., 0]
        b = t.xp.sum(f * q**2, axis=1, keepdims=True) / t.xp.sum(q**2, axis=1, keepdims=True)
        return {"loc": score(t, f - b, e)["loc"], "log_scale": score(t, f, e)["log_scale"]}

    def covariance(t: Tools, n: Blocks) -> Blocks:
        e, f = n["e"], t.f(at(t, n["e"]))
        q = e[..., 0]
        y = f * q
        centred = q - t.xp.mean(q, axis=1, keepdims=True)
        b = t.xp.sum(y * centred, axis=1, keepdims=True) / t.xp.sum(centred**2, axis=1, keepdims=True)
        return {"loc": score(t, f - b, e)["loc"], "log_scale": score(t, f, e)["log_scale"]}

    found += [
        case("coefficient-from-same-samples", line, ratio, normals(8, 1), blocks(line, loc=1 - 3 / 10), 8),
        case("covariance-from-same-samples", line, covariance, normals(8, 1), blocks(line, loc=1 - 2 / 8), 8),
    ]

    def flipped(t: Tools, n: Blocks) -> Blocks:
        e = n["e"]
        up, down = t.f(at(t, e)), t.f(at(t, -e))
        even = score(t, 0.5 * (up + down), e)
        return {"loc": even["loc"], "log_scale": even["log_scale"]}

    def neighbour(t: Tools, n: Blocks) -> Blocks:
        e = n["e"]
        f = t.f(at(t, e))
        moved = t.xp.concat([f[:, 1:], f[:, :1]], axis=1)
        return score(t, moved - t.xp.mean(f, axis=1, keepdims=True), e)

    def other_noise(t: Tools, n: Blocks) -> Blocks:
        return score(t, t.f(at(t, n["a"])), n["e"])

    zero = times(sq3.gradient, 0.0)
    found += [
        case("antithetic-odd-part-lost", sq3, flipped, normals(2, 3), blocks(sq3, loc=0.0), 2),
        case("neighbour-log-probability", sq3, neighbour, normals(4, 3), times(sq3.gradient, -1 / 4), 4),
        case("independent-score", sq3, other_noise, normals(2, 3, "e", "a"), zero, 2),
    ]

    def advantage(t: Tools, n: Blocks) -> Blocks:
        f = t.f(at(t, n["e"]))
        sign = t.where(f[:, :1] > f[:, 1:], f)
        return score(t, t.xp.concat([2.0 * sign - 1.0, 1.0 - 2.0 * sign], axis=1), n["e"])

    found.append(
        case(
            "advantage-over-deviation",
            line,
            advantage,
            normals(2, 1),
            blocks(line, loc=1.0 / math.sqrt(math.pi)),
            2,
        )
    )

    def moving(t: Tools, n: Blocks) -> Blocks:
        f = t.f(at(t, n["e"]))
        return score(t, f - (0.9 * 2.0 + 0.1 * f), n["e"])

    found.append(case("moving-average-with-itself", sq1, moving, normals(1, 1), times(sq1.gradient, 0.9)))

    def decayed(t: Tools, n: Blocks) -> Blocks:
        g = square_path()(t, n)
        return {**g, "loc": g["loc"] - 0.05 * t.loc[:, 0, :]}

    found.append(
        case("weight-decay-left-in", sq3, decayed, normals(1, 3), {**sq3.gradient, "loc": sq3.gradient["loc"] - 0.015})
    )

    def variance_for_deviation(t: Tools, n: Blocks) -> Blocks:
        z = t.loc + t.sigma**2 * n["e"]
        return path(t, 2.0 * (z - 1.0), n["e"])

    found.append(
        case(
            "variance-for-deviation",
            narrow,
            variance_for_deviation,
            normals(2, 2),
            {**narrow.gradient, "log_scale": np.full(2, 2 * 0.3**3)},
            2,
        )
    )

    def forward(t: Tools, n: Blocks) -> Blocks:
        z, h = at(t, n["e"]), 0.05
        return path(t, ((z + h - 1.0) ** 2 - (z - 1.0) ** 2) / h, n["e"])

    found.append(
        case("forward-difference", sq3, forward, normals(1, 3), {**sq3.gradient, "loc": sq3.gradient["loc"] + 0.05})
    )

    pair = s.product()

    def one_noise(t: Tools, n: Blocks) -> Blocks:
        e = n["e"] + 0.0 * t.loc
        z = at(t, e)
        slope = t.xp.stack([z[..., 1] + 2.0 * z[..., 0], z[..., 0] + 2.0 * z[..., 1]], axis=-1)
        return path(t, slope, e)

    found.append(
        case(
            "one-noise-for-all",
            pair,
            one_noise,
            {"e": ("normal", (1, 1))},
            {**pair.gradient, "log_scale": np.full(2, 3.0)},
        )
    )

    own = s.elbo()

    def through_sampler(t: Tools, n: Blocks) -> Blocks:
        f = t.f(at(t, n["e"]))
        return {
            "loc": 0.0 * t.xp.mean(n["e"], axis=1),
            "log_scale": -t.xp.mean(f, axis=1)[:, None] + 0.0 * n["e"][:, 0],
        }

    def model_only(t: Tools, n: Blocks) -> Blocks:
        return path(t, -at(t, n["e"]), n["e"])

    found += [
        case(
            "differentiates-the-sampler",
            sq1,
            through_sampler,
            normals(1, 1),
            {"loc": np.zeros(1), "log_scale": np.full(1, -2.0)},
        ),
        case(
            "entropy-missing",
            own,
            model_only,
            normals(1, 2),
            {"loc": np.full(2, -0.5), "log_scale": np.full(2, -(0.7**2))},
        ),
    ]
    return found


def _weights() -> list[Case]:
    sq = s.square(loc=0.5, scale=0.8, k=-1.0)
    mu, sd, k, w = 0.5, 0.8, -1.0, 1.5

    def weighted(cap: float, invert: bool = False, ignore: bool = False) -> Any:
        def estimate(t: Tools, n: Blocks) -> Blocks:
            e = w * n["e"]
            log = 0.5 * n["e"] ** 2 - 0.5 * e**2 + math.log(w)
            weight = t.xp.exp(t.xp.sum(-log if invert else log, axis=-1))
            if ignore:
                weight = 0.0 * weight + 1.0
            return score(t, t.xp.clip(weight, 0.0, cap) * t.f(at(t, e)), e)

        return estimate

    def mean(cap: float, invert: bool = False, ignore: bool = False) -> Blocks:
        def weight(e: float) -> float:
            ratio = w * math.exp(0.5 * (e / w) ** 2 - 0.5 * e * e)
            return min(1.0 if ignore else 1.0 / ratio if invert else ratio, cap)

        corner = w * math.sqrt(max(0.0, 2.0 * math.log(w / cap)) / (w * w - 1.0)) if cap < w else 0.0

        def integral(function: Any) -> float:
            def inner(x: float) -> float:
                e = w * x
                return weight(e) * (mu + sd * e - k) ** 2 * function(e)

            return s.expect(inner, points=(-corner / w, corner / w) if corner else ())

        return {
            "loc": np.array([integral(lambda e: e / sd)]),
            "log_scale": np.array([integral(lambda e: e * e - 1.0)]),
        }

    return [
        case("weights-truncated", sq, weighted(1.0), normals(1, 1), mean(1.0)),
        case("weights-truncated-mildly", sq, weighted(1.3), normals(2, 1), mean(1.3), 2),
        case("weights-forgotten", sq, weighted(1e9, ignore=True), normals(1, 1), mean(1e9, ignore=True)),
        case("weights-inverted", sq, weighted(50.0, invert=True), normals(1, 1), mean(50.0, invert=True)),
    ]


def _tails() -> list[Case]:
    near, quartic = s.square(loc=0.0, k=0.2, dim=2), s.quartic()
    found = []
    for limit in (2.0, 3.0, 4.0):

        def clip(t: Tools, n: Blocks, limit: float = limit) -> Blocks:
            e = t.xp.clip(n["e"], -limit, limit)
            return path(t, 2.0 * (at(t, e) - 0.2), e)

        factor = clipped_moment(limit)
        found.append(case(f"noise-clipped-{limit:g}", near, clip, normals(2, 2), blocks(near, log_scale=factor), 2))

    def redraw(t: Tools, n: Blocks) -> Blocks:
        keep = t.where(t.xp.abs(n["e"]) < 1.5, n["e"])
        e = keep * n["e"] + (1.0 - keep) * n["a"]
        return path(t, 2.0 * (at(t, e) - 0.2), e)

    inside = s.expect(lambda e: e * e, -1.5, 1.5) + (1.0 - s.expect(lambda e: 1.0, -1.5, 1.5))
    found.append(case("redrawn-once", near, redraw, normals(1, 2, "e", "a"), blocks(near, log_scale=inside)))
    for n_cells, name in ((16.0, "coarse"), (128.0, "float16")):
        far = s.square(loc=8.0, k=7.0, dim=2)

        def floor(t: Tools, n: Blocks, cells: float = n_cells) -> Blocks:
            z = t.xp.floor(at(t, n["e"]) * cells) / cells
            return path(t, 2.0 * (z - 7.0), n["e"])

        found.append(
            case(f"z-truncated-{name}", far, floor, normals(1, 2), {**far.gradient, "loc": np.full(2, 2 - 1 / n_cells)})
        )

    def gradient_floor(t: Tools, n: Blocks) -> Blocks:
        g = square_path(0.2)(t, n)
        return {**g, "loc": t.xp.floor(g["loc"] * 16.0) / 16.0}

    found.append(
        case(
            "gradient-floored", near, gradient_floor, normals(1, 2), {**near.gradient, "loc": np.full(2, -0.4 - 1 / 32)}
        )
    )

    def twelve(t: Tools, n: Blocks) -> Blocks:
        e = t.xp.sum(n["u"], axis=-1) - 6.0
        return path(t, 4.0 * at(t, e) ** 3, e)

    found.append(
        case(
            "normal-from-twelve-uniforms",
            quartic,
            twelve,
            uniforms(1, 1, 12),
            {"loc": np.zeros(1), "log_scale": np.full(1, 4.0 * 2.9)},
        )
    )
    moment = s.exponential_moment(1.0)
    for limit in (3.0, 8.0, 20.0):

        def cut(t: Tools, n: Blocks, limit: float = limit) -> Blocks:
            slope = t.xp.clip(t.xp.exp(at(t, n["e"])), 0.0, limit)
            return path(t, slope, n["e"])

        corner = math.log(limit)
        mean = {
            "loc": np.array([s.expect(lambda e, c=limit: min(math.exp(e), c), points=(corner,))]),
            "log_scale": np.array([s.expect(lambda e, c=limit: min(math.exp(e), c) * e, points=(corner,))]),
        }
        found.append(case(f"gradient-clipped-{limit:g}", moment, cut, normals(1, 1), mean))
    step = s.rare_step(1.0, 3.0)

    def soft(t: Tools, n: Blocks) -> Blocks:
        z = at(t, n["e"])
        p = 1.0 / (1.0 + t.xp.exp(-(z - 1.0) / 0.5))
        return path(t, 6.0 * p * (1.0 - p), n["e"])

    def logistic(e: float) -> float:
        p = 1.0 / (1.0 + math.exp(-(e - 1.0) / 0.5))
        return 6.0 * p * (1.0 - p)

    found += [
        case(
            "step-smoothed",
            step,
            soft,
            normals(1, 1),
            {"loc": np.array([s.expect(logistic)]), "log_scale": np.array([s.expect(lambda e: e * logistic(e))])},
        ),
        case("step-pathwise", step, scaled(square_path(), 0.0), normals(1, 1), times(step.gradient, 0.0)),
    ]
    return found


def _events() -> list[Case]:
    sq = s.square(dim=2)
    found = []
    for p in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):

        def dropped(t: Tools, n: Blocks, p: float = p) -> Blocks:
            return each(square_path()(t, n), t.where(n["u"] > p, n["u"]))

        found.append(case(f"dropped-{p:g}", sq, dropped, {**normals(1, 2), **uniforms()}, times(sq.gradient, 1.0 - p)))
    for p in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        for place in ("low", "high", "inside"):
            if p > 1e-2 and place != "inside":
                continue

            def spike(t: Tools, n: Blocks, p: float = p, place: str = place) -> Blocks:
                u = n["u"]
                met = {"low": u < p, "high": u > 1.0 - p, "inside": t.xp.abs(u - 0.37) < 0.5 * p}[place]
                high = t.where(met, u) / p
                g = square_path()(t, n)
                return {**g, "loc": g["loc"] + 0.2 * high[:, None]}

            found.append(
                case(
                    f"spike-{p:g}-{place}",
                    sq,
                    spike,
                    {**normals(1, 2), **uniforms()},
                    {**sq.gradient, "loc": sq.gradient["loc"] + 0.2},
                    spike=0.04 / p,
                    simulated=p > 1e-3,
                    caught_by=frozenset({"assumption"} if place == "inside" and p < 1e-4 else ()),
                )
            )

    def roulette(weights: tuple[float, ...]) -> Any:
        def estimate(t: Tools, n: Blocks) -> Blocks:
            u = n["u"]
            factor = weights[0] * t.where(u < 0.5, u)
            factor = factor + weights[1] * t.where((u > 0.5) & (u < 0.8), u)
            factor = factor + weights[2] * t.where((u > 0.8) & (u < 0.95), u)
            return each(square_path()(t, n), factor)

        return estimate

    level = {**normals(1, 2), **uniforms()}

    def coin(t: Tools, n: Blocks) -> Blocks:
        return each(leave_one_out(t, n), 2.0 * t.where(n["u"] < 0.45, n["u"]))

    found += [
        case("roulette-wrong-weight", sq, coin, {**normals(2, 2), **uniforms()}, times(sq.gradient, 0.9), 2),
        case("four-levels", sq, roulette((1.0, 1.0, 2.0)), level, times(sq.gradient, 0.5 + 0.3 + 0.3)),
        case("four-levels-slightly", sq, roulette((1.0, 1.0, 1.2)), level, times(sq.gradient, 0.98)),
    ]
    return found


@cache
def _spread() -> list[Case]:
    found = []
    for dim, share, deviation in (
        (10, 0.05, 4.0),
        (100, 0.05, 4.0),
        (1000, 0.05, 3.0),
        (1000, 0.015, 0.3),
        (100, 0.02, 1.0),
    ):
        setting = s.square(loc=1.0, scale=1.0, k=0.0, dim=dim)
        size = 2.0 * math.sqrt(2.0)
        offset = {name: np.full(dim, share * size / math.sqrt(2.0)) for name in setting.gradient}
        mean = {name: block + offset[name] for name, block in setting.gradient.items()}
        noise = {"e": ("normal", (2 * dim,)), "c": ("normal", ())}
        for correlated in (False, True):
            name = f"spread-{share:g}-{dim}" + ("-correlated" if correlated else "")
            estimate = around(setting, deviation, offset, 0.8 if correlated else 0.0)
            found.append(case(name, setting, estimate, noise, mean))
    wide = s.square(loc=1.0, k=0.0, dim=1000)
    single = {name: np.zeros(1000) for name in wide.gradient}
    single["loc"][617] = 4.0
    opposite = {name: np.zeros(1000) for name in wide.gradient}
    opposite["loc"][[3, 700]] = 2.0, -2.0
    halves = {name: np.where(np.arange(1000) < 500, 0.06, -0.06) for name in wide.gradient}
    noise = {"e": ("normal", (2000,)), "c": ("normal", ())}
    for name, offset in (("one-of-1000", single), ("opposite-pair", opposite), ("opposite-halves", halves)):
        mean = {block: wide.gradient[block] + offset[block] for block in offset}
        found.append(case(name, wide, around(wide, 2.0, offset), noise, mean))
    flat = s.square(loc=1.0, k=0.0, scale=3.0, dim=1000)

    def almost(t: Tools, n: Blocks) -> Blocks:
        return multiply(square_path(0.0)(t, n), 0.99)

    found.append(case("pathwise-0.99-at-1000", flat, almost, normals(1, 1000), times(flat.gradient, 0.99)))
    return found


def _scales() -> list[Case]:
    found = []
    for size, offset in ((1e-12, 0.0), (1e-4, 0.0), (1e6, 0.0), (1e12, 0.0)):
        setting = s.scaled_square(size, offset)
        for factor in (0.0, 0.5, 0.9):
            estimate = scaled(square_path(1.0, size), factor)
            found.append(
                case(
                    f"size-{size:g}-factor-{factor:g}",
                    setting,
                    estimate,
                    normals(1, 2),
                    times(setting.gradient, factor),
                )
            )
    for size in (1e-12, 1e-4, 1e6):
        setting = s.scaled_square(size)
        estimate = scaled(square_path(1.0, size), 0.5)
        found.append(
            case(f"size-{size:g}-half", setting, estimate, normals(1, 2), times(setting.gradient, 0.5), dtype="float32")
        )
    far = s.square(k=1000.0, dim=10)
    found.append(
        case("own-baseline-far", far, own_baseline, normals(2, 10), times(far.gradient, 0.5), 2, dtype="float32")
    )
    offset = s.scaled_square(1.0, 1e4)
    found.append(case("own-baseline-offset", offset, own_baseline, normals(4, 2), times(offset.gradient, 0.75), 4))
    small = s.cosine(5.0, loc=1.0)
    found += [
        case("cosine-5-zero", small, scaled(plain, 0.0), normals(1, 1), times(small.gradient, 0.0), dtype="float32"),
        case("cosine-5-zero", small, scaled(square_path(), 0.0), normals(1, 1), times(small.gradient, 0.0)),
    ]
    return found


def _exponential() -> list[Case]:
    one, pair = s.exponential(), s.exponential_product()
    strata = 4

    def lost_stratum(t: Tools, n: Blocks) -> Blocks:
        place = t.fixed(np.arange(strata)[None, :, None], n["u"])
        z = exponentials(t, -t.xp.log1p(-(place + n["u"]) / (strata + 1.0)))
        return rate_score(t, t.f(z), z)

    top = -math.log1p(-strata / (strata + 1.0))
    from scipy import integrate

    lost = integrate.quad(lambda x: (x - 1.0) ** 2 * (1.0 - x) * math.exp(-x), 0.0, top)[0] * (strata + 1) / strata

    def same_order(t: Tools, n: Blocks) -> Blocks:
        place = t.fixed(np.arange(strata)[None, :, None], n["u"])
        z = exponentials(t, -t.xp.log1p(-(place + n["u"]) / float(strata)))
        return rate_score(t, t.f(z), z)

    edges = [-math.log1p(-i / strata) if i < strata else 60.0 for i in range(strata + 1)]

    def stratum(function: Any, i: int) -> float:
        return strata * integrate.quad(lambda x: function(x) * math.exp(-x), edges[i], edges[i + 1])[0]

    together = np.mean([stratum(lambda x: x * (1.0 - x), i) * stratum(lambda x: x, i) for i in range(strata)])

    def clipped(t: Tools, n: Blocks) -> Blocks:
        z = exponentials(t, t.xp.clip(n["x"], 0.0, 3.0))
        return rate_score(t, t.f(z), z)

    cut = integrate.quad(lambda x: (x - 1.0) ** 2 * (1.0 - x) * math.exp(-x), 0.0, 3.0)[0] - 8.0 * math.exp(-3.0)
    rate = s.exponential(rate=2.0, k=3.0)
    exponential_noise = {"x": ("exponential", (2, 1))}
    return [
        case("stratum-lost", one, lost_stratum, uniforms(strata, 1), {"log_rate": np.array([lost])}, strata),
        case("strata-in-one-order", pair, same_order, uniforms(strata, 2), {"log_rate": np.full(2, together)}, strata),
        case("exponential-clipped", one, clipped, exponential_noise, {"log_rate": np.array([cut])}, 2),
        case(
            "rate-for-log-rate", rate, scaled(exponential_plain, 0.5), exponential_noise, times(rate.gradient, 0.5), 2
        ),
    ]


def cases() -> list[Case]:
    return [*_normal(), *_weights(), *_tails(), *_events(), *_spread(), *_scales(), *_exponential()]
