"""Audits: the bias and the variance of a gradient that somebody else computes.

`auditing` holds `gradmeter.audit` and its order of work. `inference` tells how a function is called, `calls` calls it,
`parts` names what it returns, `references` makes the exact gradient, `source` hands replicates to the measurement,
`findings` and `faults` say what it found, and `result` prints it.
"""
