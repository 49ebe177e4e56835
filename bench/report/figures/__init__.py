"""The figures, one a module; each makes `Figure`s where the data for it is there, and none where it is not."""
