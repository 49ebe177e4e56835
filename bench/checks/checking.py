"""The function `check`: all checks of a family, an integrand, a problem or an estimator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from gradmeter.bench.checks import distributions as laws
from gradmeter.bench.checks import families, identities
from gradmeter.bench.checks.estimators import check_estimator
from gradmeter.bench.checks.findings import About, Finding, Findings, guarded, wrong_form
from gradmeter.bench.checks.integrands import Bench, check_integrand
from gradmeter.bench.checks.lab import FULL, Effort, Lab, NoArray, WrongType, candidates, lab_where
from gradmeter.bench.checks.places import Place, found_place
from gradmeter.bench.checks.problems import check_problem, whole_of
from gradmeter.bench.forms.objects import KINDS, WrongForm, require_form
from gradmeter.bench.forms.results import expectation_of, parameters_of
from gradmeter.bench.identity.owner import of_the_catalogue
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Estimator, Family, FamilyConfig, Integrand, UsageError
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.errors import contained, one_line, typed
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.functions import FunctionIntegrand

#: Dimensions in which densities are integrated; 3 also covers one choice among three categories.
OF_LAWS = (1, 2, 3)
#: Largest dimension of a problem for which its family is checked at the problem's λ.
MOST_OWN = 8
#: Capabilities of a family for which there is no check.
UNWRITTEN = ("accepted", "standardised", "stratified", "marginals", "relaxation", "covariance")
#: Capabilities that each check needs.
NEEDS = {
    "score_identity": ("score", "score_identity"),
    "log_density_hessian_product": ("log_density_gradient",),
    "entropy_pathwise": ("pathwise", "score", "log_density_gradient"),
}
#: Methods that each check assumes to be correct.
RESTS_ON = {
    "log_density_hessian_product": {"log_density_gradient"},
    "entropy_pathwise": {"score", "pathwise", "log_density_gradient"},
    "from_logits": {"logits"},
    **{name: {"score"} for name in ("entropy_gradient", "weak_derivatives", "power_moment", "bonnet_price")},
}


class NeedsOptions(UsageError):
    """A class cannot be constructed without options."""


def is_users(thing: Any) -> bool:
    """Return whether an object's class is defined outside the project's packages, or it wraps a user's function."""
    return isinstance(thing, FunctionIntegrand) or not of_the_catalogue(type(thing))


def check(thing: Any, *, seed: int = 0) -> Findings:
    """Check a family, a family at a point, an integrand, a problem or an estimator against its claims.

    Derivatives are compared with numerical derivatives, samples with the density, and exact gradients with quadrature
    over the noise or sums over states. The probability that a statistical comparison rejects a correct class is at most
    1e-6.

    Parameters
    ----------
    thing : object or class
        An object, or a class that can be constructed without arguments.
    seed : int
        Seed of the samples at which it is checked.

    Returns
    -------
    Findings
        Prints as one line per check; `ok` is whether nothing is wrong.

    Raises
    ------
    UsageError
        `thing` cannot be checked.
    """
    return Findings(of_any(made(thing), FULL, seed))


def made(thing: Any) -> Any:
    """Construct an object from a class with default options; return an object unchanged.

    Raises
    ------
    UsageError
        The class needs options (`NeedsOptions`), is abstract, or raises an exception.
    """
    if not inspect.isclass(thing):
        return thing
    if issubclass(thing, Family) and hasattr(thing, "Config"):
        config = thing.Config
        if not (inspect.isclass(config) and issubclass(config, FamilyConfig)):
            raise UsageError(
                f"{thing.__qualname__}.Config is no FamilyConfig; write `class Config(FamilyConfig)`, with "
                "`from gradmeter import FamilyConfig`"
            )
        thing = config
    if inspect.isabstract(thing):
        raise UsageError(
            f"{thing.__qualname__} does not define {', '.join(sorted(thing.__abstractmethods__))}, without which no "
            "object of it can be made"
        )
    try:
        with contained():
            return thing()
    except Exception as error:
        try:
            inspect.signature(thing).bind()
        except TypeError:
            raise NeedsOptions(
                f"{thing.__qualname__} cannot be made without options: {one_line(error)}; give its options defaults, "
                "or check an object by gradmeter.check"
            ) from None
        raise UsageError(f"{thing.__qualname__} cannot be made: {typed(error)}") from None


def of_any(thing: Any, effort: Effort, seed: int) -> Iterator[Finding]:
    """Yield the findings of all checks of an object of any kind."""
    kind = next((each for each in KINDS if isinstance(thing, each)), None)
    try:
        if kind is not None:
            require_form(thing, kind)
    except WrongForm as error:
        yield wrong_form(error)
        return
    if isinstance(thing, FamilyConfig):
        yield from family_findings(thing.family, thing, None, effort, seed)
    elif isinstance(thing, Family):
        yield from family_findings(thing, None, None, effort, seed)
    elif isinstance(thing, Problem):
        about = About("problem", thing.name)
        yield from guarded(about, "everything", lambda: problem_findings(thing, effort, seed, None, everything=True))
    elif isinstance(thing, Estimator):
        yield from check_estimator(thing)
    elif isinstance(thing, Integrand):
        about = About("integrand", type(thing).__name__)
        yield about.not_checked("value", "an integrand alone has no data and no q; check a Problem that uses it")
    else:
        raise UsageError(f"{type(thing).__name__} is no family, integrand, problem or estimator; nothing is checked")


def family_findings(
    family: Family,
    point: FamilyConfig | None,
    preferred: str | None,
    effort: Effort,
    seed: int,
    own: Place | None = None,
) -> Iterator[Finding]:
    """Yield the findings of all checks of a family.

    Parameters
    ----------
    point : Point, optional
        The family at given parameter values.
    own : Place, optional
        The family at a problem's λ, used instead of an artificial point if its dimension is small.
    """
    about = About("family", family.name)
    try:
        lab = lab_where(lambda lab: found_place(lab, family, point), candidates(None, preferred), effort, seed)
        place = found_place(lab, family, point)
    except UsageError as error:
        if own is None:
            yield about.not_checked("everything", one_line(error))
            return
        lab, place = own.lab, own
    except Exception as error:
        yield about.raised("sample or log_density", error)
        return
    if own is not None and own.dimension <= MOST_OWN and own.lab.backend is lab.backend:
        place = own
    wrong: set[str] = set()
    for each in _of_methods(place, wrong):
        wrong |= {each.check} if each.status == "wrong" else set()
        yield each
    yield from _laws(lab, family, point)
    for name in UNWRITTEN:
        if has(family, name) and not families.inherited(family, name):
            yield about.not_checked(name, "no check is written for it")


def _of_methods(place: Place, wrong: set[str]) -> Iterator[Finding]:
    """Yield the findings for every method of the family; `wrong` holds the names of checks that failed so far."""
    family, about = place.family, place.about
    averages = identities.Averages(place)
    yield from guarded(about, "shapes", lambda: families.batch_axes(place))
    for name in ("score", "pathwise"):
        if name not in family.unsupported and not has(family, name):
            yield about.wrong(name, f"{name} is missing; write it, or name it in `unsupported` with the reason")
    checks: dict[str, Callable[[], Finding | Iterable[Finding]]] = {
        "score": lambda: families.score(place),
        "pathwise": lambda: _path(place, averages),
        **{name: lambda check=check: check(place) for name, check in families.CHECKS.items()},  # type: ignore[misc]
        "score_identity": lambda: identities.score_identity(place, averages),
        "entropy_gradient": lambda: identities.entropy_gradient(place, averages),
        "weak_derivatives": lambda: _combined(identities.weak_derivatives(place)),
        "power_moment": lambda: _combined(identities.power_moments(place, averages)),
        "expected": lambda: [
            *guarded(about, "expected_pathwise", lambda: families.expected(place)),
            identities.expected(place, averages),
        ],
        "bonnet_price": lambda: identities.bonnet_price(place, averages),
        "support_and_tails": lambda: identities.support_and_tails(place, averages),
    }
    for name, check in checks.items():
        method = "score" if name == "score_identity" else name
        if not has(family, *NEEDS.get(name, (name,))) or families.inherited(family, method):
            continue
        doubtful = sorted(RESTS_ON.get(name, set()) & wrong)
        if doubtful:
            yield about.not_checked(name, f"it is compared with what {doubtful[0]} gives, which is wrong")
        else:
            yield from guarded(about, name, check)


def _laws(lab: Lab, family: Family, point: FamilyConfig | None) -> Iterator[Finding]:
    """Yield one finding for every check of samples, from all dimensions in which the check is possible."""
    by_check: dict[str, list[Finding]] = {}
    for dimension in OF_LAWS:
        try:
            place = found_place(lab, family, point, (dimension,))
        except UsageError:
            continue
        for each in guarded(place.about, laws.CHECK, lambda place=place: _law(place)):  # type: ignore[misc]
            by_check.setdefault(each.check, []).append(each)
    for several in by_check.values():
        yield from _combined(several)


def _law(place: Place) -> Iterator[Finding]:
    family = place.family
    if not family.discrete:
        yield from laws.continuous(place)
        if has(family, "mirrored"):
            yield from laws.continuous(place, mirrored=True)
        return
    yield from laws.states(place)
    yield from laws.discrete(place)


def _combined(found: Iterable[Finding]) -> Iterator[Finding]:
    """Yield one finding for several of the same check: a wrong one, else an ok one, else a reason."""
    several = sorted(found, key=lambda each: ("wrong", "ok", "not checked").index(each.status))
    yield from several[:1]


def _path(place: Place, averages: identities.Averages) -> Finding:
    found = families.pathwise(place)
    if found.status == "wrong" and families.sample_jumps(place):
        return identities.implicit_path(place, averages)
    return found


def problem_findings(
    problem: Problem, effort: Effort, seed: int, preferred: str | None, everything: bool = False
) -> Iterator[Finding]:
    """Yield the findings of all checks of a problem, its integrand and its family.

    Parameters
    ----------
    problem
        The problem.
    effort
        How much is computed.
    seed
        Seed of all draws.
    preferred
        Backend that is tried first, if it is named.
    everything
        Whether parts of the catalogue are checked, too; else only those that the user defines.
    """
    about = About("problem", problem.name)
    try:
        expectation = expectation_of(problem)
        given = parameters_of(problem, expectation)
    except WrongForm as error:
        yield wrong_form(error)
        return
    parameters = {name: np.asarray(a, dtype=np.float64) for name, a in given.items()}

    def bench_on(lab: Lab) -> Bench:
        return Bench(lab, expectation, parameters, problem.dimension)

    def works(lab: Lab) -> None:
        bench = bench_on(lab)
        data, z, noise = bench.at("works", rows=2)
        bench.method("value", data, noise)(lab.to_numpy(z))

    try:
        lab = lab_where(works, candidates(problem.framework, preferred), effort, seed)
    except Exception as error:
        if isinstance(error, WrongType | UsageError) and not isinstance(error, NoArray):
            yield about.not_checked("everything", one_line(error))
        else:
            yield about.raised("value", error)
        return
    amortised = isinstance(expectation, AmortisedExpectation)
    place = None
    if not amortised:
        own = {name: parameters[name] for name in expectation.family.blocks}
        place = Place(lab, expectation.family, problem.dimension, own)
    found: list[Finding] = []
    if is_users(expectation.family):
        family = expectation.family
        point = problem.q if type(problem.q.family) is type(family) else None
        found = list(family_findings(family, point, preferred, effort, seed, _moved(place)))
        yield from found
    if is_users(expectation.integrand) or everything:
        for each in check_integrand(bench_on(lab)):
            found.append(each)
            yield each
    wrong = {each.check for each in found if each.status == "wrong"}
    encoder = getattr(expectation, "encoder", None)
    if encoder is not None and is_users(encoder) and encoder.pullback is not None:
        yield about.not_checked("encoder.pullback", "no check is written for it")
    if "shapes" in wrong:
        yield about.not_checked("exact", "f or q gives results of wrong shapes")
    elif is_users(problem) or everything:
        yield from guarded(about, "exact", lambda: check_problem(whole_of(lab, problem), place, "score" in wrong))


def _moved(place: Place | None) -> Place | None:
    """Return the place with λ perturbed at random, so that no two coordinates are alike; None for a high dimension."""
    if place is None or place.dimension > MOST_OWN:
        return None
    generator = place.lab.generator("moved")
    moved = {name: a + 0.25 * generator.standard_normal(a.shape) for name, a in place.parameters.items()}
    return Place(place.lab, place.family, place.dimension, moved)
