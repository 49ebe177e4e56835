"""The analyses of one cell: replicates are doubled until the stopping criteria hold, then the columns are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradmeter.bench.cells import StoppingCriteria
from gradmeter.bench.measurement.columns import rows_of, tails_matter
from gradmeter.bench.measurement.controls.fit import PILOT
from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.controls.relieved import FEWEST_RELIEVED, Relieved, fewer
from gradmeter.bench.measurement.defensive import Weighted
from gradmeter.bench.measurement.moments import GROUPS
from gradmeter.bench.measurement.plan import PILOT_BLOCKS, ReplicateBudget
from gradmeter.bench.measurement.stream import GATHERED, NonFinite, Source, Stream, pilot_mean
from gradmeter.bench.measurement.verdict import MOST_ROUNDS, Evidence, Verdicts
from gradmeter.bench.problems import Exact
from gradmeter.bench.rows import ALL

#: Factor by which control variates must reduce the variance of an estimate to be used; and the number of controlled
#: replicates below which they do not certify a user's own parts.
LEAST_GAIN, FEWEST_BROUGHT = 1.5, 2**14
#: Nominal replicates that have to confirm the variance reduction.
CONFIRMING = 2048
#: Size of an estimate's difference below which Q² underflows in float64.
LEAST_SQUARED = 1e-76
#: Share of ΣQ of plain replicates, in larger Q than other draws met, above which those missed an event.
UNMET = 0.01
#: Assumption of a verdict on noise drawn by other software.
NOT_OURS = "the noise is not ours: no event rarer than the replicates show matters"
#: Units in the last place by which rounding may move an estimate, relative to its size, where τ cannot be measured.
UNMEASURED = 64.0


@dataclass
class Measurement:
    """The statistics of a measured cell.

    Attributes
    ----------
    blocks
        Columns by parameter block, `all` last.
    replicates
        n.
    squared_norms
        Mean of Q in each of the 64 groups of replicates, by parameter block.
    drawn
        Number of estimates drawn for the verdict, including pilots, controls, defensive draws and confirmation.
    stream
        The plain replicates, with their moments by parameter block.
    """

    blocks: dict[str, dict[str, Any]]
    replicates: int
    squared_norms: dict[str, np.ndarray] = field(default_factory=dict)
    drawn: int = 0
    stream: Stream | None = None


def measure_source(
    kernel: Source, exact: Exact | None, goals: StoppingCriteria, evidence: Evidence | None = None, each: Any = None
) -> Measurement:
    """Measure estimates from any source; see `measure`.

    Parameters
    ----------
    kernel
        Source of block sums.
    exact
        Exact gradient; None where it is unknown.
    goals
        Stopping criteria: precision, bias_bound, max_replicates.
    evidence
        Sources of evidence beside plain replicates.
    each
        Callback that receives the number of replicates so far.
    """
    return _Measuring(kernel, exact, goals, evidence or Evidence(), each).run()


class _Measuring:
    """The state of one cell's measurement."""

    def __init__(
        self, kernel: Source, exact: Exact | None, goals: StoppingCriteria, evidence: Evidence, each: Any
    ) -> None:
        self.kernel, self.exact, self.goals, self.evidence, self.each = kernel, exact, goals, evidence, each
        block = kernel.setting.replicates
        pilot = max(0, min(PILOT_BLOCKS, goals.max_replicates // block - GROUPS))
        spent, reserve = pilot * block, evidence.searched
        self.plan = ReplicateBudget(goals.max_replicates, block, spent, reserve, evidence.affords, evidence.stop_at)
        self.main = Stream(kernel, "main", pilot_mean(kernel, pilot))
        self.analyses = self.plan.analyses
        #: Plain replicates at the last interim analysis.
        self.most = GROUPS * block << (self.analyses - 1)
        self.verdicts: Verdicts
        self.fresh: Stream | None = None
        #: Control variates, and the kernel of estimates with these subtracted.
        self.controls: Controls | None = None
        self.left: Relieved | None = None
        self.attempted = False
        #: Variance of plain replicates by parameter block when the controls were fitted.
        self.before: dict[str, float] = {}

    def run(self) -> Measurement:
        for analysis in range(self.analyses):
            before = self.main.total.count
            self.main.extend(GROUPS << analysis, self.each)
            self.plan.spent += self.main.total.count - before
            if analysis == 0:
                if self.evidence.check is not None:
                    self.main.check_largest(self.evidence.check)
                self.verdicts = self._verdicts()
                self._check_squares()
            last = analysis + 1 == self.analyses or self.plan.more() < self.main.total.count
            settled = self._look(last)
            if not (settled or self.attempted):
                self._control()
            if not (settled or last or self.verdicts.may_be_precise(self.main, self.goals.precision)):
                continue
            rows = rows_of(self.verdicts, self.main)
            if settled or last or self._satisfied(rows):
                break
        changed = self.evidence.searched and not settled and self._search()
        if self._catch_up() or changed:
            rows = rows_of(self.verdicts, self.main)
        squared = {name: moments.group_squared_norms() for name, moments in self.main.moments.items()}
        squared[ALL] = sum(squared.values(), np.zeros(GROUPS))
        for columns in rows.values():
            for name in ("half_width", "final", "untrusted_bound"):
                columns.pop(name, None)
        return Measurement(rows, self.main.total.count, squared, self.plan.spent, self.main)

    def _verdicts(self) -> Verdicts:
        setting, evidence = self.kernel.setting, self.evidence
        tolerance = self._rounding() if evidence.tolerance is None else evidence.tolerance
        return Verdicts(
            setting,
            self.exact,
            tolerance,
            evidence,
            evidence.integrals(),
            bias_bound=self.goals.bias_bound,
            analyses=self.analyses,
            others=self._others(),
        )

    def _check_squares(self) -> None:
        """Raise NonFinite where estimates vary by so little that their squares underflow."""
        dtype = np.finfo(self.kernel.setting.dtype)
        for name, moments in self.main.moments.items():
            moved = float(np.abs(moments.group_means()).max(initial=0.0))
            # The square of less is 0, so that estimates do not vary; that of more keeps its digits, and so does Q².
            lost, least = math.sqrt(float(dtype.smallest_subnormal)), math.sqrt(16.0 * float(dtype.tiny))
            rounding = float(self.verdicts.rounding[name].max(initial=0.0))
            if max(rounding, lost) < moved < max(least, LEAST_SQUARED):
                raise NonFinite(
                    f"the squares of estimates of {name}, which vary by about {moved:.1g}, underflow; multiply f by a "
                    "constant"
                )

    def _others(self) -> int:
        """Return the largest number of interim analyses of controlled replicates and of defensive rounds."""
        relieved = rounds = 0
        if self.evidence.controls:
            block = self.kernel.setting.replicates
            relieved = self.analyses + MOST_ROUNDS + (block // fewer(block)).bit_length() - 1
        if self.evidence.controls or self.evidence.again:
            rounds = 2 * MOST_ROUNDS
        return relieved + rounds

    def _rounding(self) -> dict[str, np.ndarray]:
        """Return τ of estimates whose inputs cannot be perturbed, from the size of the estimates."""
        found = {}
        for name, moments in self.main.moments.items():
            size = np.sqrt(moments.mean_squares(self.main.centre[name]))
            if self.exact is not None:
                size = np.maximum(size, np.abs(self.exact.gradient[name]))
            found[name] = UNMEASURED * float(np.finfo(self.kernel.setting.dtype).eps) * size
        return found

    def _control(self) -> None:
        """Continue with controlled replicates, if control variates promise a verdict from fewer of them."""
        verdicts, evidence, count = self.verdicts, self.evidence, self.main.total.count
        if evidence.controls is None or self.exact is None or verdicts.integrals is not None or verdicts.dependent:
            return
        few = GROUPS * fewer(self.kernel.setting.replicates)
        if self.plan.left < 4 * few + PILOT or not self._promises(math.inf) or verdicts.heavy(self.main):
            return
        self.attempted = True
        made = evidence.controls(self._mean(self.main))
        if made is None:
            return
        self.controls, self.left = made
        self.left.about = self.main.centre
        self.plan.spent += self.controls.replicates
        self.before = {name: float(moments.variances().sum()) for name, moments in self.main.moments.items()}
        centre = self._confirmed()
        if centre is None:
            self.controls = None
            return
        stream = self._relieved("controlled", centre)
        self.verdicts.relieve(stream, self.controls)
        blocks = GROUPS
        while True:
            stream.extend(blocks, self.each)
            self.plan.spent += stream.total.count // (1 if blocks == GROUPS else 2)
            count = stream.total.count
            candidates = verdicts.candidates(stream)
            if candidates and self.plan.left >= count:
                again = self._again(count)
                if isinstance(again, Weighted) and verdicts.varies_more(again, stream):
                    self._leave_controls()  # replicates missed events that determine the mean
                    self._rest_on_defensive_draws()
                    return
                verdicts.confirm(candidates, again)
            if count >= (FEWEST_BROUGHT if evidence.searched else FEWEST_RELIEVED):
                if self._certain():
                    return
                if tails_matter(verdicts, self.main):
                    most = GROUPS * stream.kernel.setting.replicates
                    while self._rest_on_defensive_draws(most=most) and not self._certain():
                        if self.plan.left < 2 * most * MOST_ROUNDS:
                            break
                        most *= 4
                    return
            if self.plan.left < count:
                return
            blocks *= 2

    def _leave_controls(self) -> None:
        self.controls = None
        self.verdicts.leave_controls()

    def _catch_up(self) -> bool:
        """Judge the mean by as many draws as have met the events that plain replicates met; return whether it changed.

        Controlled replicates and defensive draws are fewer than plain replicates, which may meet an event that those
        missed. Of a user's parts as many controlled replicates are drawn as there are plain ones; of the catalogue's,
        whose events are known, only where z is discrete and the largest plain estimates show such an event.
        """
        verdicts, count = self.verdicts, self.main.total.count
        if verdicts.rounds is not None:
            if not self._missed(verdicts.rounds):
                return False
            size = min(self.plan.left // 2, count)
            if size > verdicts.rounds[-1].count:
                rounds = [self._defensive(size), self._defensive(size)]
                verdicts.confirmed.clear()
                verdicts.rest_on(rounds)
                if not self._missed(rounds):
                    return True
            self._leave_controls()
            return True
        stream = verdicts.relieved
        if stream is None or stream.total.count >= count:
            return False
        if not (self.evidence.searched or (self.evidence.rare and self._missed([]))):
            return False
        while stream.total.count < count and self.plan.left >= stream.total.count:
            self.plan.spent += stream.total.count
            stream.extend(2 * stream.total.blocks)
        if stream.total.count < count or verdicts.heavy(stream) or self._missed([]):
            self._leave_controls()
        return True

    def _missed(self, rounds: list[Weighted]) -> bool:
        """Return whether plain replicates met events that these rounds, and the controlled replicates, did not."""
        met = [r.met for r in rounds] + ([] if self.left is None else [self.left.met])
        most = {name: max(each[name] for each in met) for name in self.kernel.setting.blocks}
        return self.verdicts.unmet_share(self.main, most) > UNMET

    def _promises(self, gain: float) -> bool:
        """Return whether controls that divide the variance by `gain` save replicates.

        The replicates of a pilot that is still to be drawn and those of the confirmation count as a cost. Where the cap
        is too low for a verdict either way, return whether the controls give the smaller bound.
        """
        count, pilot = self.main.total.count, 0 if self.controls else PILOT
        wanted = self._wanted()
        relieved = max(FEWEST_RELIEVED, 0.0 if math.isinf(gain) else wanted * count / gain)
        if CONFIRMING + relieved <= self.plan.left:
            return pilot + CONFIRMING + relieved < (wanted - 1.0) * count
        few = GROUPS * fewer(self.kernel.setting.replicates)
        most = few << (max(1, (self.plan.left - pilot - CONFIRMING) // few).bit_length() - 1)
        return gain * most > LEAST_GAIN * self.most

    def _wanted(self) -> float:
        """Return how many times the present number of plain replicates would certify every parameter block."""
        wanted = 0.0
        for columns in rows_of(self.verdicts, self.main).values():
            if columns["final"] or columns["verdict"] in ("unbiased", "biased"):
                continue
            bound = columns.get("bias_bound")
            wanted = max(wanted, math.inf if bound is None else (bound / self.goals.bias_bound) ** 2)
        return wanted

    def _certain(self) -> bool:
        rows = rows_of(self.verdicts, self.main).values()
        return all(columns["final"] or columns["verdict"] != "inconclusive" for columns in rows)

    def _relieved(self, name: str, centre: dict[str, np.ndarray]) -> Stream:
        """Return a stream of estimates less the controls, centred at a rough mean of these differences."""
        assert self.controls is not None
        assert self.left is not None
        dtype, constant = self.kernel.setting.dtype, self.controls.constant
        offset = {n: constant.get(n, np.zeros(size)) for n, size in self.kernel.setting.sizes.items()}
        return Stream(self.left, name, {n: c.astype(dtype).astype(np.float64) for n, c in centre.items()}, offset)

    def _confirmed(self) -> dict[str, np.ndarray] | None:
        """Return the mean of estimates less the controls if fresh nominal draws confirm the gain, else None.

        No verdict is based on these draws.
        """
        assert self.controls is not None
        if self.controls.gain < LEAST_GAIN or not self._promises(self.controls.gain):
            return None
        mean = self._mean(self.main)
        stream = self._relieved(
            "controls confirmed", {n: c - self.controls.constant.get(n, 0.0) for n, c in mean.items()}
        )
        some = GATHERED * stream.kernel.setting.replicates
        stream.extend(min(GROUPS, GATHERED * math.ceil(CONFIRMING / some)))
        self.plan.spent += stream.total.count
        left = sum(float(m.variances().sum()) for m in stream.moments.values())
        plain = sum(float(m.variances().sum()) for m in self.main.moments.values())
        if left * LEAST_GAIN > plain or not self._promises(plain / left if left else math.inf):
            return None
        return self._mean(stream)

    def _mean(self, stream: Stream) -> dict[str, np.ndarray]:
        return {name: stream.centre[name] + moments.shift() for name, moments in stream.moments.items()}

    def _look(self, last: bool) -> bool:
        """Run one interim analysis of the mean; return whether no later analysis would change the verdicts."""
        verdicts, count = self.verdicts, self.main.total.count
        suspected = verdicts.dependence(self.main)
        if suspected:
            verdicts.confirm_dependence(suspected, self._fresh(GROUPS))
            if verdicts.dependent is not None:
                return True
        verdicts.cross_examine(self.main)
        if verdicts.relieved is not None:
            if not (verdicts.heavy(self.main) or verdicts.grew(self.main, self.before)):
                return False
            self._leave_controls()  # plain replicates have since met events that the controlled ones may have missed
        candidates = verdicts.candidates(self.main)
        closing = last or self.plan.left < 3 * count  # a candidate of the next analysis could not be confirmed
        heavy = verdicts.heavy(self.main) if candidates or closing else []
        if heavy and self.evidence.again is not None:
            # With fewer than 200 κ replicates, any distribution looks heavy-tailed.
            return closing and self._rest_on_defensive_draws()
        candidates = {name: candidate for name, candidate in candidates.items() if name not in heavy}
        verdicts.unconfirmed = bool(candidates) and self.plan.left < count
        if candidates and self.plan.left >= count:
            again = self._again(count)
            if isinstance(again, Weighted) and verdicts.varies_more(again, self.main):
                return self._rest_on_defensive_draws(again)  # plain draws missed events that determine the mean
            verdicts.confirm(candidates, again)
        return False

    def _fresh(self, blocks: int) -> Stream:
        """Return at least this many blocks of plain replicates that were used for nothing but confirmations."""
        self.fresh = self.fresh or Stream(self.kernel, "confirm", self.main.centre)
        before = self.fresh.total.count
        self.fresh.extend(blocks)
        self.plan.spent += self.fresh.total.count - before
        return self.fresh

    def _again(self, count: int) -> Stream | Weighted:
        """Return this many fresh replicates, drawn defensively where possible."""
        if self.evidence.again is not None:
            return self._defensive(count)
        if self.verdicts.relieved is None:
            return self._fresh(self.main.total.blocks)
        stream = self._relieved(f"confirm {count}", self._mean(self.verdicts.relieved))
        stream.extend(count // stream.kernel.setting.replicates)
        self.plan.spent += stream.total.count
        return stream

    def _defensive(self, count: int, relieved: bool = True) -> Weighted:
        assert self.evidence.again is not None
        exact = self.main.centre if self.exact is None else self.exact.gradient
        controls, centre = self.controls if relieved else None, self.main.centre
        if controls is not None and self.verdicts.relieved is not None:
            centre = self._mean(self.verdicts.relieved)
            centre = {name: c + self.verdicts.relieved.offset[name] for name, c in centre.items()}
        drawn = self.evidence.again.draw(count, exact, centre, controls, self.main.centre)
        self.plan.spent += drawn.count
        return drawn

    def _rest_on_defensive_draws(self, known: Weighted | None = None, most: int | None = None) -> bool:
        """Draw defensive rounds and let the verdicts rest on them; return False where none can be drawn.

        Parameters
        ----------
        known
            A round already drawn; where few replicates are left, the verdicts rest on it alone.
        most
            The most draws in a round; if absent, the budget alone limits them.
        """
        if self.evidence.again is None:
            return False
        if known is not None and self.plan.left < known.count:
            self.verdicts.rest_on([known])
            return True
        scouted = self.evidence.again.rounds > 0 or most is not None
        size = min(self.plan.left // (MOST_ROUNDS + (not scouted)), most or self.plan.cap)
        if size < GROUPS:
            return False
        if not scouted:
            self._defensive(size)  # a scouting round: learn where estimates are large
        rounds = [self._defensive(size), self._defensive(size)]
        self.verdicts.rest_on(rounds)
        while len(rounds) < MOST_ROUNDS and self.plan.left >= size:
            if self.verdicts.alike(rounds) and (self._satisfied() if most is None else self._certain()):
                break
            rounds.append(self._defensive(size))
            self.verdicts.rest_on(rounds)
        return True

    def _satisfied(self, rows: dict[str, dict[str, Any]] | None = None) -> bool:
        """Return whether more plain replicates would add nothing that was asked for."""
        judged = self.verdicts.relieved is not None  # the mean is judged by controlled replicates
        rows = rows_of(self.verdicts, self.main) if rows is None else rows
        return all(_good_enough(columns, self.goals, judged) for columns in rows.values())

    def _search(self) -> bool:
        """Search for rare events that no replicate met; return whether the rows may have changed.

        If none is found, the draws of the search are pooled with the plain replicates.
        """
        if self.evidence.again is None or self.plan.left < GROUPS:
            return False
        drawn = self._defensive(min(self.plan.left // 2, self.main.total.count), relieved=False)
        if self.verdicts.suspicious(drawn, self.main):
            self._leave_controls()
            self._rest_on_defensive_draws(drawn)
            return True
        self.verdicts.defended = True
        self.verdicts.searched = [drawn]
        if not self._satisfied() and self.plan.left >= drawn.count:
            self.verdicts.searched.append(self._defensive(drawn.count, relieved=False))
        return True


def _good_enough(columns: dict[str, Any], goals: StoppingCriteria, judged: bool = False) -> bool:
    precise = columns["half_width"] <= goals.precision and columns["variance_flag"] == "ok"
    return columns["final"] or (precise and (judged or columns["verdict"] != "inconclusive"))
