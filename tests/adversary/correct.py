"""Correct estimators, by hand, in the forms that are hardest to tell from wrong ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from tests.adversary import settings as s
from tests.adversary.cases import Blocks, Case, Setting, Tools
from tests.adversary.parts import (
    around,
    at,
    bernoulli_leave_one_out,
    bernoulli_plain,
    bits,
    each,
    exponential_plain,
    exponentials,
    leave_one_out,
    logit_score,
    normals,
    path,
    plain,
    probability,
    rate_score,
    score,
    square_path,
    uniforms,
)
from tests.adversary.parts import times as multiply
from tests.adversary.wrong_discrete import arm, choose, disarm, edges, table_score


def case(name: str, setting: Setting, estimate: Any, noise: Any, samples: int = 1, **more: Any) -> Case:
    return Case("correct", name, setting, estimate, noise, setting.gradient, samples, **more)


def antithetic(t: Tools, n: Blocks) -> Blocks:
    up, down = score(t, t.f(at(t, n["e"])), n["e"]), score(t, t.f(at(t, -n["e"])), -n["e"])
    return {name: 0.5 * (up[name] + down[name]) for name in up}


def antithetic_path(t: Tools, n: Blocks) -> Blocks:
    up = square_path()(t, n)
    down = square_path()(t, {"e": -n["e"]})
    return {name: 0.5 * (up[name] + down[name]) for name in up}


def importance(width: float, share: float = 0.0) -> Any:
    """Score function, ε from N(0, width²), or from a mixture with a share of N(0, 1), weighted."""

    def estimate(t: Tools, n: Blocks) -> Blocks:
        x = n["e"]
        e = width * x
        if share:
            nominal = t.where(n["u"] < share, n["u"])[..., None]
            e = nominal * x + (1.0 - nominal) * e
        square = t.xp.sum(e**2, axis=-1)
        dim = x.shape[-1]
        wide = t.xp.exp(-0.5 * square / width**2) / width**dim
        target = t.xp.exp(-0.5 * square)
        weight = target / (share * target + (1.0 - share) * wide)
        return score(t, weight * t.f(at(t, e)), e)

    return estimate


def _normal() -> list[Case]:
    sq1, sq3, far = s.square(), s.square(loc=0.3, dim=3), s.square(loc=8.0, k=7.0, dim=2)
    quartic, line, pair = s.quartic(0.5, 0.8, 2), s.linear(), s.product()
    wide = s.square(loc=0.2, k=0.0, dim=1000)

    def known_mean(t: Tools, n: Blocks) -> Blocks:
        """A control variate of known mean: Σ (ε² − 1), coefficient 0.8."""
        e = n["e"]
        f = t.f(at(t, e)) - 0.8 * t.xp.sum(e**2 - 1.0, axis=-1)
        g = score(t, f, e)
        return {"loc": g["loc"], "log_scale": g["log_scale"] + 1.6}

    def cross_fitted(t: Tools, n: Blocks) -> Blocks:
        """Each half takes its baseline from the other."""
        f = t.f(at(t, n["e"]))
        half = f.shape[1] // 2
        first, second = f[:, :half], f[:, half:]
        b = t.xp.concat(
            [
                0.0 * first + t.xp.mean(second, axis=1, keepdims=True),
                0.0 * second + t.xp.mean(first, axis=1, keepdims=True),
            ],
            axis=1,
        )
        return score(t, f - b, n["e"])

    def own_terms(t: Tools, n: Blocks) -> Blocks:
        e = n["e"]
        term = (at(t, e) - 1.0) ** 2
        return {
            "loc": t.xp.mean(term * e / t.sigma, axis=1),
            "log_scale": t.xp.mean(term * (e**2 - 1.0), axis=1),
        }

    def constant(t: Tools, n: Blocks) -> Blocks:
        return {name: 0.0 * n["e"][:, 0] + t.fixed(block, n["e"])[None] for name, block in sq3.gradient.items()}

    def slope(t: Tools, n: Blocks) -> Blocks:
        return path(t, 1.0 + 0.0 * n["e"], n["e"])

    def exact_slope(t: Tools, n: Blocks) -> Blocks:
        return {"loc": 1.0 + 0.0 * n["e"][:, 0], "log_scale": 0.0 * n["e"][:, 0]}

    def cubic(t: Tools, n: Blocks) -> Blocks:
        return path(t, 4.0 * at(t, n["e"]) ** 3, n["e"])

    def price(t: Tools, n: Blocks) -> Blocks:
        z = at(t, n["e"])
        return {"loc": t.xp.mean(4.0 * z**3, axis=1), "log_scale": t.xp.mean(12.0 * z**2 * t.sigma**2, axis=1)}

    def coupled(t: Tools, n: Blocks) -> Blocks:
        slopes = at(t, n["e"])
        return path(
            t, t.xp.stack([slopes[..., 1] + 2 * slopes[..., 0], slopes[..., 0] + 2 * slopes[..., 1]], axis=-1), n["e"]
        )

    def weak(t: Tools, n: Blocks) -> Blocks:
        """Measure-valued ∂loc from Rayleigh noise; ∂log σ from Maxwell and Normal noise, with D = 1."""
        w, m, e = n["w"], n["m"], n["e"]
        up, down = t.f(at(t, w)), t.f(at(t, -w))
        loc = t.xp.mean((up - down)[..., None] / (t.sigma * math.sqrt(2.0 * math.pi)), axis=1)
        spread = t.xp.mean((t.f(at(t, m)) - t.f(at(t, e)))[..., None] + 0.0 * e, axis=1)
        return {"loc": loc, "log_scale": spread}

    def signs(t: Tools, n: Blocks) -> Blocks:
        """Central differences along random signs, which are exact for a quadratic."""
        z, r, h = at(t, n["e"]), n["r"], 0.7
        along = (t.f(z + h * r) - t.f(z - h * r)) / (2.0 * h)
        return path(t, along[..., None] * r, n["e"])

    def half_line(t: Tools, n: Blocks) -> Blocks:
        """ε as a sign times a half-Normal that is chosen among 6 proposals, with the chance of none made up for."""
        x, u = n["x"], n["v"]
        accept = u < t.xp.exp(-0.5 * (x - 1.0) ** 2)
        taken, left = 0.0 * x[..., 0], 1.0 + 0.0 * x[..., 0]
        for i in range(6):
            now = left * t.where(accept[..., i], x)
            taken = taken + now * x[..., i]
            left = left - now
        e = (taken * n["r"])[..., None]
        chance = math.sqrt(math.pi / (2.0 * math.e))
        found = (1.0 - left) / (1.0 - (1.0 - chance) ** 6)
        return score(t, found * t.f(at(t, e)), e)

    small = {"e": ("normal", (1, 1)), "w": ("rayleigh", (1, 1)), "m": ("maxwell", (1, 1))}
    shared = s.scaled_square(1.0, 0.0, dim=2)
    plus = {"e": ("normal", (2000,)), "c": ("normal", ())}
    return [
        case("score-function", sq3, plain, normals(2, 3), 2),
        case("leave-one-out-2", sq3, leave_one_out, normals(2, 3), 2),
        case("leave-one-out-8", sq1, leave_one_out, normals(8, 1), 8),
        case("cross-fitted", sq3, cross_fitted, normals(4, 3), 4),
        case("antithetic-score", sq1, antithetic, normals(1, 1)),
        case("antithetic-path", sq3, antithetic_path, normals(1, 3)),
        case("importance-wide", sq1, importance(1.5), normals(1, 1)),
        case("importance-mixture", far, importance(2.0, 0.5), {**normals(2, 2), **uniforms(2)}, 2),
        case("known-mean-control", sq3, known_mean, normals(2, 3), 2),
        case("own-terms", sq3, own_terms, normals(2, 3), 2),
        case("constant", sq3, constant, normals(1, 3)),
        case("linear-path", line, slope, normals(1, 1)),
        case("linear-exact", line, exact_slope, normals(1, 1)),
        case("linear-score", line, plain, normals(2, 1), 2),
        case("quartic-path", quartic, cubic, normals(1, 2)),
        case("quartic-price", quartic, price, normals(1, 2)),
        case("quartic-score", quartic, leave_one_out, normals(4, 2), 4),
        case("product-path", pair, coupled, normals(2, 2), 2),
        case("measure-valued-by-hand", sq1, weak, small),
        case("random-signs", sq3, signs, {**normals(1, 3), "r": ("rademacher", (1, 3))}),
        case(
            "rejection-of-6",
            sq1,
            half_line,
            {"x": ("exponential", (1, 6)), "v": ("uniform", (1, 6)), "r": ("rademacher", (1,))},
        ),
        case("noise-at-1000", wide, around(wide, 3.0), plus),
        case("correlated-at-1000", wide, around(wide, 3.0, shared=0.9), plus),
        case("quadratic-path", shared, square_path(), normals(1, 2)),
    ]


def _scales() -> list[Case]:
    found = []
    for size in (1e-12, 1e-4, 1e6, 1e12):
        setting = s.scaled_square(size)
        for dtype in ("float64", "float32"):
            if size == 1e12 and dtype == "float32":
                continue
            found.append(case(f"size-{size:g}", setting, square_path(1.0, size), normals(1, 2), dtype=dtype))
        found.append(case(f"size-{size:g}-leave-one-out", setting, leave_one_out, normals(4, 2), 4))
    for offset, dtype in ((1e3, "float32"), (1e6, "float64"), (-1e9, "float64")):
        setting = s.scaled_square(1.0, offset)
        found.append(case(f"offset-{offset:g}", setting, leave_one_out, normals(4, 2), 4, dtype=dtype))
    small = s.cosine(5.0)

    def sine(t: Tools, n: Blocks) -> Blocks:
        return path(t, -5.0 * t.xp.sin(5.0 * at(t, n["e"])), n["e"])

    found += [
        case("cosine-5-path", small, sine, normals(1, 1)),
        case("cosine-5-path", small, sine, normals(1, 1), dtype="float32"),
        case("square-far-float32", s.square(k=1000.0, dim=10), leave_one_out, normals(2, 10), 2, dtype="float32"),
    ]
    return found


def _heavy() -> list[Case]:
    found = []
    for a in (1.0, 1.5, 2.0, 2.5, 3.0):
        setting = s.exponential_moment(a)

        def slope(t: Tools, n: Blocks, a: float = a) -> Blocks:
            return path(t, a * t.xp.exp(a * at(t, n["e"])), n["e"])

        found.append(case(f"log-normal-{a:g}", setting, slope, normals(1, 1), simulated=False))
        found.append(case(f"log-normal-{a:g}-score", setting, leave_one_out, normals(4, 1), 4, simulated=False))
    for t_edge, height in ((3.72, 1e3), (4.26, 1e4), (4.75, 1e5), (5.2, 1e6)):
        setting = s.rare_step(t_edge, height)
        found.append(case(f"rare-step-{t_edge}", setting, plain, normals(2, 1), 2, simulated=False))
    found.append(case("rare-penalty", s.rare_penalty(5.5, 2e4, 0.5), plain, normals(4, 4), 4, simulated=False))
    found.append(
        case("rare-penalty-pair", s.rare_penalty(5.0, 2e4, 0.5), leave_one_out, normals(2, 4), 2, simulated=False)
    )
    sq = s.square(dim=2)
    for p in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7):

        def rests(t: Tools, n: Blocks, p: float = p) -> Blocks:
            return each(square_path()(t, n), t.where(n["u"] < p, n["u"]) / p)

        found.append(case(f"rests-on-{p:g}", sq, rests, {**normals(1, 2), **uniforms()}, simulated=p > 1e-3))
    for df in (2.2, 3.0, 4.1):

        def student(t: Tools, n: Blocks, df: float = df) -> Blocks:
            radius = t.xp.sqrt(df * t.xp.expm1(2.0 * n["x"] / df))
            x = radius * t.xp.cos(2.0 * math.pi * n["u"])
            return {"loc": -2.0 + x, "log_scale": 2.0 + 0.3 * x}

        found.append(
            case(
                f"student-{df:g}",
                s.square(dim=2),
                student,
                {"x": ("exponential", (2,)), "u": ("uniform", (2,))},
                simulated=False,
            )
        )
    for a in (0.2, 0.4, 0.48):

        def pareto(t: Tools, n: Blocks, a: float = a) -> Blocks:
            z = exponentials(t, n["x"])
            return {"log_rate": t.xp.mean(-a * z * t.xp.exp(a * z), axis=1)}

        setting = s.pareto_like(a)
        found.append(case(f"pareto-path-{a:g}", setting, pareto, {"x": ("exponential", (1, 1))}, simulated=False))
        found.append(
            case(f"pareto-score-{a:g}", setting, exponential_plain, {"x": ("exponential", (2, 1))}, 2, simulated=False)
        )

    def poisson_type(t: Tools, n: Blocks) -> Blocks:
        """exp of a Normal of deviation 2 less its mean, beside a light estimate."""
        high = t.xp.exp(2.0 * n["a"] - 2.0) - 1.0
        g = square_path()(t, n)
        return {name: block + 3.0 * high[:, None] for name, block in g.items()}

    def two_sided(t: Tools, n: Blocks) -> Blocks:
        high = t.xp.exp(1.5 * n["a"]) - t.xp.exp(-1.5 * n["a"])
        g = square_path()(t, n)
        return {name: block + high[:, None] for name, block in g.items()}

    extra = {**normals(1, 2), "a": ("normal", ())}
    found += [
        case("poisson-type", sq, poisson_type, extra, simulated=False),
        case("two-sided-tails", sq, two_sided, extra, simulated=False),
    ]
    return found


def _own_noise() -> list[Case]:
    sq = s.square(dim=2)
    one = {**normals(1, 2), **uniforms()}

    def coin(t: Tools, n: Blocks) -> Blocks:
        return each(square_path()(t, n), 2.0 * t.where(n["u"] > 0.5, n["u"]))

    def roulette(t: Tools, n: Blocks) -> Blocks:
        return each(plain(t, n), t.where(n["u"] < 0.07, n["u"]) / 0.07)

    def levels(t: Tools, n: Blocks) -> Blocks:
        """Σ_k 2^−k as a series that is cut off at random with weights 1/P(reached)."""
        u = n["u"]
        total = 0.0 * u
        for k in range(12):
            total = total + 0.5 ** (k + 1) * t.where(u < 0.7**k, u) / 0.7**k
        return each(square_path()(t, n), total / (1.0 - 0.5**12))

    def balanced(t: Tools, n: Blocks) -> Blocks:
        factor = 0.0 * n["u"]
        for i in range(8):
            inside = t.where((n["u"] >= i / 8) & (n["u"] < (i + 1) / 8), n["u"])
            factor = factor + inside * (1.0 + (0.5 if i % 2 else -0.5))
        return each(square_path()(t, n), factor)

    def jitter(t: Tools, n: Blocks) -> Blocks:
        """Stochastic rounding to multiples of 1/4 by a uniform of its own."""
        g = square_path()(t, n)
        return {name: t.xp.floor(4.0 * block + n["v"]) / 4.0 for name, block in g.items()}

    def rows(t: Tools, n: Blocks) -> Blocks:
        """A minibatch of a sum whose terms have the weights 0.1, 0.2, …, 2.0, of sum 21."""
        chosen = n["rows"]
        weight = 0.1 * (t.xp.astype(chosen, n["e"].dtype) + 1.0)
        factor = t.xp.sum(weight, axis=-1) * (20.0 / 4.0) / 21.0
        return each(square_path()(t, n), factor)

    strata = 4

    def stratified(t: Tools, n: Blocks) -> Blocks:
        place = t.fixed(np.arange(strata)[None, :, None], n["u"])
        z = exponentials(t, -t.xp.log1p(-(place + n["u"]) / float(strata)))
        return rate_score(t, t.f(z), z)

    def sobol(t: Tools, n: Blocks) -> Blocks:
        z = exponentials(t, -t.xp.log1p(-n["net"]))
        return rate_score(t, t.f(z), z)

    def stratum_path(t: Tools, n: Blocks) -> Blocks:
        z = exponentials(t, -t.xp.log1p(-n["p"]))
        return {"log_rate": t.xp.mean(-2.0 * (z - 1.0) * z, axis=1)}

    exponential = s.exponential()
    return [
        case("fair-coin", sq, coin, one),
        case("roulette", sq, roulette, one),
        case("random-truncation", sq, levels, one),
        case("balanced-ladder", sq, balanced, one),
        case("stochastic-rounding", sq, jitter, {**normals(1, 2), "v": ("uniform", (2,))}),
        case("minibatch-rows", sq, rows, {**normals(1, 2), "rows": ("rows", (4,))}, population=20),
        case("strata-by-hand", exponential, stratified, uniforms(strata, 1), strata),
        case("sobol-by-hand", exponential, sobol, {"net": ("sobol", (4, 1))}, 4),
        case("stratum-noise", exponential, stratum_path, {"p": ("stratum", (1, 1))}),
        case("exponential-score", exponential, exponential_plain, {"x": ("exponential", (2, 1))}, 2),
    ]


def _discrete() -> list[Case]:
    b1, b2, rare, pair, table = (
        s.bernoulli(0.3),
        s.bernoulli(0.3, dim=2),
        s.bernoulli(0.02),
        s.bernoulli_pair(),
        s.categorical(),
    )
    p = special.softmax(s.LOGITS)

    def mirrored(t: Tools, n: Blocks) -> Blocks:
        first, second = bernoulli_plain(t, n), bernoulli_plain(t, {"u": 1.0 - n["u"]})
        return {"logits": 0.5 * (first["logits"] + second["logits"])}

    def from_half(t: Tools, n: Blocks) -> Blocks:
        z, q = t.where(n["u"] < 0.5, n["u"]), probability(t)
        weight = t.xp.prod(2.0 * (z * q + (1.0 - z) * (1.0 - q)), axis=-1)
        return logit_score(t, weight * t.f(z), z)

    def enumerated(t: Tools, n: Blocks) -> Blocks:
        q = probability(t) + 0.0 * n["u"]
        return {"logits": t.xp.mean(q * (1.0 - q) * -1.0, axis=1)}

    def one_summed(t: Tools, n: Blocks) -> Blocks:
        """The first Bernoulli is summed out, the second is sampled."""
        q = probability(t)
        z = bits(t, n["u"])[..., 1:]
        one = t.xp.concat([0.0 * z + 1.0, z], axis=-1)
        zero = t.xp.concat([0.0 * z, z], axis=-1)
        first = (q[..., :1] * (1.0 - q[..., :1])) * (t.f(one) - t.f(zero))[..., None]
        mean = q[..., 0] * t.f(one) + (1.0 - q[..., 0]) * t.f(zero)
        second = mean[..., None] * (z - q[..., 1:])
        return {"logits": t.xp.mean(t.xp.concat([first, second], axis=-1), axis=1)}

    def gumbel(t: Tools, n: Blocks) -> Blocks:
        keys = t.fixed(s.LOGITS[None, None, :], n["x"]) - t.xp.log(n["x"])
        z = t.where(keys == t.xp.max(keys, axis=-1, keepdims=True), n["x"])
        return table_score(t, t.f(z), z)

    def inverse(t: Tools, n: Blocks) -> Blocks:
        z = choose(t, n["u"], edges(p))
        f = t.f(z)
        size = f.shape[1]
        return multiply(table_score(t, f - t.xp.mean(f, axis=1, keepdims=True), z), size / (size - 1.0))

    def uniform_proposal(t: Tools, n: Blocks) -> Blocks:
        z = choose(t, n["u"], edges(np.full(5, 0.2)))
        weight = t.xp.sum(z * t.fixed(5.0 * p[None, None, :], z), axis=-1)
        return table_score(t, weight * t.f(z), z)

    def coin(t: Tools, n: Blocks) -> Blocks:
        return each(bernoulli_plain(t, n), 2.0 * t.where(n["coin"] > 0.5, n["coin"]))

    def linear_straight_through(t: Tools, n: Blocks) -> Blocks:
        q = probability(t) + 0.0 * n["u"]
        slope = t.xp.stack([3.0 * bits(t, n["u"])[..., 1] + 1.0, 3.0 * bits(t, n["u"])[..., 0] - 2.0], axis=-1)
        return {"logits": t.xp.mean(slope * q * (1.0 - q), axis=1)}

    coins = {**uniforms(1, 1), **uniforms(name="coin")}
    return [
        case("bernoulli-score", b2, bernoulli_plain, uniforms(2, 2), 2),
        case("bernoulli-leave-one-out", b2, bernoulli_leave_one_out, uniforms(3, 2), 3),
        case("bernoulli-rare", rare, bernoulli_leave_one_out, uniforms(2, 1), 2),
        case("disarm-by-hand", b1, lambda t, n: disarm(t, n["u"]), uniforms(1, 1)),
        case("disarm-of-4", b1, lambda t, n: disarm(t, n["u"]), uniforms(4, 1), 4),
        case("arm-by-hand", b1, lambda t, n: arm(t, n["u"]), uniforms(1, 1)),
        case("antithetic-bernoulli", b1, mirrored, uniforms(1, 1)),
        case("proposal-one-half", b2, from_half, uniforms(1, 2)),
        case("enumeration-by-hand", b1, enumerated, uniforms(1, 1)),
        case("one-coordinate-summed", pair, one_summed, uniforms(2, 2), 2),
        case("gumbel-max", table, gumbel, {"x": ("exponential", (1, 5))}),
        case("inverse-cdf-leave-one-out", table, inverse, uniforms(4), 4),
        case("uniform-proposal", table, uniform_proposal, uniforms(2), 2),
        case("coin-of-weight-2", b1, coin, coins),
        case("multilinear-slope", pair, linear_straight_through, uniforms(1, 2)),
    ]


def cases() -> list[Case]:
    return [*_normal(), *_scales(), *_heavy(), *_own_noise(), *_discrete()]
