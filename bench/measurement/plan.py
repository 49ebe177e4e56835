"""How the replicates that a verdict may cost are spent: blocks, interim analyses, and what is kept for confirmation."""

from __future__ import annotations

from dataclasses import dataclass

from gradmeter.bench.measurement.moments import GROUPS

#: Replicates in a block, below which calls cost more than what they do.
FEWEST_IN_BLOCK = 64
#: Blocks of a pilot run, for estimates whose mean nobody has looked at.
PILOT_BLOCKS = 4


#: Which part of the cap the first analysis may take.
FIRST = 16


def capped(block: int, cap: int) -> int:
    """Replicates in a block: at most so many that two runs of 64 blocks and a pilot fit in the cap, and halved until
    64 blocks are a sixteenth of it, or calls would cost more than what they do. So the main run doubles to half of it.

    Rounded down to five binary digits, for loops want many factors of two.
    """
    fits = max(1, cap // (2 * GROUPS + PILOT_BLOCKS))
    spare = max(0, fits.bit_length() - 5)
    found = min(block, fits >> spare << spare)
    while found * GROUPS * FIRST > cap and found >= 2 * FEWEST_IN_BLOCK and found % 2 == 0:
        found //= 2
    return found


@dataclass
class Plan:
    """A budget of replicates, and the interim analyses that it allows.

    The main run doubles from one analysis to the next. It may take the whole budget, but a candidate for `biased` is
    confirmed by as many replicates as suspected it, so from half of the budget on none can be.

    Attributes
    ----------
    cap : the most replicates that are drawn.
    block : replicates in a block.
    spent : drawn so far.
    reserve : whether half of the budget is kept for draws that come after the main run.
    """

    cap: int
    block: int
    spent: int = 0
    reserve: bool = False

    @property
    def analyses(self) -> int:
        """How many times the main run is looked at, at most: fixed before anything is drawn."""
        most, first = self.cap - self.spent, GROUPS * self.block
        if self.reserve:
            most = max(first, most // 2)
        return max(1, (most // first).bit_length())

    @property
    def left(self) -> int:
        return self.cap - self.spent
