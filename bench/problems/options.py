"""Options that many problems have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from gradmeter.estimators import FAMILIES, Normal
from gradmeter.estimators.expectation import Differentiate
from gradmeter.estimators.options import alternative, option


def batch_option(rows: str = "rows") -> Any:
    """Declare the option `batch`; `rows` is what the help text calls them."""
    return option(None, f"minibatch size (all {rows} if absent)", minimum=1, optional=True)


def differentiate_option(derivatives: str = "∇f comes") -> Any:
    """Declare a problem's option `differentiate`."""
    return option("closed-form", f"where {derivatives} from", choices=get_args(Differentiate))


def entropy_option(summary: str = "how the entropy of q enters") -> Any:
    """Declare an ELBO's option `entropy`, or an option that says the same in other words."""
    return option("sampled", summary, choices=("sampled", "analytic"))


class _Configs(Mapping[str, type]):
    """The options of every family by its name, of those too that are registered later."""

    def __getitem__(self, name: str) -> type:
        found: type = FAMILIES[name].Config
        return found

    def __contains__(self, name: object) -> bool:
        return name in FAMILIES

    def __iter__(self) -> Iterator[str]:
        return iter(FAMILIES)

    def __len__(self) -> int:
        return len(FAMILIES)


def family_option(*names: str) -> Any:
    """Declare a problem's option `family`, along with the options of the chosen family.

    Parameters
    ----------
    *names : str
        Names of the families that the problem accepts, default first. All families, if empty.
    """
    classes = {name: FAMILIES[name].Config for name in names} if names else _Configs()
    default = classes[names[0]] if names else Normal.Config
    return alternative(default, "q; its own options: gradmeter list families", name="family", classes=classes)
