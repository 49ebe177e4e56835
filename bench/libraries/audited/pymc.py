"""PyMC: ADVI, with a mean-field and with a full-rank Normal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pymc

from gradmeter.adapters import pymc as adapter
from gradmeter.bench.libraries import elbo
from gradmeter.bench.libraries.case import Case

PACKAGES = ("pymc", "pytensor")
S = 8
#: σ = log(1 + e^rho).
RHO = math.log(math.expm1(elbo.SCALE))


def cases() -> Iterator[Case]:
    exact = elbo.global_elbo()
    slope = exact["scale"] / elbo.SCALE / (1.0 + math.exp(-RHO))  # the derivative in rho
    for kind, scale in ((pymc.ADVI, "rho"), (pymc.FullRankADVI, "L_tril")):
        yield _case(kind, {"mu": [exact["loc"]], scale: [slope]})


def _case(kind: Any, exact: dict[str, list[float]]) -> Case:
    def make() -> Any:
        with pymc.Model() as model:
            z = pymc.Normal("z", 0.0, 1.0, shape=1)
            pymc.Normal("x", z, 1.0, observed=np.asarray(elbo.DATA))
        inference = kind(model=model)
        for parameter in inference.approx.params:
            value = elbo.LOC if parameter.name == "mu" else RHO
            parameter.set_value(np.asarray([value], dtype=parameter.dtype))
        return adapter.elbo(inference, S), None

    return Case(kind.__name__, elbo.ONE, make, exact, S, options={"rng": "seed", "backend": "numpy"})
