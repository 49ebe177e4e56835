"""The states of a discrete family, where there are finitely many."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from estimators.errors import NotApplicable

#: As many as are ever listed.
MOST_STATES = 2**16


@dataclass(frozen=True)
class States:
    """The product of `count` choices, each with the same alternatives.

    Attributes
    ----------
    alternatives : what one choice may be, as the numbers of z that it makes.
    count : how many choices there are.
    """

    alternatives: tuple[tuple[float, ...], ...]
    count: int

    @property
    def number(self) -> int:
        return int(len(self.alternatives) ** self.count)

    def check(self, what: str, most: int = MOST_STATES) -> None:
        """Raise NotApplicable where there are more than `most`; `what` would list them."""
        if self.number > most:
            size = f"{len(self.alternatives)}^{self.count}"
            raise NotApplicable(f"{what} lists every state, at most {most} of them; here are {size}")

    def array(self) -> np.ndarray:
        """All of them [N, D], the last choice moving fastest; not to be written to."""
        return _product(self)


@functools.lru_cache(maxsize=16)
def _product(states: States) -> np.ndarray:
    alternatives = np.asarray(states.alternatives, dtype=np.float64)
    index = np.indices((len(alternatives),) * states.count).reshape(states.count, -1).T
    z = alternatives[index].reshape(len(index), -1)
    z.setflags(write=False)
    return z
