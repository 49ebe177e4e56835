"""Controls of gamma numbers: their law, which no sampler but that of this part enters, and what they gain."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special

from gradmeter.bench.cells import Cell, StoppingCriteria
from gradmeter.bench.measurement.controls.fit import fit
from gradmeter.bench.measurement.controls.gamma import POWERS, _powers, log_gamma_number, orthonormal
from gradmeter.bench.measurement.evaluate import estimates_of, in_double
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems.test_functions import Square
from gradmeter.estimators import ScoreFunction
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.gamma import Gamma
from gradmeter.estimators.families.gamma_path import gamma_noise, log_standard_gamma
from gradmeter.estimators.noise import draw
from tests.bench.test_control_variates import cell
from tests.support import measured, needs


@pytest.mark.parametrize("alpha", [0.02, 0.3, 1.0, 4.5, 60.0, 1e4])
def test_functions_are_orthonormal(alpha: float) -> None:
    """Against adaptive quadrature in log g."""
    coefficients = np.asarray(orthonormal(alpha, 4))
    reach = 60.0 / alpha
    ends = np.log(alpha) + np.linspace(-reach - np.sqrt(2.0 * reach), np.log1p(reach + np.sqrt(2.0 * reach)), 31)

    def products(t: float) -> np.ndarray:
        columns = np.asarray([1.0, *_powers(np.asarray(alpha), np.asarray(t), POWERS[:4])])
        phi = np.concatenate([[1.0], coefficients @ columns])
        return np.exp(alpha * t - np.exp(t) - special.gammaln(alpha)) * np.outer(phi, phi).ravel()

    total = sum(integrate.quad_vec(products, a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(ends))
    there = np.concatenate([[1.0], np.any(coefficients != 0.0, axis=1)])
    assert there.sum() >= 3
    np.testing.assert_allclose(total.reshape(5, 5), np.diag(there), atol=1e-10)


@pytest.mark.parametrize("alpha", [0.05, 1.0, 30.0])
def test_numbers_are_those_of_the_families(alpha: float) -> None:
    backend = get("numpy")
    noise = draw(backend, gamma_noise((3,)), dict.fromkeys(gamma_noise((3,)), 7), 0, 500, "float64")
    concentration = np.full(3, alpha)
    found = log_gamma_number(concentration, noise["proposal"], noise["acceptance"], noise["boost"])
    np.testing.assert_allclose(found, log_standard_gamma(backend, concentration, noise), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("problem", "estimator", "samples"),
    [
        ("gamma-poisson", "score-function", 1),
        ("gamma-poisson", "score-function[baseline=leave-one-out]", 3),
        ("polynomial[degree=3,family=chi-squared,degrees=9,dim=3]", "score-function", 1),
        ("square[family=dirichlet,concentration=3,dim=3]", "score-function", 1),
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.matrix
def test_right_estimators_gain(problem: str, estimator: str, samples: int, backend: str, eager: None) -> None:
    needs(backend)
    row = measured(cell(problem, estimator, samples, backend, cap=2**16))["all"]
    assert row["verdict"] in ("unbiased", "inconclusive")
    assert row["control_gain"] > 10.0


def test_implicit_paths_gain() -> None:
    row = measured(cell("gamma-poisson", "pathwise", cap=2**16))["all"]
    assert row["verdict"] == "unbiased"
    assert row["control_gain"] > 1000.0


def test_a_wrong_sampler_keeps_its_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls leave the mean of what is measured alone: they are not of the sampler that is wrong."""
    problem = Square(k=2.0, q=Gamma.Config(concentration=1.0, rate=1.0), dim=3)
    setting = prepare(Cell(problem, ScoreFunction(), "numpy", goals=StoppingCriteria(max_replicates=2**16))).setting
    sample = Gamma.sample

    def eager(self: Gamma, backend: Backend, parameters: Any, noise: Any) -> Any:
        """The first proposal, accepted or not."""
        return sample(self, backend, parameters, {**noise, "acceptance": np.full_like(noise["acceptance"], 1e9)})

    monkeypatch.setattr(Gamma, "sample", eager)
    monkeypatch.setattr(Gamma, "logs", lambda *_: ())
    centre = {name: np.zeros(3) for name in setting.blocks}
    controls = fit(setting, centre, ["proposal", "acceptance", "boost"])
    assert controls is not None
    noise = setting.host_noise("judged", 0, 2**17)
    plain = in_double(estimates_of(setting, noise))
    left = controls.relieved(noise, plain)
    for name, g in problem.exact().gradient.items():
        errors = {kind: a[name].std(axis=0) / np.sqrt(2**17) for kind, a in (("plain", plain), ("left", left))}
        apart = np.abs(plain[name].mean(axis=0) - left[name].mean(axis=0))
        assert np.all(apart < 5.0 * np.hypot(errors["plain"], errors["left"]))
        assert np.all(np.abs(left[name].mean(axis=0) - np.ravel(g)) > 8.0 * errors["left"])
