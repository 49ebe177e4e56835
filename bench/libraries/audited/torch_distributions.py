"""`torch.distributions`: gradients through `rsample`, by approximations of the implicit derivative or by its parts."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradmeter.adapters import torch_distributions as adapter
from gradmeter.bench.libraries import regimes
from gradmeter.bench.libraries.case import Case, Regime

PACKAGES = ("torch",)
SAMPLES, REPLICATES = 256, 2**11
DISTRIBUTIONS = (regimes.GAMMA, regimes.BETA, regimes.DIRICHLET, regimes.STUDENT_T, regimes.KUMARASWAMY)
#: Where a gradient is known to be wrong -> script. The error of large Betas is at times so large that a mean of few
#: gradients is inconclusive.
DEFECTS: dict[Regime, str] = {
    **{Regime("Gamma", at, "log z"): "torch_gamma_log" for at in ("0.001", "0.01")},
    Regime("Beta", "0.001, 0.001", "z"): "torch_beta_small",
    **{Regime("Beta", at, "log z"): "torch_beta_log" for at in ("0.001, 0.001", "0.01, 0.01")},
    **{
        Regime("Beta", at, f): "torch_beta_large"
        for at, f in itertools.product(("3, 10000", "1, 100000", "3, 100000", "5, 100000"), ("z", "log z"))
    },
    Regime("Dirichlet", "0.001, 0.001, 0.001", "z₁ + 2 z₂ + 4 z₃"): "torch_beta_small",
    Regime("StudentT", "0.1", "z² / (df + z²)"): "torch_student_t",
    **{Regime("Kumaraswamy", at, "log z"): "torch_kumaraswamy_log" for at in ("0.01, 1", "0.1, 0.1", "1, 100000")},
}


def cases() -> Iterator[Case]:
    for distribution in DISTRIBUTIONS:
        make = functools.partial(_gradient, distribution)
        name, options = f"{distribution.name}.rsample", {"rng": "global"}
        yield from regimes.cases(distribution, name, make, SAMPLES, REPLICATES, DEFECTS, options)
    yield Case("VonMises.rsample", "E f(z)", _von_mises, {}, regime=Regime("VonMises", "any", "any"))


def _gradient(distribution: regimes.Distribution, f: Callable[[Any, Any], Any], at: regimes.Point) -> Any:
    """Return the gradient of the mean of f(z), and the logarithms of the parameters."""

    def build(logs: Any) -> Any:
        parameters = [logs[name].exp() for name in distribution.parameters]
        rate = [torch.ones(())] if distribution is regimes.GAMMA else []
        return getattr(torch.distributions, distribution.name)(*parameters, *rate, validate_args=False)

    logs = [torch.log(torch.as_tensor(values, dtype=torch.float32)) for values in at]
    named = dict(zip(distribution.parameters, logs, strict=True))
    return adapter.rsample(build, lambda z: f(torch, z), SAMPLES), named


def _von_mises() -> Any:
    """Let the library say that it has none."""
    torch.distributions.VonMises(torch.zeros(()), torch.ones(())).rsample()
    raise AssertionError("VonMises has an rsample now: audit it")
