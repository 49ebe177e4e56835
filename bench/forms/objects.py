"""Form checks of user-defined objects, before anything is computed.

A class may omit most methods; a feature that needs a missing method is then not applicable. What the class does define
must have the right form: attributes of the right type, methods with the right arguments, and usable results. Each error
is one line that names the object, what it has, and what is required.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from gradmeter.bench.identity.owner import of_the_catalogue
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Estimator, Family, FamilyConfig, Integrand, Noise, Requires, UsageError
from gradmeter.estimators.amortised import Encoder
from gradmeter.estimators.errors import contained, typed
from gradmeter.estimators.estimator import described
from gradmeter.estimators.expectation import INTEGRAND, Differentiate, Entropy
from gradmeter.estimators.families.capabilities import CAPABILITIES, Capable

Right = Callable[[Any], bool]
KINDS: dict[type, str] = {
    Problem: "problem",
    Estimator: "estimator",
    Family: "family",
    FamilyConfig: "point",
    Integrand: "integrand",
}
#: By kind, the methods that are None if omitted, and their arguments.
OPTIONAL: dict[type, dict[str, str]] = {
    Integrand: {
        "gradient": "xp, data, z, noise",
        "hessian_product": "xp, data, z, vector, noise",
        "hessian": "backend, data, z, noise",
        "replaced": "backend, data, z, replacement, noise",
        "local_terms": "xp, data, z, noise",
        "explicit_pullback": "xp, data, z, cotangent, noise",
        "model_pullback": "xp, data, z, cotangent, noise",
    }
}
#: Methods that also take the logarithms of z, if the family provides them.
WITH_LOGS: dict[type, tuple[str, ...]] = {
    Integrand: ("value", "gradient", "local_terms"),
    Family: ("score", "log_density", "log_densities", "log_density_gradient"),
}
BLOCKS = "a tuple of the names of the parameter blocks"
NOISE = "a dict {name: Noise(kind, shape)}"
SHAPES = "a dict {block: shape}, each shape a tuple of whole numbers"
ARRAYS = "a dict {block: NumPy array of numbers}"


class WrongForm(UsageError):
    """A user-defined object does not have the required form.

    Attributes
    ----------
    kind, name : str
        Kind and name of the object.
    part : str
        The attribute or method at fault, which is the first word of the message.
    message : str
        What is wrong and what is required.
    """

    def __init__(self, thing: Any, message: str) -> None:
        self.kind, self.name = called(thing)
        self.part, self.message = message.partition(" ")[0], message
        super().__init__(f"{self.kind} {self.name}: {message}")


def text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def count(value: Any, least: int = 1) -> bool:
    """Return whether a value is a whole number of at least this size."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


def texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(text, value))


def one_of(*choices: Any) -> Right:
    return lambda value: any(value is each or (isinstance(each, str) and value == each) for each in choices)


def mapping(right: Right) -> Right:
    """Return the check for a dict from names to right values."""
    return lambda value: isinstance(value, Mapping) and all(map(text, value)) and all(map(right, value.values()))


def shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(count(each, 0) for each in value)


def numbers(value: Any) -> bool:
    """Return whether the value is an array of real numbers."""
    return hasattr(value, "shape") and np.asarray(value).dtype.kind in "fiub"


def some_numbers(value: Any) -> bool:
    """Return whether the value can be converted to an array of real numbers."""
    try:
        return np.asarray(value, dtype=np.float64).dtype == np.float64
    except (TypeError, ValueError):
        return False


def requirement(value: Any) -> bool:
    return isinstance(value, Requires) and all(
        isinstance(each, tuple) and all(map(text, each)) for each in (value.family, value.integrand)
    )


def wrong_form(thing: Any) -> str | None:
    """Return what is wrong with the form of a user-defined problem, estimator, family, point or integrand, in one line.

    The line does not include kind and name. Return None if nothing is wrong, and for the project's own classes.
    """
    if of_the_catalogue(type(thing)):
        return None
    kind = next(each for each in KINDS if isinstance(thing, each))
    checks: dict[type, Callable[[Any], Iterator[str]]] = {
        Problem: _of_problem,
        Estimator: _of_estimator,
        Family: _of_family,
        FamilyConfig: _of_point,
        Integrand: _of_integrand,
    }
    return next(itertools.chain(_signatures(thing, kind), checks[kind](thing)), None)


def require_form(thing: Any, kind: type) -> None:
    """Check an argument that must be an object of a kind; for a problem, check its q and family too.

    Raises
    ------
    UsageError
        One line that says what is wrong; `WrongForm` if the object is of that kind.
    """
    if not isinstance(thing, kind):
        what = "an" if KINDS[kind][0] in "aeiou" else "a"
        if inspect.isclass(thing) and issubclass(thing, kind):
            raise UsageError(f"{thing.__qualname__} is a class; give an object of it: {thing.__qualname__}()")
        raise UsageError(f"{described(thing)} is no {KINDS[kind]}; give {what} {KINDS[kind]}, or its name as a text")
    message = wrong_form(thing)
    if message is not None:
        raise WrongForm(thing, message)
    if isinstance(thing, Problem):
        require_form(thing.q, FamilyConfig)
        if not of_the_catalogue(type(thing)):  # whose integrand may take data that nothing else needs yet
            require_form(thing.integrand, Integrand)
    if isinstance(thing, Problem | FamilyConfig):
        require_form(thing.family, Family)


def called(thing: Any) -> tuple[str, str]:
    """Return the kind and name of an object."""
    kind = next(name for cls, name in KINDS.items() if isinstance(thing, cls))
    name: Any = getattr(thing, "name", None)
    return kind, name if text(name) else type(thing).__name__


def _signatures(thing: Any, kind: type) -> Iterator[str]:
    """Yield errors about methods that are not callable, or do not take the arguments with which they are called."""
    optional = OPTIONAL.get(kind, {})
    defined = {name for cls in type(thing).__mro__ if not of_the_catalogue(cls) for name in vars(cls)}
    logs = bool(getattr(thing, "reads_logs", False)) if kind is Integrand else False
    logs = logs or (isinstance(thing, Family) and type(thing).logs is not Family.logs)
    for name in sorted(defined):
        base = getattr(Capable if kind is Family else kind, name, None)
        if not (name in optional or inspect.isfunction(base)) or name.startswith("__"):
            continue
        takes = optional.get(name) or ", ".join(_positional(base))
        method = getattr(thing, name)
        if method is None and name in optional:
            continue
        if not callable(method):
            yield f"{name} is {shown(method)}; it must be a method that takes ({takes})"
            continue
        given = len(takes.split(", ")) if takes else 0
        try:
            signature = inspect.signature(method)
        except (TypeError, ValueError):  # written in C
            continue
        for number in (given, given + 1) if logs and name in WITH_LOGS[kind] else (given,):
            try:
                signature.bind(*range(number))
            except TypeError:
                more = ", logs" if number > given else ""
                own = ", ".join(p.name for p in signature.parameters.values())
                yield f"{name} takes ({own}); after self it must take ({takes}{more})"
                break


def _positional(function: Any) -> list[str]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _attribute(thing: Any, name: str, right: Right, must: str) -> Iterator[str]:
    try:
        with contained():
            value = getattr(thing, name)
    except AttributeError as error:
        own = getattr(error, "obj", thing) is thing and getattr(error, "name", name) == name
        yield (
            f"{name} is missing; it must be {must}" if own else f"{name} raises {typed(error, 200)}; it must be {must}"
        )
        return
    except Exception as error:
        yield f"{name} raises {typed(error, 200)}; it must be {must}"
        return
    if inspect.ismethod(value) and not right(value):
        yield f"{name} is a method; make it an attribute or a property: {must}"
    elif not right(value):
        yield f"{name} is {shown(value)}; it must be {must}"


def wrong_result(thing: Any, name: str, arguments: tuple[Any, ...], right: Right, must: str) -> Iterator[str]:
    """Yield what is wrong with the result of a method of a user's object, if anything is.

    Parameters
    ----------
    thing
        The user's object.
    name
        Name of the method.
    arguments
        Arguments of the call.
    right
        Whether a result has the right form.
    must
        What the method must return, in words.
    """
    try:
        with contained():
            value = getattr(thing, name)(*arguments)
    except UsageError:  # the object's own refusal, which is reported where it matters
        return
    except Exception as error:
        yield f"{name} raises {typed(error, 200)}; it must return {must}"
        return
    if not right(value):
        yield f"{name} returns {shown(value)}; it must return {must}"


def shown(value: Any) -> str:
    """Return an object as messages show it."""
    if inspect.isclass(value):
        return f"the class {value.__qualname__}"
    if value is None or isinstance(value, str | int | float | tuple | list | dict | Requires):
        return " ".join(repr(value).split())[:100]
    return f"a {described(value)}"


def _lacks(thing: Any, abilities: Mapping[str, Any]) -> Iterator[str]:
    must = "a dict {capability: why}"
    yield from _attribute(thing, "unsupported", mapping(lambda why: isinstance(why, str)), must)
    for name in thing.unsupported:
        if name not in abilities:
            yield f"unsupported names {name}, which is no capability; choose from {', '.join(abilities)}"


def _unknown(what: str, requires: Requires) -> Iterator[str]:
    for given, known, whom in ((requires.family, CAPABILITIES, "family"), (requires.integrand, INTEGRAND, "integrand")):
        for name in given:
            if name not in known:
                yield f"{what} names {name}, which no {whom} is asked for; choose from {', '.join(known)}"


def _of_problem(problem: Any) -> Iterator[str]:
    yield from _attribute(problem, "name", text, "the text that rows call it by")
    yield from _attribute(problem, "dimension", count, "D, a whole number of at least 1")
    yield from _attribute(
        problem,
        "q",
        lambda v: isinstance(v, FamilyConfig),
        "a FamilyConfig (the Config of a family), such as Normal.Config()",
    )
    yield from _attribute(problem, "integrand", lambda v: isinstance(v, Integrand), "an object of a class of Integrand")
    yield from _attribute(problem, "encoder", lambda v: v is None or isinstance(v, Encoder), "None or an Encoder")
    for name, choices in (("entropy", get_args(Entropy)), ("differentiate", get_args(Differentiate))):
        yield from _attribute(problem, name, one_of(*choices), f"one of {', '.join(choices)}")
    yield from _attribute(problem, "framework", one_of(None, "numpy", "torch", "jax"), "torch, jax or None")
    yield from _attribute(problem, "importance_samples", count, "a whole number of at least 1")
    yield from wrong_result(problem, "content", (), lambda v: v is None or text(v), "a text or None")


def _of_estimator(estimator: Any) -> Iterator[str]:
    known = "Requires(family=(...), integrand=(...)), each a tuple of names"
    yield from _attribute(estimator, "name", text, "the text that rows call it by")
    yield from _attribute(estimator, "requires", requirement, known)
    yield from _unknown("requires", estimator.requires)
    yield from _attribute(estimator, "biased", lambda v: v is None or text(v), "None, or the reason as a text")
    for entropy in get_args(Entropy):
        yield from wrong_result(estimator, "also_requires", (entropy,), requirement, known)
        yield from _unknown("also_requires", estimator.also_requires(entropy))
    yield from wrong_result(estimator, "smallest_num_samples", (), count, "a whole number of at least 1")
    choices = get_args(Entropy)
    yield from wrong_result(estimator, "default_entropy", (), one_of(*choices), f"one of {', '.join(choices)}")


def _of_family(family: Any) -> Iterator[str]:
    yield from _attribute(family, "name", text, "the text that rows call it by")
    yield from _attribute(family, "blocks", texts, BLOCKS)
    yield from _lacks(family, CAPABILITIES)
    for dimension in (3, 2, 1):
        try:
            with contained():
                shapes = family.shapes(dimension)
        except UsageError:  # only other dimensions are allowed
            continue
        except Exception as error:
            yield f"shapes raises {typed(error, 200)}; it must return {SHAPES}"
            return
        if not mapping(shape)(shapes) or list(shapes) != list(family.blocks):
            yield f"shapes returns {shown(shapes)}; it must return {SHAPES}, of the blocks {', '.join(family.blocks)}"
            return
        for batch in ((), (2,)):
            right = mapping(lambda v: isinstance(v, Noise) and v.shape[: len(batch)] == batch)  # noqa: B023
            must = f"{NOISE}, each shape beginning with {batch}, the sample_shape"
            yield from wrong_result(family, "noise", (batch, dimension), right, must)
        return


def _of_point(point: Any) -> Iterator[str]:
    yield from _attribute(point, "family", lambda v: isinstance(v, Family), "an object of the family: Mine()")


def _of_integrand(integrand: Any) -> Iterator[str]:
    yield from _attribute(integrand, "reads", texts, "a tuple of the names of blocks of λ")
    yield from _lacks(integrand, INTEGRAND)
    yield from wrong_result(integrand, "model_shapes", (), mapping(shape), SHAPES)
