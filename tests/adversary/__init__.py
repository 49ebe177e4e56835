"""Attack the verdict: wrong and correct estimators, distributions and faults whose right answer is known.

Written from the public documentation alone. Every true mean comes from a closed form, SciPy's quadrature or an
enumeration in this package, never from the code that is measured. `python -m tests.adversary --help` runs it in parts;
`make adversary` runs all of it.
"""
