"""TOML grids of cells; `gradmeter.bench.sweep.suites` says what they may hold."""
