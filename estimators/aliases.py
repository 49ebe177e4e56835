"""Usual names of estimators that are called otherwise here, and what each stands for."""

from __future__ import annotations

from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.options import parse, spell_given

#: Options of `policy-gradient` by the name of a trainer or a paper; a group is the samples of one prompt.
TRAINERS = {
    "grpo": "baseline=group-mean,normalise=std,length=sequence-mean,ratio=token,clip=0.2,kl=k3-loss,kl-level=token",
    "trl-grpo": "baseline=group-mean,normalise=std,length=token-mean,ratio=token,clip=0.2,kl=k3-ratio,kl-level=token",
    "dr-grpo": "baseline=group-mean,length=constant,ratio=token,clip=0.2",
    "dapo": "baseline=group-mean,normalise=std,length=token-mean,ratio=token,clip=0.2,clip-high=0.28",
    "gspo": "baseline=group-mean,normalise=std,length=sequence-mean,ratio=geometric,clip=0.0003,clip-high=0.0004",
    "cispo": "baseline=group-mean,normalise=std,length=token-mean,ratio=token,truncate=5",
    "ppo": "advantage=to-go,baseline=leave-one-out,length=token-mean,ratio=token,clip=0.2,kl=k1-reward,kl-level=token",
    "tis": "baseline=leave-one-out,ratio=token,truncate=2,kl=k1-reward",
    "bnpo": "baseline=group-mean,normalise=std,length=token-mean,ratio=token,clip=0.2",
    "reinforce++": "advantage=to-go,baseline=group-mean,normalise=std,length=token-mean,ratio=token,clip=0.2,"
    "kl=k1-reward,kl-level=token",
    "rloo-kl": "baseline=leave-one-out,kl=k1-reward",
}

ALIASES: dict[str, str] = {
    "reinforce": "score-function",
    "likelihood-ratio": "score-function",
    "bbvi": "score-function",
    "rloo": "score-function[baseline=leave-one-out]",
    "loo": "score-function[baseline=leave-one-out]",
    "loorf": "score-function[baseline=leave-one-out]",
    "nvil": "score-function[baseline=input-dependent]",
    "reparameterization": "pathwise",
    "reparameterisation": "pathwise",
    "advi": "pathwise",
    "sticking-the-landing": "pathwise[sticking-the-landing=true]",
    "stl": "pathwise[sticking-the-landing=true]",
    "omt": "optimal-transport",
    "mvd": "measure-valued",
    "weak-derivative": "measure-valued",
    "es": "evolution-strategies",
    "mezo": "evolution-strategies[shared=true]",
    "forward-mode": "forward-gradient",
    "jvp": "forward-gradient",
    "snis": "self-normalised",
    "self-normalized": "self-normalised",
    "o-bbvi": "overdispersed",
    "g-rep": "generalised-reparameterisation",
    "generalized-reparameterization": "generalised-reparameterisation",
    "rsvi": "rejection-reparameterisation",
    "rejection-reparameterization": "rejection-reparameterisation",
    "u2g": "disarm",
    "ste": "straight-through",
    "st-gumbel": "straight-through-gumbel",
    "gumbel-rao-blackwell": "gumbel-rao",
    "gst": "gapped-straight-through",
    "gapped-st": "gapped-straight-through",
    "without-replacement": "unordered-set",
    "discrete-stein": "rodeo",
    "doubly-reparameterized": "dreg",
    "doubly-reparameterised": "dreg",
    "tvo": "thermodynamic",
    "disarm-iw": "multi-sample-disarm",
    **{name: f"policy-gradient[{options}]" for name, options in TRAINERS.items()},
}


def usual_spelling(name: str) -> str:
    """Return a name in lower case with hyphens, as the names here are written: `dr_grpo` and `GRPO` are names too."""
    return name.lower().replace("_", "-")


def resolve(name: str, given: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return the name and options that an alias with options stands for; any other name as it is.

    Raises
    ------
    UsageError
        An option contradicts the one that the alias means.
    """
    if name not in ALIASES and usual_spelling(name) in ALIASES:
        name = usual_spelling(name)
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
