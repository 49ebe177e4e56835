"""`gradmeter.advise`: which estimator to use for a log density."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradmeter.bench.advising.agreement import Agreement, with_reference
from gradmeter.bench.advising.candidates import cells_of
from gradmeter.bench.advising.result import Advice
from gradmeter.bench.advising.search import FEWEST_COMPARED, Search
from gradmeter.bench.audit.inference import backend_of
from gradmeter.bench.cells import NUMBERS, Cell, StoppingCriteria, make_problem
from gradmeter.bench.measurement.stream import NonFinite
from gradmeter.bench.problems import Problem
from gradmeter.bench.problems.log_density import density_model
from gradmeter.bench.report.advice import advise as recommendation_of
from gradmeter.bench.report.advice import sentence
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import Estimator, UsageError
from gradmeter.estimators.options import number


def advise(
    log_density: Any,
    parameters: Mapping[str, Any] | None = None,
    data: Any = None,
    *,
    supports: Mapping[str, Any] | None = None,
    scale: Any = None,
    full_rank: bool = False,
    batch: int | None = None,
    local: Sequence[str] = (),
    backend: str | None = None,
    samples: int = 1,
    seconds: float = 30.0,
    estimators: Iterable[str | Estimator] | None = None,
    seed: int = 0,
) -> Advice:
    """Measure gradient estimators of a model's ELBO, and say which one to use.

    q is a Normal of the unconstrained latent variables, at the point that is given: an estimator that is best at the
    start of a fit need not be best at its end.

    Parameters
    ----------
    log_density : callable, pair of callables, Model, Problem or str
        log p(latents, data) of one draw, in PyTorch or JAX: (parameters, data) -> a number, or (parameters) -> a number
        without data. `parameters` is a dict of arrays. If the data are rows that are independent given the latents, a
        pair `(log_prior, log_likelihood)` of functions of (parameters) and (parameters, row), as `batch` and `local`
        need. Or a `Model`, another problem, or the name of one with its options, as text; then `parameters` and the
        arguments up to `local` are left out.
    parameters : dict
        The latent variables by name: the location of q, in the constrained space, as an array or a number each.
    data
        Arrays that the density reads: a pandas data frame, which becomes a dict of its columns, a dict, list or tuple
        of arrays, or an array. Whole numbers stay integers, all others become floating-point numbers.
    supports : dict, optional
        Constraints by name: `positive`, `unit-interval`, `simplex` (along the last axis), `real`, or `(low, high)`,
        None for an end that is open. z is mapped by exp, by the sigmoid, or by breaking a stick, and the log Jacobian
        determinant is added.
    scale : number or dict or [D, D], optional
        σ of q on the unconstrained scale, for all or by name; 0.1 if absent. With `full_rank` also its Cholesky factor.
    full_rank : bool
        Whether q has a full covariance.
    batch : int, optional
        Rows in a minibatch; the likelihood is multiplied by N/B.
    local : list of str
        Names of parameters of which every row has its own, along the first axis: `log_likelihood` gets only the row's.
        All of them are drawn for every estimate; those outside of the minibatch enter only through the entropy.
    backend : {"jax", "torch", "numpy"}, optional
        Inferred from the code of `log_density`.
    samples : int
        S; estimators that need more get the least that they take, and leave-one-out baselines at least 8.
    seconds : float
        Time to take, about. The checks of the model, its reference and a candidate that has begun are not interrupted;
        they take some seconds each where JAX or PyTorch compile. Nothing is recommended if there was time for one
        candidate only.
    estimators : list, optional
        Candidates, in place of the usual ones.
    seed : int
        Seed.

    Returns
    -------
    Advice
        With `best`, `sentence`, `certain` and `table`. It prints itself.

    Raises
    ------
    UsageError
        Arguments do not go together, or the density fails, is no single number, or is not finite at the point.
    """
    started = time.monotonic()
    allowed = number("seconds", seconds, above=0.0)
    size, start = (int(number(n, v, int, *NUMBERS[n])) for n, v in (("samples", samples), ("seed", seed)))
    given: dict[str, Any] = {"supports": supports, "scale": scale, "full_rank": full_rank, "batch": batch}
    problem = _problem(log_density, parameters, data, {**given, "local": tuple(local) if local else ()}, backend)
    framework = backend or problem.framework or "numpy"
    cells = cells_of(problem, framework, estimators, size, start, StoppingCriteria())
    try:
        cells, agreement = with_reference(cells, allowed)
    except NonFinite as error:
        raise UsageError(f"{error}; give a point and a scale where the density has no such values") from None
    with tempfile.TemporaryDirectory() as folder, Store.create(Path(folder) / "advice.sqlite") as store:
        found = Search(cells, allowed - (time.monotonic() - started), store)
        return _advice(problem, found, agreement, time.monotonic() - started, allowed)


def _problem(log_density: Any, parameters: Any, data: Any, given: dict[str, Any], backend: str | None) -> Problem:
    if isinstance(log_density, str):
        log_density = make_problem(log_density)
    if isinstance(log_density, Problem):
        extra = [name for name, value in {"parameters": parameters, "data": data, **given}.items() if _is_given(value)]
        if extra:
            raise UsageError(f"{log_density.name} is a problem with a point of its own; leave out {', '.join(extra)}")
        return log_density
    if not isinstance(parameters, Mapping):
        raise UsageError("give parameters=..., a dict of the latent variables by name with their values")
    first = log_density[-1] if isinstance(log_density, tuple | list) and log_density else log_density
    framework = backend or backend_of(first, dict(parameters), "auto", "auto")
    if framework == "numpy":
        raise UsageError(
            "log_density uses neither JAX nor PyTorch, one of which has to differentiate it; write it in jax.numpy or "
            "torch, or say backend=jax or backend=torch"
        )
    return density_model(log_density, parameters, data, framework=framework, **given)


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != ()


def _advice(problem: Problem, found: Search, agreement: Agreement | None, took: float, allowed: float) -> Advice:
    ranking = found.ranking
    recommended = recommendation_of(ranking)
    said, best, use = sentence(recommended), ranking.best, recommended.use
    measured = [*ranking.ranked, *ranking.unranked]
    if found.missing and len(measured) < FEWEST_COMPARED:
        names = "".join(f", {result.estimator}" for result in measured)
        said = f"nothing to recommend: there was time for {len(measured)} candidate only{names}; give more seconds"
        best = use = None
    remarks = [_missing(found.missing, allowed, took)] if found.missing else []
    remarks += [] if agreement is None else agreement.remarks(ranking)
    untimed = [r.estimator for r in ranking.unranked if r["seconds"] is None and r["verdict"] != "biased"]
    if untimed:
        remarks.append(f"not timed, because the variance is over 100 times that of the best: {', '.join(untimed)}")
    return Advice(
        problem.name,
        use,
        None if best is None else best["num_samples"],
        said[0].upper() + said[1:],
        found.settled and not found.missing,
        found.rows,
        tuple(remarks),
        took,
        ranking,
    )


def _missing(cells: Sequence[Cell], allowed: float, took: float) -> str:
    names = ", ".join(cell.label().split(" · ")[1] for cell in cells)
    longer = f" (it took {took:.3g} s, with the checks of the model and its reference)" if took > allowed + 1.0 else ""
    return f"not measured in {allowed:.3g} s{longer}: {names}; give more seconds"
