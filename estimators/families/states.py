"""The states of a discrete family with finitely many states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable

#: The largest number of states that are listed.
MOST_STATES = 2**16


@dataclass(frozen=True)
class States:
    """The product of `count` choices, each with the same alternatives.

    Attributes
    ----------
    alternatives
        The values of one choice, each as the numbers of z that it makes.
    count
        The number of choices.
    """

    alternatives: tuple[tuple[float, ...], ...]
    count: int

    @property
    def number(self) -> int:
        """The number of states, N."""
        return int(len(self.alternatives) ** self.count)

    def check(self, what: str, most: int = MOST_STATES) -> None:
        """Check that the states can be listed.

        Parameters
        ----------
        what
            The caller, for the message.
        most
            The largest number of states that is allowed.

        Raises
        ------
        NotApplicable
            There are more states.
        """
        if self.number > most:
            size = f"{len(self.alternatives)}^{self.count}"
            raise NotApplicable(f"{what} lists every state, at most {most} of them; here are {size}")

    def listed(self, backend: Backend, dtype: str) -> Any:
        """Return all states; the last choice varies fastest.

        Parameters
        ----------
        backend
            Array framework.
        dtype
            `float64` or `float32`.

        Returns
        -------
        array
            [N, D].
        """
        xp, base = backend.xp, len(self.alternatives)
        number = backend.asarray(range(self.number), None)[:, None]
        place = backend.asarray([base**i for i in reversed(range(self.count))], None)
        chosen = xp.reshape((number // place) % base, (-1,))
        z = xp.take(backend.asarray(self.alternatives, dtype), chosen, axis=0)
        return xp.reshape(z, (self.number, -1))
