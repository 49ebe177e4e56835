"""Claims about two fits: the evaluations of f that one method takes over those of another, to come as near as that."""

from __future__ import annotations

from gradmeter.bench.cells import make_problem
from gradmeter.bench.fit.command import make_method
from gradmeter.bench.fit.findings import evaluations_to, settled
from gradmeter.bench.fit.run import Fit, Plan, Watcher, run
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.judging import CONTRADICTED, REPRODUCED, UNDECIDED, Evidence
from gradmeter.bench.sweep.claims import Claim


def evidence(claim: Claim) -> list[Evidence]:
    """Run the fits of a claim and return what each seed says about it.

    Both methods count the evaluations from which all logged objectives are within `within` times the gain of `against`
    from what `against` reaches. They start at the same λ.
    """
    other = _fitted(claim, claim.against, 0)
    if other.failed is not None:
        return [Evidence(UNDECIDED, other.failed)]
    reached = settled(other)
    level = reached - claim.within * (reached - other.rows[0]["objective"])
    taken = evaluations_to(other, level)
    return [_of_seed(claim, seed, level, taken or 0.0) for seed in range(claim.seeds)]


def _of_seed(claim: Claim, seed: int, level: float, taken: float) -> Evidence:
    fit, where = _fitted(claim, claim.method, seed), (f"seed {seed}",)
    if fit.failed is not None or not taken:
        return Evidence(UNDECIDED, fit.failed or f"{claim.against} starts there", where)
    own = evaluations_to(fit, level)
    if own is None:
        spent = numbers.significant(fit.rows[-1]["evaluations"])
        text = f"{claim.method} never in {spent} evaluations, {claim.against} after {numbers.significant(taken)}"
        return Evidence(CONTRADICTED, text, where)
    held = claim.above <= own / taken <= claim.below
    return Evidence(REPRODUCED if held else CONTRADICTED, numbers.times(own / taken), where)


def _fitted(claim: Claim, method: str, seed: int) -> Fit:
    plan = Plan(make_problem(claim.problem, fitted=True), make_method(method), seed, replicates=0)
    fit = Fit(plan)
    run(plan, fit, Watcher())
    return fit
