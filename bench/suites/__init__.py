"""TOML grids of cells; `bench.sweep.suites` says what they may hold."""
