"""What the tests know of every family: one entry each, and all that a new one needs of its own kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from gradmeter.estimators import FAMILIES
from gradmeter.estimators.families.capabilities import has
from tests.estimators import laws

Blocks = dict[str, np.ndarray]
DIMENSION = 3


@dataclass(frozen=True)
class Known:
    """
    Attributes
    ----------
    problem
        A problem in three dimensions whose q is the family, at options nobody tuned for; its exact gradient is what
        estimators are held to.
    parameters : λ of three coordinates, every one another; drawn at random if absent.
    law
        λ to SciPy's law of each coordinate, where these are independent and one number of noise makes one; those of
        others are in `tests/estimators/laws.py`.
    structure : options that are no numbers of λ, where the default is the simplest.
    tolerance : how near backends agree; 1e-10 where special functions enter.
    """

    problem: str
    parameters: Blocks | None = None
    law: Callable[[Blocks], Any] | None = None
    structure: Mapping[str, int] = field(default_factory=dict)
    tolerance: float = 1e-12


def having(*capabilities: str) -> list[str]:
    """The families that have all of these capabilities."""
    return [name for name, cls in FAMILIES.items() if has(cls.Config().family, *capabilities)]


def anywhere(name: str, **structure: int) -> Blocks:
    """λ at random."""
    generator = np.random.default_rng(4)
    shapes = FAMILIES[name].Config(**structure).family.shapes(DIMENSION)
    return {block: 0.5 * generator.standard_normal(shape) for block, shape in shapes.items()}


LOC_SCALE = {"loc": np.asarray([0.31, -1.7, 0.92]), "log_scale": np.log([0.83, 1.4, 0.27])}

KNOWN: dict[str, Known] = {
    "normal": Known(
        problem="polynomial[loc=0.4,scale=0.8,degree=3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.norm(p["loc"], np.exp(p["log_scale"])),
    ),
    "multivariate-normal": Known(
        problem="polynomial[family=multivariate-normal,loc=0.4,scale=0.8,correlation=0.45,degree=3,dim=3]",
    ),
    "low-rank-normal": Known(
        problem="polynomial[family=low-rank-normal,loc=0.4,scale=0.8,correlation=0.45,degree=3,dim=3]",
        structure={"rank": 2},
    ),
    "mixture-of-normals": Known(
        problem="polynomial[family=mixture-of-normals,loc=0.4,scale=0.8,distance=1.3,degree=3,dim=3]",
        structure={"components": 3},
        tolerance=1e-10,
    ),
    "laplace": Known(
        problem="polynomial[family=laplace,loc=0.4,scale=0.8,degree=3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.laplace(p["loc"], np.exp(p["log_scale"])),
    ),
    "student-t": Known(
        problem="polynomial[family=student-t,loc=0.4,scale=0.8,df=9.5,degree=3,dim=3]",
        parameters=LOC_SCALE | {"log_df": np.log([4.3, 12.0, 6.5])},
        law=lambda p: stats.t(np.exp(p["log_df"]), p["loc"], np.exp(p["log_scale"])),
    ),
    "logistic": Known(
        problem="polynomial[family=logistic,loc=0.4,scale=0.8,degree=3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.logistic(p["loc"], np.exp(p["log_scale"])),
    ),
    "uniform": Known(
        problem="polynomial[family=uniform,low=-0.7,high=1.9,degree=3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.uniform(p["loc"], np.exp(p["log_scale"])),
    ),
    "triangular": Known(
        problem="polynomial[family=triangular,low=-0.7,mode=0.2,high=1.9,degree=3,dim=3]",
        parameters=LOC_SCALE | {"logit_mode": np.asarray([0.4, -1.1, 0.0])},
        law=lambda p: stats.triang(1 / (1 + np.exp(-p["logit_mode"])), p["loc"], np.exp(p["log_scale"])),
    ),
    "cauchy": Known(
        problem="cosine[family=cauchy,loc=0.4,scale=0.8,k=1.3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.cauchy(p["loc"], np.exp(p["log_scale"])),
    ),
    "gumbel": Known(
        problem="polynomial[family=gumbel,loc=0.4,scale=0.8,degree=3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.gumbel_r(p["loc"], np.exp(p["log_scale"])),
    ),
    "elliptical": Known(
        problem="polynomial[family=elliptical,loc=0.4,scale=0.8,correlation=0.45,degrees=9,degree=3,dim=3]",
        parameters=anywhere("elliptical") | {"log_degrees": np.log([5.3])},
        tolerance=1e-10,
    ),
    "exponential": Known(
        problem="polynomial[family=exponential,rate=1.7,degree=3,dim=3]",
        parameters={"log_rate": np.log([0.6, 1.3, 4.2])},
        law=lambda p: stats.expon(scale=np.exp(-p["log_rate"])),
    ),
    "rayleigh": Known(
        problem="polynomial[family=rayleigh,scale=0.8,degree=3,dim=3]",
        parameters={"log_scale": np.log([0.83, 1.4, 0.27])},
        law=lambda p: stats.rayleigh(scale=np.exp(p["log_scale"])),
    ),
    "half-normal": Known(
        problem="polynomial[family=half-normal,scale=0.8,degree=3,dim=3]",
        parameters={"log_scale": np.log([0.83, 1.4, 0.27])},
        law=lambda p: stats.halfnorm(scale=np.exp(p["log_scale"])),
    ),
    "half-cauchy": Known(
        problem="cosine[family=half-cauchy,scale=0.8,k=1.3,dim=3]",
        parameters={"log_scale": np.log([0.83, 1.4, 0.27])},
        law=lambda p: stats.halfcauchy(scale=np.exp(p["log_scale"])),
    ),
    "pareto": Known(
        problem="polynomial[family=pareto,scale=0.8,shape=9.5,degree=3,dim=3]",
        parameters={"log_scale": np.log([0.83, 1.4, 0.27]), "log_shape": np.log([9.5, 4.9, 12.0])},
        law=lambda p: stats.pareto(np.exp(p["log_shape"]), scale=np.exp(p["log_scale"])),
    ),
    "weibull": Known(
        problem="polynomial[family=weibull,scale=0.8,shape=1.7,degree=3,dim=3]",
        parameters={"log_scale": np.log([0.83, 1.4, 0.27]), "log_shape": np.log([1.5, 2.6, 0.9])},
        law=lambda p: stats.weibull_min(np.exp(p["log_shape"]), scale=np.exp(p["log_scale"])),
    ),
    "gompertz": Known(
        problem="polynomial[family=gompertz,shape=0.6,rate=1.3,degree=3,dim=3]",
        parameters={"log_shape": np.log([0.3, 1.0, 2.4]), "log_rate": np.log([1.4, 0.6, 2.0])},
        law=lambda p: stats.gompertz(np.exp(p["log_shape"]), scale=np.exp(-p["log_rate"])),
    ),
    "log-logistic": Known(
        problem="polynomial[family=log-logistic,scale=0.8,shape=17.5,degree=3,dim=3]",
        parameters={"log_scale": np.log([0.83, 1.4, 0.27]), "log_shape": np.log([9.5, 6.3, 12.0])},
        law=lambda p: stats.fisk(np.exp(p["log_shape"]), scale=np.exp(p["log_scale"])),
    ),
    "reciprocal": Known(
        problem="polynomial[family=reciprocal,low=0.6,high=2.5,degree=3,dim=3]",
        parameters={"log_low": np.log([0.4, 1.0, 2.3]), "log_span": np.log([0.7, 1.9, 3.0])},
        law=lambda p: stats.loguniform(np.exp(p["log_low"]), np.exp(p["log_low"] + np.exp(p["log_span"]))),
    ),
    "truncated-normal": Known(
        problem="polynomial[family=truncated-normal,low=-0.6,high=1.9,loc=0.4,scale=0.8,degree=3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.truncnorm(
            *((end - p["loc"]) * np.exp(-p["log_scale"]) for end in (-1.0, 2.0)), p["loc"], np.exp(p["log_scale"])
        ),
        tolerance=1e-10,
    ),
    "von-mises": Known(
        problem="polynomial[family=von-mises,loc=0.4,concentration=1.7,degree=3,dim=3]",
        parameters={"loc": np.asarray([0.31, -1.7, 2.92]), "log_concentration": np.log([0.83, 4.2, 17.0])},
        tolerance=1e-10,
    ),
    "kumaraswamy": Known(
        problem="polynomial[family=kumaraswamy,a=0.8,b=2.3,degree=3,dim=3]",
        parameters={"log_a": np.log([0.7, 1.3, 4.2]), "log_b": np.log([1.4, 3.3, 2.2])},
        law=lambda p: laws.Kumaraswamy(np.exp(p["log_a"]), np.exp(p["log_b"])),
    ),
    "transformed-normal": Known(
        problem="polynomial[family=transformed-normal,loc=0.4,scale=0.8,degree=3,dim=3]",
        parameters=LOC_SCALE,
    ),
    "log-normal": Known(
        problem="polynomial[family=log-normal,loc=0.4,scale=0.3,degree=3,dim=3]",
        parameters=LOC_SCALE,
        law=lambda p: stats.lognorm(np.exp(p["log_scale"]), scale=np.exp(p["loc"])),
    ),
    "erlang": Known(
        problem="polynomial[family=erlang,events=3,rate=1.7,dim=3]",
        parameters={"log_rate": np.log([0.6, 1.3, 4.2])},
    ),
    "gamma": Known(
        problem="polynomial[family=gamma,concentration=2.3,rate=1.7,degree=3,dim=3]",
        parameters={"log_concentration": np.log([0.4, 1.3, 9.7]), "log_rate": np.log([0.6, 1.3, 4.2])},
        tolerance=1e-10,
    ),
    "inverse-gamma": Known(
        problem="polynomial[family=inverse-gamma,concentration=9.5,scale=1.7,degree=3,dim=3]",
        parameters={"log_concentration": np.log([6.4, 5.3, 9.7]), "log_scale": np.log([0.6, 1.3, 4.2])},
        tolerance=1e-10,
    ),
    "chi-squared": Known(
        problem="polynomial[family=chi-squared,degrees=1.3,dim=3]",
        parameters={"log_degrees": np.log([0.9, 3.1, 14.0])},
        tolerance=1e-10,
    ),
    "beta": Known(
        problem="polynomial[family=beta,alpha=0.7,beta=2.3,degree=3,dim=3]",
        parameters={"log_alpha": np.log([0.6, 1.3, 4.2]), "log_beta": np.log([0.9, 3.3, 2.2])},
        tolerance=1e-10,
    ),
    "f": Known(
        problem="polynomial[family=f,numerator=3.3,dim=3]",
        parameters={"log_numerator": np.log([1.6, 2.3, 8.2]), "log_denominator": np.log([4.9, 13.3, 22.2])},
        tolerance=1e-10,
    ),
    "dirichlet": Known(
        problem="polynomial[family=dirichlet,concentration=0.8,degree=3,dim=3]",
        parameters={"log_concentration": np.log([0.6, 1.3, 4.2])},
        tolerance=1e-10,
    ),
    "stick-breaking-normal": Known(
        problem="polynomial[family=stick-breaking-normal,loc=0.4,scale=0.8,degree=3,dim=3]",
        parameters={"loc": np.asarray([0.31, -1.2]), "log_scale": np.log([0.83, 1.4])},
    ),
    "lkj-cholesky": Known(
        problem="polynomial[family=lkj-cholesky,size=3,concentration=1.7,degree=2,dim=3]",
        parameters={"log_concentration": np.log([1.7])},
        structure={"size": 3},
        tolerance=1e-10,
    ),
    "poisson": Known(
        problem="polynomial[family=poisson,rate=1.7,degree=3,dim=3]",
        parameters={"log_rate": np.log([0.6, 2.3, 8.2])},
        tolerance=1e-10,
    ),
    "binomial": Known(
        problem="polynomial[family=binomial,trials=4,probability=0.3,degree=3,dim=3]",
        parameters={"logits": np.asarray([0.4, -1.1, 2.3])},
    ),
    "negative-binomial": Known(
        problem="polynomial[family=negative-binomial,successes=1.7,probability=0.8,degree=3,dim=3]",
        parameters={"log_successes": np.log([0.6, 2.3, 6.2]), "logits": np.asarray([0.4, -0.3, 2.3])},
        tolerance=1e-10,
    ),
    "geometric": Known(
        problem="polynomial[family=geometric,probability=0.4,degree=3,dim=3]",
        parameters={"logits": np.asarray([0.4, -1.1, 2.3])},
    ),
    "relaxed-bernoulli": Known(
        problem="polynomial[family=relaxed-bernoulli,probability=0.3,temperature=0.7,degree=3,dim=3]",
        parameters={"logits": np.asarray([0.4, -1.1, 2.3]), "log_temperature": np.log([0.7, 1.3, 0.4])},
    ),
    "concrete": Known(
        problem="polynomial[family=concrete,categories=3,tilt=1.2,temperature=0.7,degree=3,dim=3]",
        parameters={"logits": np.asarray([[0.4, -1.1, 1.3]]), "log_temperature": np.log([0.7])},
        structure={"categories": 3},
    ),
    "bernoulli": Known(
        problem="polynomial[family=bernoulli,probability=0.3,degree=3,dim=3]",
        parameters={"logits": np.asarray([0.4, -1.1, 2.3])},
    ),
    "tied-bernoulli": Known(
        problem="three-bernoullis[probability=0.3]",
        parameters={"logits": np.asarray([0.4])},
    ),
    "categorical": Known(
        problem="categorical-square[categories=3,tilt=1.2,choices=2]",
        parameters={"logits": np.asarray([[0.4, -1.1, 1.3]])},
        structure={"categories": 3},
    ),
    "sequence-policy": Known(
        problem="square[family=sequence-policy,vocabulary=3,spread=0.8,k=0.49,dim=3]",
    ),
}

FAMILY_PROBLEMS = {name: known.problem for name, known in KNOWN.items()}
PARAMETERS = {
    name: anywhere(name, **known.structure) if known.parameters is None else known.parameters
    for name, known in KNOWN.items()
}
#: Families of independent coordinates as SciPy has them, from λ as the families' docstrings define it.
FROZEN = {name: known.law for name, known in KNOWN.items() if known.law is not None}
