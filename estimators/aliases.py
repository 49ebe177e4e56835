"""Usual names of estimators that are called otherwise here, and what each stands for."""

from __future__ import annotations

from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.options import parse, spell_given

ALIASES: dict[str, str] = {
    "reinforce": "score-function",
    "likelihood-ratio": "score-function",
    "rloo": "score-function[baseline=leave-one-out]",
    "loo": "score-function[baseline=leave-one-out]",
    "reparameterization": "pathwise",
    "reparameterisation": "pathwise",
    "stl": "pathwise[sticking-the-landing=true]",
    "mvd": "measure-valued",
    "weak-derivative": "measure-valued",
    "es": "evolution-strategies",
    "snis": "self-normalised",
    "self-normalized": "self-normalised",
    "o-bbvi": "overdispersed",
    "rsvi": "rejection-reparameterisation",
    "rejection-reparameterization": "rejection-reparameterisation",
    "u2g": "disarm",
    "ste": "straight-through",
    "st-gumbel": "straight-through-gumbel",
    "doubly-reparameterized": "dreg",
    "doubly-reparameterised": "dreg",
}


def resolve(name: str, given: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return the name and options that an alias with options stands for; any other name as it is.

    Raises
    ------
    UsageError
        An option contradicts the one that the alias means.
    """
    if name not in ALIASES:
        return name, given
    target, fixed = parse(ALIASES[name], "estimator")
    for option, value in fixed.items():
        if given.get(option, value) != value:
            whole = spell_given(target, fixed | given)
            raise UsageError(
                f"estimator {name} means {ALIASES[name]}; for option '{option}={given[option]}' use {whole}"
            )
    return target, fixed | given
