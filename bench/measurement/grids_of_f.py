"""Do the grids of an integration reproduce the known mean of f? If not, they miss where z changes fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gradmeter.bench.measurement.analyses import UNMEASURED
from gradmeter.bench.measurement.columns import WELL_ABOVE
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires
from gradmeter.estimators.expectation import Array, Expectation

#: Error of the known mean of f, relative to its size.
KNOWN = 1e-12


@dataclass(frozen=True)
class ValueOfF(Estimator):
    """f at its samples, in place of an estimate of every parameter."""

    name: ClassVar[str] = "value-of-f"
    summary: ClassVar[str] = "f itself"
    requires: ClassVar[Requires] = Requires(())

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        z, logs = family.sample(backend, parameters, noise), family.logs(backend, parameters, noise)
        f = xp.mean(expectation.value(backend, parameters, z, noise, *logs), axis=1)
        return {
            name: xp.reshape(f, (-1, *(1 for _ in a.shape))) + xp.zeros_like(a)[None] for name, a in parameters.items()
        }


def grids_meet_mean(setting: Setting, mean: float | None) -> bool:
    """Return whether f, integrated as the estimates of a cell of the catalogue are, has its known mean.

    Parameters
    ----------
    mean : E f; where it is unknown, and for bounds, encoders and an f that reads λ, nothing is compared.
    """
    expectation = setting.expectation
    compared = mean is not None and expectation.importance_samples == 1 and not expectation.integrand.reads
    if mean is None or not compared or setting.users_parts or isinstance(expectation, AmortisedExpectation):
        return True
    here, there = get("numpy"), setting.backend.to_numpy
    found = integrate(
        replace(
            setting,
            backend=here,
            estimator=ValueOfF(),
            expectation=expectation.bind({name: here.asarray(there(a), None) for name, a in expectation.data.items()}),
            parameters={name: here.asarray(there(a), None) for name, a in setting.parameters.items()},
            state={},
            num_samples=1,
        )
    )
    if found is None:
        return True
    rounding = (UNMEASURED * float(np.finfo(setting.dtype).eps) + KNOWN) * abs(mean)
    return all(np.all(np.abs(each.mean - mean) <= WELL_ABOVE * each.error + rounding) for each in found.values())
