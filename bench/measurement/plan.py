"""The budget of replicates for a verdict: blocks, interim analyses, and the reserve for confirmation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradmeter.bench.measurement.moments import GROUPS

#: Replicates in a block below which the overhead of a call exceeds its work.
FEWEST_IN_BLOCK = 64
#: Blocks of the pilot run that gives estimates their rough mean.
PILOT_BLOCKS = 4


#: The first interim analysis may take this fraction of the cap, 1/16.
FIRST = 16


def capped(block: int, cap: int) -> int:
    """Return the number of replicates in a block under a cap on all replicates.

    Two runs of 64 blocks and a pilot have to fit in the cap. The block is also halved until 64 blocks are at most a
    sixteenth of the cap, or until calls would cost more than their work. So the main run doubles up to half of the cap.

    The first limit is rounded down to five binary digits, since loops want many factors of two.
    """
    fits = max(1, cap // (2 * GROUPS + PILOT_BLOCKS))
    spare = max(0, fits.bit_length() - 5)
    found = min(block, fits >> spare << spare)
    while found * GROUPS * FIRST > cap and found >= 2 * FEWEST_IN_BLOCK and found % 2 == 0:
        found //= 2
    return found


@dataclass
class ReplicateBudget:
    """A budget of replicates, and the interim analyses that it allows.

    The main run doubles from one analysis to the next. It may take the whole budget. But a candidate for `biased` needs
    as many fresh replicates for its confirmation as the analysis that suspected it, so none can be confirmed once half
    of the budget is spent.

    Attributes
    ----------
    cap
        The most replicates that are drawn.
    block
        Replicates in a block.
    spent
        Replicates drawn so far.
    reserve
        Whether half of the budget is kept for draws after the main run.
    affords
        Function that tells how many more replicates there is time for.
    stop_at
        Number of replicates, below the cap, that ends the draws; the analyses are those of the cap.
    """

    cap: int
    block: int
    spent: int = 0
    reserve: bool = False
    affords: Callable[[], float] = lambda: math.inf
    stop_at: float = math.inf

    @property
    def analyses(self) -> int:
        """Largest number of interim analyses of the main run, fixed before anything is drawn."""
        most, first = self.cap - self.spent, GROUPS * self.block
        if self.reserve:
            most = max(first, most // 2)
        return max(1, (most // first).bit_length())

    @property
    def left(self) -> int:
        return int(min(self.cap - self.spent, self.more()))

    def more(self) -> float:
        """Return how many more replicates may be drawn, whatever the cap."""
        return min(self.affords(), self.stop_at - self.spent)
