r"""asv benchmarks: what is tracked from commit to commit.

`asv run --bench REGEX` measures the benchmarks in whose names, as asv prints them, the expression is found: module,
class, metric and, in brackets, backend and estimator. Case counts, and brackets of a name are escaped:

    measured                                           all statistics and times of estimators
    RealData.track_variance                            one metric on one problem, all estimators on all backends
    track_variance\(.*numpy.*pathwise                  all estimators on NumPy with "pathwise" in their names
    RealData.track_variance\('numpy', 'pathwise'\)     one number
    kernels.Floor                                      the kernels' times over the noise floor

Classes are `RealData`, `TestFunction` and `DiscreteLatents` in `measured`; `Time`, `Memory` and `Floor` in `kernels`.

asv imports every module here in each of its processes, one for every number, so modules import nothing heavy and
frameworks load in `setup` and in the benchmarks. asv has one version of this package measure all commits, so modules
import each other relatively: an absolute import would be that of the commit. Lower is better for every metric: that is
how asv compares.
"""
