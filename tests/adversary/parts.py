"""Pieces of estimates, written by hand: samples, scores and means of a Normal, a Bernoulli, an exponential."""

from __future__ import annotations

from typing import Any

from tests.adversary.cases import Blocks, Setting, Tools


def normals(samples: int, dim: int, *names: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    return dict.fromkeys(names or ("e",), ("normal", (samples, dim)))


def uniforms(*shape: int, name: str = "u") -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: ("uniform", shape)}


def score(t: Tools, weight: Any, e: Any) -> Blocks:
    """Mean over samples of weight [R, S] times the score of a Normal at ε [R, S, D]."""
    w = weight[..., None]
    return {
        "loc": t.xp.mean(w * (e / t.sigma), axis=1),
        "log_scale": t.xp.mean(w * (e**2 - 1.0), axis=1),
    }


def path(t: Tools, slope: Any, e: Any) -> Blocks:
    """Mean over samples of slope [R, S, D] along the path of z = μ + σε."""
    return {"loc": t.xp.mean(slope, axis=1), "log_scale": t.xp.mean(slope * (t.sigma * e), axis=1)}


def at(t: Tools, e: Any) -> Any:
    return t.loc + t.sigma * e


def plain(t: Tools, n: Blocks) -> Blocks:
    """Score function."""
    return score(t, t.f(at(t, n["e"])), n["e"])


def leave_one_out(t: Tools, n: Blocks) -> Blocks:
    f = t.f(at(t, n["e"]))
    size = f.shape[1]
    return times(score(t, f - t.xp.mean(f, axis=1, keepdims=True), n["e"]), size / (size - 1.0))


def own_baseline(t: Tools, n: Blocks) -> Blocks:
    """Score function less the mean of f with the sample itself in it: (S − 1)/S of the gradient."""
    f = t.f(at(t, n["e"]))
    return score(t, f - t.xp.mean(f, axis=1, keepdims=True), n["e"])


def square_path(k: float = 1.0, size: float = 1.0) -> Any:
    """Pathwise gradient of size · Σ (z − k)²."""

    def estimate(t: Tools, n: Blocks) -> Blocks:
        return path(t, (2.0 * size) * (at(t, n["e"]) - k), n["e"])

    return estimate


def times(blocks: Blocks, factor: Any) -> Blocks:
    return {name: block * factor for name, block in blocks.items()}


def each(blocks: Blocks, factor: Any) -> Blocks:
    """Multiply every replicate's estimate by its factor [R]."""
    return {name: block * factor[:, None] for name, block in blocks.items()}


def scaled(estimate: Any, factor: float) -> Any:
    return lambda t, n: times(estimate(t, n), factor)


def only(estimate: Any, **factors: float) -> Any:
    """Multiply single blocks."""
    return lambda t, n: {name: block * factors.get(name, 1.0) for name, block in estimate(t, n).items()}


def blocks(setting: Setting, **factors: float) -> Blocks:
    """The exact gradient with single blocks multiplied."""
    return {name: block * factors.get(name, 1.0) for name, block in setting.gradient.items()}


def probability(t: Tools) -> Any:
    """p of every Bernoulli, [1, 1, D]."""
    return 1.0 / (1.0 + t.xp.exp(-t.row("logits")))


def bits(t: Tools, u: Any) -> Any:
    return t.where(u < probability(t), u)


def logit_score(t: Tools, weight: Any, z: Any) -> Blocks:
    return {"logits": t.xp.mean(weight[..., None] * (z - probability(t)), axis=1)}


def bernoulli_plain(t: Tools, n: Blocks) -> Blocks:
    z = bits(t, n["u"])
    return logit_score(t, t.f(z), z)


def bernoulli_leave_one_out(t: Tools, n: Blocks) -> Blocks:
    z = bits(t, n["u"])
    f = t.f(z)
    size = f.shape[1]
    return times(logit_score(t, f - t.xp.mean(f, axis=1, keepdims=True), z), size / (size - 1.0))


def rate_score(t: Tools, weight: Any, z: Any) -> Blocks:
    rate = t.xp.exp(t.row("log_rate"))
    return {"log_rate": t.xp.mean(weight[..., None] * (1.0 - rate * z), axis=1)}


def exponentials(t: Tools, e: Any) -> Any:
    return e / t.xp.exp(t.row("log_rate"))


def exponential_plain(t: Tools, n: Blocks) -> Blocks:
    z = exponentials(t, n["x"])
    return rate_score(t, t.f(z), z)


def around(setting: Setting, deviation: float, offset: Blocks | None = None, shared: float = 0.0) -> Any:
    """Return the exact gradient, plus `offset`, plus Normal noise `e` [P]; a share of it is `c`, common to all."""

    def estimate(t: Tools, n: Blocks) -> Blocks:
        found, start = {}, 0
        for name, block in setting.gradient.items():
            size = block.size
            e = n["e"][:, start : start + size]
            start += size
            if shared:
                e = (1.0 - shared) ** 0.5 * e + shared**0.5 * n["c"][:, None]
            mean = block if offset is None else block + offset[name]
            found[name] = t.fixed(mean, e)[None, :] + deviation * e
        return found

    return estimate
