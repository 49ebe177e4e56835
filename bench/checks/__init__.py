"""Checks of user-defined families, integrands and problems against their own claims.

`checking.check` runs all checks; `session.require_right` runs quick ones before a measurement.
"""
