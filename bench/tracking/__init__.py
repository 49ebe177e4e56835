"""asv benchmarks: what is tracked from commit to commit. asv imports every module here; frameworks load in `setup`."""
