"""The row of a fit: one per method and logged iteration. These columns are a promise to users."""

from __future__ import annotations

from typing import Any

from gradmeter.bench.rows import Row, complete

COLUMNS: dict[str, str] = {
    # which fit; what has no meaning for a method is null
    "problem": "string",
    "problem_options": "json",
    "dimension": "integer",
    "family": "string",
    "method": "string",
    "method_options": "json",
    "estimator": "string",
    "estimator_options": "json",
    "optimiser": "string",
    "optimiser_options": "json",
    "backend": "string",
    "device": "string",
    "dtype": "string",
    "noise": "string",
    "num_samples": "integer",
    "seed": "integer",
    # where it is
    "iteration": "integer",
    "evaluations": "number",
    "seconds": "number",
    "status": "string",
    "reason": "string",
    # how good that is
    "objective": "number",
    "objective_error": "number",
    "objective_source": "string",
    "gradient_norm": "number",
    # of data that nothing is fitted to: nats a datum, the log-likelihood by so many importance samples each
    "test_size": "integer",
    "test_elbo": "number",
    "test_elbo_error": "number",
    "test_log_likelihood": "number",
    "test_log_likelihood_error": "number",
    "importance_samples": "integer",
    # what the estimator is worth there: over replicates, each an estimate of S samples
    "variance": "number",
    "variance_low": "number",
    "variance_high": "number",
    "variance_flag": "string",
    "variances": "json",
    "replicates": "integer",
}


def row(**values: Any) -> Row:
    """A complete row in column order: what is not given, and every number that is not finite, is null."""
    return complete(values, COLUMNS)
