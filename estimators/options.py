"""Options: how estimators and problems declare their settings, and how `name[k=v,...]` becomes an object.

A class with options is a frozen dataclass whose fields are made by `option`. The declaration is the single source for
parsing, validation, `gradmeter list` and the effective options in a result row. Users write the field
`sticking_the_landing` as `sticking-the-landing`.

An option declared `per` coordinate, component, ... takes one number for all, or one for each: `0.1:2:30` as text, a
sequence in Python, a list in a result row. The object holds a float or a tuple of floats.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from gradmeter.estimators.errors import UsageError, short, unknown

T = TypeVar("T")

#: One number for all items, or one for each.
Values: TypeAlias = float | Sequence[float]
#: Separator of the numbers of one option, as text.
SEPARATOR = ":"


def option(
    default: Any,
    summary: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    optional: bool = False,
    per: str | None = None,
) -> Any:
    """Declare an option of a dataclass.

    Parameters
    ----------
    default
        The default value, whose type is the option's type.
    summary
        The help text.
    choices
        The values allowed for text.
    minimum, maximum
        Inclusive bounds of a number.
    above, below
        Exclusive bounds of a number.
    optional
        Whether the option is an `int` that defaults to None.
    per
        The items that may have a number each, such as `coordinate`; None if the option takes one number only.

    Returns
    -------
    dataclasses.Field
    """
    metadata = {
        "summary": summary,
        "choices": choices,
        "bounds": (minimum, maximum, above, below),
        "type": int if optional else type(default),
        "per": per,
    }
    return dataclasses.field(default=default, metadata=metadata)


def alternative(default: type, summary: str, *, name: str, classes: Mapping[str, type]) -> Any:
    """Declare an option that chooses a class; the options of that class are given beside it: `family=gamma,rate=2`.

    Parameters
    ----------
    default
        The class that is chosen by default.
    summary
        The help text.
    name
        The name of the option.
    classes
        The classes by the names that users give; each is a dataclass made of options.

    Returns
    -------
    dataclasses.Field
    """
    metadata = {"summary": summary, "name": name, "classes": classes}
    return dataclasses.field(default=default(), metadata=metadata)


def _options(cls: Any) -> list[Any]:
    """Return the dataclass fields that are options (those in the repr); none if the class is no dataclass."""
    return [field for field in dataclasses.fields(cls) if field.repr] if dataclasses.is_dataclass(cls) else []


def _metadata(field: Any) -> Mapping[str, Any]:
    """Return what `option` declares; a plain field of a user's class is an option of its default's type, unbounded."""
    if field.metadata:
        found: Mapping[str, Any] = field.metadata
        return found
    kind = object if field.default is dataclasses.MISSING else type(field.default)
    return {"summary": "", "choices": None, "bounds": (None,) * 4, "type": kind, "per": None}


def _external(name: str) -> str:
    return name.replace("_", "-")


def _chosen(field: Any, given: Mapping[str, Any]) -> type:
    """Return the class that the options choose; the default if they name none, or an unknown one."""
    name = given.get(field.metadata["name"])
    classes: Mapping[str, type] = field.metadata["classes"]
    return classes[name] if isinstance(name, str) and name in classes else type(field.default)


def _declared(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field of every option by external name, including the options of the classes that `given` chooses."""
    found: dict[str, Any] = {}
    for field in _options(cls):
        if "classes" in field.metadata:
            found |= {field.metadata["name"]: field, **_declared(_chosen(field, given), given)}
        else:
            found[_external(field.name)] = field
    return found


def _default(field: Any) -> Any:
    if "classes" in field.metadata:
        return field.default.family.name
    return None if field.default is dataclasses.MISSING else _plain(field.default)


def describe(cls: type) -> dict[str, dict[str, Any]]:
    """Return the options of a class: name to type, default, choices, summary and `per`, as plain JSON values.

    For an alternative, the options of the default class are shown.
    """
    described = {}
    for name, field in _declared(cls, {}).items():
        meta = _metadata(field)
        entry = {"type": meta.get("type", str).__name__, "default": _default(field), "summary": meta["summary"]}
        choices = meta.get("classes", meta.get("choices"))
        if choices:
            entry["choices"] = list(choices)
        if meta.get("per"):
            entry["per"] = meta["per"]
        described[name] = entry
    return described


def effective(instance: Any) -> dict[str, Any]:
    """Return every option of an object with its value, defaults included, as plain JSON values.

    Several numbers of one option become a list. A field of a user's problem that holds a family at given parameter
    values counts as the option `family`, with the options of that family.
    """
    options: dict[str, Any] = {}
    for field in _options(instance):
        value: Any = getattr(instance, field.name)
        if "classes" in field.metadata:
            options |= {field.metadata["name"]: value.family.name, **effective(value)}
        elif (family := getattr(value, "family", None)) is not None and dataclasses.is_dataclass(value):
            options |= {"family": family.name, **effective(value)}
        else:
            options[_external(field.name)] = _plain(value)
    return options


def _plain(value: Any) -> Any:
    """Return a value as JSON has it.

    A value that is no option (an array or a function of a user's class) is described in a word or two.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if value.shape == () and hasattr(value, "item"):
            return _plain(value.item())
        return f"{type(value).__name__} {list(value.shape)}"
    return str(getattr(value, "__name__", type(value).__name__))


def construct(cls: type[T], given: Mapping[str, Any], what: str) -> T:
    """Build `cls` from options given as text or values.

    Parameters
    ----------
    given
        Values by option name, with hyphens or underscores.
    what
        The owner of the options, as error messages name it.

    Raises
    ------
    UsageError
        An option is unknown, or a value has the wrong type or is out of bounds.
    """
    given = {_external(name): value for name, value in given.items()}
    fields = _declared(cls, given)
    for name in given:
        if name not in fields:
            chosen = [f"{n}={given[n]}" for n, f in fields.items() if "classes" in f.metadata and n in given]
            raise unknown(f"option of {' with '.join([what, *chosen])}", name, fields, listing(what))
    return _build(cls, given, what)


def listing(what: str) -> str:
    """Return the command that lists everything of a kind, which is the first word of `what`."""
    return f"gradmeter list {what.partition(' ')[0]}s"


def _build(cls: type[T], given: Mapping[str, Any], what: str) -> T:
    values: dict[str, Any] = {}
    for field in _options(cls):
        meta = _metadata(field)
        name = meta.get("name", _external(field.name))
        if "classes" in meta:
            if name in given and given[name] not in meta["classes"]:
                raise unknown(
                    f"value of {what} option '{name}':", str(given[name]), meta["classes"], "gradmeter list families"
                )
            values[field.name] = _build(_chosen(field, given), given, what)
        elif name in given:
            values[field.name] = _convert(f"{what} option '{name}'", meta, given[name])
        elif field.init and field.default is field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{what} option '{name}' has no default; declare it by gradmeter.option, with a default")
    return cls(**values)


def converted(instance: Any, what: str) -> dict[str, Any]:
    """Return the options declared `per` something by field name, checked, each as a float or a tuple of floats.

    Raises
    ------
    UsageError
        A value is not a number, or is out of bounds.
    """
    fields = [field for field in dataclasses.fields(instance) if field.metadata.get("per")]
    values = {field.name: (field.metadata, getattr(instance, field.name)) for field in fields}
    return {name: _convert(f"{what} option '{_external(name)}'", *pair) for name, pair in values.items()}


def _convert(what: str, meta: Mapping[str, Any], value: Any) -> Any:
    if meta["per"]:
        return _several(what, meta, value)
    kind = meta["type"]
    if kind is bool:
        text = str(value).lower()
        if text not in ("true", "false"):
            raise UsageError(f"{what} is '{short(value)}'; it must be true or false")
        return text == "true"
    if kind is str:
        if meta["choices"] and value not in meta["choices"]:
            raise unknown(f"value of {what}:", str(value), meta["choices"])
        return str(value)
    if kind in (int, float):
        return number(what, value, kind, *meta["bounds"])
    if isinstance(value, str):
        raise UsageError(f"{what} has no text form; declare it by gradmeter.option, or give the object in Python")
    return value


def _several(what: str, meta: Mapping[str, Any], value: Any) -> float | tuple[float, ...]:
    """Return one number, or a tuple of numbers, from text with separators or from a one-dimensional sequence."""
    value = value.tolist() if hasattr(value, "tolist") else value  # an array of any framework
    if isinstance(value, str) and SEPARATOR in value:
        given: list[Any] = [part.strip() for part in value.split(SEPARATOR)]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        given = list(value)
    else:
        return float(number(what, value, meta["type"], *meta["bounds"]))
    if not given:
        raise UsageError(f"{what} is empty; give one number for all, or one a {meta['per']}")
    numbers = tuple(
        float(number(f"{what}, number {i} of {len(given)},", each, meta["type"], *meta["bounds"]))
        for i, each in enumerate(given, 1)
    )
    return numbers if len(numbers) > 1 else numbers[0]


def number(
    what: str,
    value: Any,
    kind: type = float,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """Return `value` as a finite number of type `kind` within the bounds.

    Parameters
    ----------
    what
        What the number is, for the message.
    value
        A number, or text.
    kind
        `int` or `float`.
    minimum
        Inclusive lower bound.
    maximum
        Inclusive upper bound.
    above
        Exclusive lower bound.
    below
        Exclusive upper bound.

    Raises
    ------
    UsageError
        It is no such number; the message says what it must be.
    """
    try:
        result = _whole(str(value)) if kind is int else float(str(value))
    except (ValueError, OverflowError):
        result = None
    if (
        result is not None
        and (kind is int or math.isfinite(result))
        and (minimum is None or result >= minimum)
        and (maximum is None or result <= maximum)
        and (above is None or result > above)
        and (below is None or result < below)
    ):
        return result
    bounds = {"at least": minimum, "at most": maximum, "above": above, "below": below}
    needs = [f"{words} {written(bound)}" for words, bound in bounds.items() if bound is not None]
    kind_of_number = "a whole number" if kind is int else "a finite number"
    raise UsageError(f"{what} is '{short(value)}'; it must be {', '.join([kind_of_number, *needs])}")


def _whole(text: str) -> int:
    """Parse a whole number, which may also be written 2^20 or 1e6."""
    base, power, exponent = text.partition("^")
    if power:
        if len(base) > 9 or not 0 <= int(exponent) <= 99:
            raise ValueError(text)
        return int(base) ** int(exponent)
    if "e" in text.lower():
        value = float(text)
        if not value.is_integer():
            raise ValueError(text)
        return int(value)
    return int(text)


_CALL = re.compile(r"^\s*(?P<name>[^\[\]=,\s]+)\s*(\[(?P<options>[^\[\]]*)\])?\s*$")


def parse(text: str, what: str) -> tuple[str, dict[str, str]]:
    """Split `name[k=v,...]` into the name and its options, all as text.

    Raises
    ------
    UsageError
        The text has another form, or gives an option twice.
    """
    match = _CALL.match(text)
    if match is None:
        raise UsageError(f"{what} '{short(text)}' is not of the form name or name[option=value,...]")
    given: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in (match["options"] or "").split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{what} '{short(text)}': '{short(part)}' is not of the form option=value")
        if key.strip() in given:
            raise UsageError(f"{what} '{short(text)}' gives option '{short(key.strip())}' twice")
        given[key.strip()] = value.strip()
    return match["name"], given


def spell(name: str, options: Mapping[str, Any], cls: type) -> str:
    """Return `name[k=v,...]` with the options that differ from their defaults: the shortest text that parses back."""
    defaults = {n: _default(field) for n, field in _declared(cls, options).items()}
    return spell_given(name, {k: written(v) for k, v in options.items() if v != defaults.get(k)})


def spell_given(name: str, options: Mapping[str, str]) -> str:
    """Return `name[k=v,...]`, the inverse of `parse`."""
    parts = [f"{k}={v}" for k, v in options.items()]
    return f"{name}[{','.join(parts)}]" if parts else name


def written(value: Any) -> str:
    """Format an option's value as text that parses back."""
    if isinstance(value, bool):
        return str(value).lower()
    if numbers(value):
        return SEPARATOR.join(written(each) for each in value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def numbers(value: Any) -> bool:
    """Return whether a value is a nonempty list or tuple of numbers, as options declared `per` may have."""
    return isinstance(value, list | tuple) and bool(value) and all(type(each) in (int, float) for each in value)
