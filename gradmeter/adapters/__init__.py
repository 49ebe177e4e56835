"""Adapters: objects of other libraries as gradients that `gradmeter.audit` can measure.

    from gradmeter.adapters import numpyro as adapter
    gradient, parameters = adapter.elbo(Trace_ELBO(), model, guide, data)
    gradmeter.audit(gradient, parameters, exact=...)

Each module imports the library that it is named after. All gradients are those of an objective that is maximised.
"""
