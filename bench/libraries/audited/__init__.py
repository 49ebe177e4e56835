"""The cases of every library: one file each, whose `PACKAGES` are those with a version to record."""
