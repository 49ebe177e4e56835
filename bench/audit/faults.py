"""The likely fault of a biased gradient, told from where its mean lies relative to the exact gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.audit.inference import is_module
from gradmeter.bench.audit.parts import SCALES, named, numbers
from gradmeter.bench.measurement.direction import cosine, sampled_scale
from gradmeter.estimators import UsageError

#: Standard errors beyond which a coordinate is off, and within which it agrees with an explanation.
OFF, WITHIN = 5.0, 4.0
#: Largest part of the bias that an explanation may leave unexplained.
LEFT = 0.1
#: Part of the bias, and of the mean, that may lie across the exact gradient where the bias is one of scale.
TURNED = 0.05
#: Cosine to the exact gradient above which a bias is mostly one of scale.
NEARLY = 0.98


@dataclass(frozen=True)
class Means:
    """The mean gradient, by part, beside the exact one.

    Attributes
    ----------
    mean, error, exact
        Mean, its standard error, and the exact gradient, each [P] by part.
    groups
        Mean of each of the 64 groups of replicates, [64, P] by part.
    """

    mean: dict[str, np.ndarray]
    error: dict[str, np.ndarray]
    exact: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]

    def joined(self, names: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return mean, error, exact [P] and groups [64, P] of these parts together; of all if `names` is absent."""
        chosen = list(self.mean) if names is None else list(names)
        return (
            np.concatenate([self.mean[n] for n in chosen]),
            np.concatenate([self.error[n] for n in chosen]),
            np.concatenate([self.exact[n] for n in chosen]),
            np.concatenate([self.groups[n] for n in chosen], axis=1),
        )

    @property
    def cosine(self) -> float | None:
        """Cosine of the mean gradient to the exact one; None where one is 0."""
        mean, error, exact, _ = self.joined()
        return cosine(mean, error, exact)

    def scale(self, names: Any = None) -> tuple[float, float, float] | None:
        """Return the factor a with which a g is nearest to the mean, and its 95 % interval; None where g = 0."""
        _, _, exact, groups = self.joined(names)
        return sampled_scale(groups, exact)


def likely_fault(
    means: Means, parameters: Any, num_samples: int | None, entropy: Mapping[str, np.ndarray]
) -> str | None:
    """Return what the bias looks like, in a few words; None where it has no simple form.

    Parameters
    ----------
    means
        Mean, error and exact gradient of every part.
    parameters
        Those of the gradient, for the values of scales among them.
    num_samples
        S, if it is known.
    entropy
        Gradient of q's entropy by part, where it is known.
    """
    mean, error, exact, _ = means.joined()
    off = _off(mean - exact, error)
    if not off.any():
        return None
    if exact.any() and not _off(mean, error).any():
        return "its mean is 0" if _small(mean, error, exact) else None
    whole = _scaled(means, None, num_samples)
    if whole is not None:
        return whole
    added = _entropy(means, entropy)
    if added is not None:
        return added
    wrong = [name for name in means.mean if _off(means.mean[name] - means.exact[name], means.error[name]).any()]
    right = [name for name in means.mean if name not in wrong]
    scales = _scales(parameters)
    each = [_of_part(name, means, scales, num_samples) for name in wrong]
    if right or all(each):
        found = [f"{name} {said}" if said else f"{name} is off" for name, said in zip(wrong, each, strict=True)]
        text = "; ".join(found[:3]) + (f" and {len(found) - 3} more parts" if len(found) > 3 else "")
        return text + (f"; {', '.join(right[:3])} right" if right else "")
    offset = mean - exact
    if len(offset) > 1 and np.all(np.abs(offset - offset.mean()) <= WITHIN * error + LEFT * abs(offset.mean())):
        return f"every coordinate is off by the same amount, {offset.mean():.3g}"
    turned, scale = means.cosine, means.scale()
    if turned is None or scale is None:
        return None
    if turned > NEARLY:
        factor, low, high = scale
        return f"nearly scaled by {factor:.4g} [{low:.4g}, {high:.4g}]: cosine {turned:.4g} to the exact gradient"
    size = "" if 0.5 < scale[0] < 2.0 else f" and scaled by {scale[0]:.3g}"
    return f"wrong direction{size}: cosine {turned:.4g} to the exact gradient"


def _off(bias: np.ndarray, error: np.ndarray) -> np.ndarray:
    return np.abs(bias) > OFF * error + 1e-12 * np.abs(bias)


def _small(mean: np.ndarray, error: np.ndarray, exact: np.ndarray) -> bool:
    """Return whether a mean is 0 by comparison with the exact gradient, and not only by its standard error."""
    return float(np.linalg.norm(mean) + WITHIN * np.linalg.norm(error)) < 0.5 * float(np.linalg.norm(exact))


def _explained(mean: np.ndarray, error: np.ndarray, exact: np.ndarray, said: np.ndarray) -> bool:
    """Return whether a mean that is said to be `said` has nothing left of its bias but noise."""
    rest, bias = mean - said, mean - exact
    noise = float(np.linalg.norm(error))
    near = float(np.linalg.norm(rest)) <= max(LEFT * float(np.linalg.norm(bias)), WITHIN * noise)
    return near and float(np.linalg.norm(bias)) > 2.0 * WITHIN * noise


def _scaled(means: Means, names: Any, num_samples: int | None) -> str | None:
    """Return `scaled by a` if the mean is a multiple of the exact gradient, with a's likely origin."""
    found = means.scale(names)
    if found is None:
        return None
    mean, error, exact, _ = means.joined(names)
    factor, low, high = found
    wide = 0.5 * (high - low) + 1e-9
    rest, noise = float(np.linalg.norm(mean - factor * exact)), float(np.linalg.norm(error))
    size = min(float(np.linalg.norm(mean - exact)), float(np.linalg.norm(mean)))
    if abs(factor - 1.0) < 0.5 * OFF * wide or rest > max(TURNED * size, 3.0 * noise):
        return None
    if factor + wide < 0.0 and abs(factor + 1.0) <= max(wide, 0.01):
        return "has the wrong sign"
    for value, origin in _origins(num_samples):
        if abs(factor - value) <= max(wide, 2e-4 * abs(value)) and wide < 0.3 * abs(value - 1.0):
            return f"scaled by {factor:.4g}: {origin}"
    return f"scaled by {factor:.4g} [{low:.4g}, {high:.4g}]"


def _origins(num_samples: int | None) -> list[tuple[float, str]]:
    found = [(2.0, "a factor 2 too much"), (0.5, "a factor 2 missing")]
    if num_samples is not None and num_samples > 1:
        s = num_samples
        found = [
            ((s - 1) / s, f"(S − 1)/S with S = {s}"),
            (s / (s - 1), f"S/(S − 1) with S = {s}"),
            (float(s), f"a sum over S = {s} samples, not a mean"),
            (1.0 / s, f"divided by S = {s} once too often"),
            *found,
        ]
    return found


def _entropy(means: Means, entropy: Mapping[str, np.ndarray]) -> str | None:
    if not entropy or entropy.keys() != means.mean.keys():
        return None
    mean, error, exact, _ = means.joined()
    gradient = np.concatenate([np.ravel(entropy[name]) for name in means.mean])
    for sign, said in ((-1.0, "the gradient of the entropy of q is missing"), (1.0, "the entropy of q counts twice")):
        if gradient.any() and _explained(mean, error, exact, exact + sign * gradient):
            return said
    return None


def _of_part(name: str, means: Means, scales: Mapping[str, np.ndarray], num_samples: int | None) -> str:
    """Return what is wrong with one part; empty where it has no simple form."""
    mean, error, exact = means.mean[name], means.error[name], means.exact[name]
    if exact.any() and not np.any(mean) and not np.any(error):
        return "is 0"
    if exact.any() and not _off(mean, error).any() and _small(mean, error, exact):
        return "has mean 0"
    for scale, sigma in scales.items():
        if sigma.shape != exact.shape or np.allclose(sigma, 1.0):
            continue
        for said, words in (
            (exact / sigma, f"is off by 1/σ of {scale}: the derivative in σ, not in log σ"),
            (exact * sigma, f"is off by σ of {scale}: the derivative in log σ, not in σ"),
        ):
            if _explained(mean, error, exact, said):
                return words
    scaled = _scaled(means, [name], num_samples)
    if scaled is not None:
        return scaled
    bias = np.abs(mean - exact)
    off = np.flatnonzero(_off(mean - exact, error))
    if len(off) == 1 and len(exact) > 1 and np.all(np.delete(bias + WITHIN * error, off[0]) < 0.25 * bias[off[0]]):
        return f"is off in coordinate {off[0]} alone"
    return ""


def _scales(parameters: Any) -> dict[str, np.ndarray]:
    """Return σ [P] by name of each scale among the parameters."""
    if parameters is None or is_module(parameters):
        return {}
    found = {}
    for name, leaf in named(parameters).items():
        last = name.rpartition(".")[2]
        if last not in SCALES:
            continue
        try:
            values = np.ravel(numbers(leaf, name)).astype(np.float64)
        except UsageError:
            continue
        found[name] = np.exp(values) if SCALES[last] else values
    return found
