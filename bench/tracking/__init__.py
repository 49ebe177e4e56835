"""asv benchmarks: what is tracked from commit to commit.

asv imports every module here in each of its processes, one for every number, so modules import nothing heavy and
frameworks load in `setup` and `setup_cache`. Lower is better for every metric: that is how asv compares.
"""
