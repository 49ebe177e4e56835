"""The row of a fit, one per method and logged iteration. These columns are a public interface."""

from __future__ import annotations

from typing import Any

from gradmeter.bench.rows import Row, complete

COLUMNS: dict[str, str] = {
    # the fit; columns that do not apply to a method are null
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
    # position along the fit
    "iteration": "integer",
    "evaluations": "number",
    "seconds": "number",
    "status": "string",
    "reason": "string",
    # quality of the current λ
    "objective": "number",
    "objective_error": "number",
    "objective_source": "string",
    "gradient_norm": "number",
    # held-out data, in nats per datum; the log-likelihood uses this many importance samples each
    "test_size": "integer",
    "test_elbo": "number",
    "test_elbo_error": "number",
    "test_log_likelihood": "number",
    "test_log_likelihood_error": "number",
    "importance_samples": "integer",
    # gradient variance at the current λ, over replicates of an estimate of S samples
    "variance": "number",
    "variance_low": "number",
    "variance_high": "number",
    "variance_flag": "string",
    "variances": "json",
    "replicates": "integer",
}


def row(**values: Any) -> Row:
    """Return a complete row in column order; missing values and non-finite numbers are null."""
    return complete(values, COLUMNS)
