"""Checks of what users bring: is a family, an integrand or a problem what it says it is?

`checking.check` does all that can be done; `session.require_right` is asked before a measurement.
"""
