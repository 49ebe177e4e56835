"""`gradmeter new`: the files of a new estimator, and the tests that it has to pass."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from gradmeter.estimators import ESTIMATORS, UsageError
from gradmeter.estimators.errors import unknown

KINDS = ("estimator",)

ESTIMATOR = '''"""{title}.

Approximates   ∇_λ E_{{q_λ}}[f(z)]
with           (its formula)
requires       log q_λ differentiable in λ; nothing of f.

Source: (paper, equation)
"""

from dataclasses import dataclass

from gradmeter import Estimator, Requires


@dataclass(frozen=True)
class {cls}(Estimator):
    name = "{name}"
    summary = "(one line)"
    requires = Requires(("score", "score_identity"))

    def estimate_integrand(self, backend, expectation, parameters, noise, state):
        """Return one gradient estimate per replicate, {{parameter block: [R, *shape]}}."""
        xp, q = backend.xp, expectation.family
        z = q.sample(backend, parameters, noise)  # [R, S, D]: R estimates of S samples
        f = expectation.value(backend, parameters, z, noise)  # [R, S]
        score = q.score(backend, parameters, z)  # ∇ log q at every sample, by parameter block
        raise NotImplementedError("the estimate, from z, f and score")
'''

TEST = '''"""{title} is unbiased, on every backend that is installed, for one sample and for several."""

import pytest

import gradmeter
from {module} import {cls}

BACKENDS = ("numpy", "torch", "jax")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("samples", [4, 16])
@pytest.mark.parametrize("problem", ["square[k=1.3,dim=2]", "square[family=bernoulli,probability=0.3]"])
def test_it_is_unbiased(problem, samples, backend):
    if backend != "numpy":
        pytest.importorskip(backend)
    limits = {{"bias_bound": 0.1, "max_replicates": 2**17}}
    rows = gradmeter.measure(problem, {cls}(), backend, samples=samples, timing=False, **limits)
    assert set(rows["status"]) == {{"ok"}}, rows["reason"].tolist()
    shown = rows[["block", "verdict", "bias", "bias_bound", "reason"]]
    assert "biased" not in set(rows["verdict"]), shown
    if samples == 16:  # fewer may vary too much to be certified
        assert set(rows["verdict"]) == {{"unbiased"}}, shown
'''


def new(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the files of a new class, and return their paths.

    Raises
    ------
    UsageError
        The kind is unknown, the name is taken or is no name, or a file exists.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UsageError(
            f"'{name}' is no name of an estimator; write words of small letters, joined by hyphens: my-own"
        )
    if name in ESTIMATORS:
        raise UsageError(f"there is an estimator {name} already; choose another name")
    module = name.replace("-", "_")
    cls = "".join(word.capitalize() for word in name.split("-"))
    title = name.replace("-", " ").capitalize()
    paths = [folder / f"{module}.py", folder / f"test_{module}.py"]
    for path in paths:
        if path.exists():
            raise UsageError(f"{path} exists already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, (ESTIMATOR, TEST), strict=True):
        path.write_text(text.format(name=name, cls=cls, title=title, module=module), encoding="utf-8")
    return paths
