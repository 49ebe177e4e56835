"""The audits of other libraries: exact gradients, scripts of defects, and the page of invented findings.

The audits themselves run in environments that have the libraries (`make libraries`).
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from gradmeter.bench.libraries import elbo, page, regimes
from gradmeter.bench.libraries.__main__ import LIBRARIES, unexpected
from gradmeter.bench.libraries.case import DEFECTS
from gradmeter.bench.libraries.found import Found
from tests.report.stores import rows
from tests.support import needs

FOLDER = DEFECTS.parent


def test_objectives_have_the_gradients_of_their_closed_forms() -> None:
    """The ELBO is the Csiszár divergence of f = −log u, and Rényi's bound of one particle."""
    known = elbo.global_elbo()
    for found in (elbo.divergence(lambda log_u: -log_u), elbo.renyi(0.0, 1), elbo.renyi(2.0, 1)):
        assert found == pytest.approx(known, rel=1e-9)


def test_importance_weights_have_the_gradient_of_the_rule_with_more_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = elbo.renyi(0.0, 2)
    monkeypatch.setattr(elbo, "NODES", 90)
    assert elbo.renyi(0.0, 2) == pytest.approx(found, rel=1e-5)


def test_the_gradient_of_the_binary_model_is_that_of_its_sum() -> None:
    def value(logit: float) -> float:
        q = 1.0 / (1.0 + np.exp(-logit))
        model = [stats.bernoulli.logpmf(z, elbo.PRIOR) + stats.norm.logpdf(elbo.X, 2 * z - 1) for z in (0, 1)]
        return float(sum(p * (model[z] - np.log(p)) for z, p in ((0, 1.0 - q), (1, q))))

    slope = (value(elbo.LOGIT + 1e-5) - value(elbo.LOGIT - 1e-5)) / 2e-5
    assert elbo.binary_elbo()["logit"] == pytest.approx(slope, rel=1e-8)


def _kumaraswamy(a: float, b: float) -> Callable[[float], float]:
    return lambda z: a * b * z ** (a - 1.0) * (1.0 - z**a) ** (b - 1.0)


DENSITIES: list[
    tuple[regimes.Distribution, tuple[float, ...], Callable[..., Callable[[float], float]], tuple[float, float]]
] = [
    (regimes.GAMMA, (2.3,), lambda a: stats.gamma(a).pdf, (0.0, np.inf)),
    (regimes.BETA, (2.3, 1.7), lambda a, b: stats.beta(a, b).pdf, (0.0, 1.0)),
    (regimes.STUDENT_T, (3.2,), lambda df: stats.t(df).pdf, (-np.inf, np.inf)),
    (regimes.KUMARASWAMY, (2.3, 1.7), _kumaraswamy, (0.0, 1.0)),
]


@pytest.mark.parametrize(
    ("distribution", "at", "density", "support"), DENSITIES, ids=lambda value: getattr(value, "name", "")
)
def test_expectations_have_the_derivatives_of_their_integrals(
    distribution: regimes.Distribution, at: tuple[float, ...], density: Any, support: tuple[float, float]
) -> None:
    for integrand in distribution.integrands:

        def mean(logs: np.ndarray, integrand: regimes.Integrand = integrand) -> float:
            q = density(*np.exp(logs))
            found = integrate.quad(lambda z: integrand.f(np, z, at) * q(z), *support, epsabs=1e-12, epsrel=1e-12)
            return float(found[0])

        for i, known in enumerate(integrand.exact(*at)):
            step = 1e-4 * np.eye(len(at))[i]
            slope = (mean(np.log(at) + step) - mean(np.log(at) - step)) / 2e-4
            assert known == pytest.approx(slope, rel=1e-6), (integrand.name, i)


def test_the_dirichlet_has_the_mean_of_its_marginals() -> None:
    a = np.array([0.7, 1.9, 3.1])
    found = regimes.DIRICHLET.integrands[0].exact(a)[0]
    means = lambda a: float(np.asarray(regimes.WEIGHTS) @ a / a.sum())  # noqa: E731
    slopes = [(means(a * np.exp(h)) - means(a * np.exp(-h))) / 2e-5 for h in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(found, slopes, rtol=1e-8)


def test_scripts_are_short_and_each_is_named_by_a_case() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "audited").glob("*.py"))
    scripts = sorted(DEFECTS.glob("*.py"))
    assert scripts
    for script in scripts:
        assert f'"{script.stem}"' in sources
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 10
    assert {path.stem for path in (FOLDER / "audited").glob("[a-z]*.py")} == set(LIBRARIES)


@pytest.mark.parametrize(
    "script",
    [
        "torch_beta_small",
        "torch_beta_large",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "torch_beta_log",
                "torch_gamma_log",
                "torch_student_t",
                "torch_kumaraswamy_log",
                "jax_gamma_log",
                "jax_student_t",
            )
        ),
    ],
)
def test_scripts_print_a_gradient_that_is_not_the_exact_one(script: str) -> None:
    needs(script.partition("_")[0])
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        runpy.run_path(str(DEFECTS / f"{script}.py"))
    printed = re.search(r": (\S+) exact: (\S+)$", said.getvalue().strip())
    assert printed, said.getvalue()
    found, exact = float(printed[1]), float(printed[2])
    assert not abs(found - exact) < 0.1 * abs(exact)


def found(name: str, verdict: str | None, defect: str | None = None, **changed: Any) -> Found:
    measured = rows(name, verdict=verdict, bias=0.2, bias_low=0.19, bias_high=0.21) if verdict else []
    values: dict[str, Any] = {"regime": None, "status": "ok", "output": "0.1 exact: 0.2", **changed}
    return Found(
        "pyro", name, "E <z>", 8, defect, versions={"pyro-ppl": "1.9"}, verdict=verdict, rows=measured, **values
    )


INVENTED = [
    found("right", "unbiased"),
    found("wrong", "biased", "torch_beta_small", fault="scaled by 2"),
    found(
        "Beta",
        None,
        "torch_student_t",
        status="nonfinite",
        reason="nan",
        regime={"distribution": "Beta", "parameters": "1, 2", "integrand": "z"},
    ),
    found(
        "VonMises",
        None,
        status="n/a",
        reason="not implemented",
        regime={"distribution": "VonMises", "parameters": "any", "integrand": "any"},
    ),
]


def test_page_and_twin_show_verdicts_and_scripts(tmp_path: Path) -> None:
    html = page.write(INVENTED, tmp_path / "out").read_text(encoding="utf-8")
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for text in (html, markdown):
        assert "3 gradients of 1 libraries: 1 unbiased, 0 inconclusive, 1 biased, 1 not finite." in text
        assert "20 %" in text
        assert "torch.manual_seed(0)" in text
        assert "✗ not finite" in text
        assert "not implemented" in text
        assert "E <z>" not in text
        assert "pyro-ppl 1.9" in text
    assert len((tmp_path / "out" / "results.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4


def test_what_is_wrong_without_a_script_and_what_is_unbiased_with_one_are_unexpected() -> None:
    assert list(unexpected(INVENTED)) == []
    surprises = [
        found("wrong", "biased"),
        found("right", "unbiased", "torch_beta_small"),
        found("heavy", "inconclusive", "torch_beta_large"),
        found("broken", None, status="exception", reason="it raised"),
    ]
    assert [re.search("no script|says that it is wrong|it raised", line)[0] for line in unexpected(surprises)] == [  # type: ignore[index]
        "no script",
        "says that it is wrong",
        "it raised",
    ]
