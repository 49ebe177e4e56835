# make report   environment in .venv, the quick suite on real data, a report to open (its path is printed)
# make test     lint, types and tests (make test-all adds the slow ones)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check

unexport PYTHONDONTWRITEBYTECODE # the tests start a hundred processes: each would compile every module anew

.DEFAULT_GOAL := help
.PHONY: help audits torture sweeps adapters libraries report test test-all lint adversary benchmark benchmark-gate benchmark-baseline calibrate goals track track-injected papers peers gpu clean

help:
	@sed -n 's/^# //p' Makefile

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all,test]'
	touch $@

report: $(READY)
	$(BIN)/gradmeter run quick
	$(BIN)/gradmeter report --output report

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -q -n 2 --dist worksteal -m 'not slow'

test-all: lint
	$(BIN)/pytest -q -n 2 --dist worksteal

# make adversary   attack the verdict: wrong and correct estimators, distributions, faults; hours (ADVERSARY='--only faults')
ADVERSARY ?=
adversary: $(READY)
	$(BIN)/python -m tests.adversary $(ADVERSARY)

# make audits      audit 1,000 correct gradients: none may be called biased; prints how often each verdict was given
AUDITS ?= 1000
audits: $(READY)
	$(BIN)/python -m tests.audit.null $(AUDITS)

# make torture     kill runs, fits and merges 1,000 times at random moments: nothing may be lost; an hour (KILLS=100)
KILLS ?= 1000
torture: $(READY)
	$(BIN)/python -m tests.sweep.torture --kills $(KILLS)

# make sweeps      what a sweep costs beyond its cells, what a second worker gains, how far clusters scale
sweeps: $(READY)
	$(BIN)/python -m tests.sweep.throughput
	$(BIN)/python -m tests.sweep.scaling results/quick/results.csv

# make benchmark   score functions, pathwise, measure-valued on every backend by pytest-benchmark: ratios to what ran beside
BENCHMARK := tests/benchmarks --benchmark-enable --benchmark-only -q
benchmark: $(READY)
	$(BIN)/pytest $(BENCHMARK)

# make benchmark-gate       the same, and fails where a ratio is 1.25 times that of results/benchmarks/baseline.json
GATE_BASELINE ?= results/benchmarks/baseline.json
benchmark-gate: $(READY)
	$(BIN)/python -m gradmeter.bench.performance.gate --baseline $(GATE_BASELINE)

# make benchmark-baseline   writes that file anew
benchmark-baseline: $(READY)
	mkdir -p $(dir $(GATE_BASELINE))
	$(BIN)/pytest $(BENCHMARK) --benchmark-json=$(GATE_BASELINE)

# make calibrate   how far identical code differs between runs here, and what gradmeter compare catches; 25 minutes
calibrate: $(READY)
	$(BIN)/python -m gradmeter.bench.performance.calibration aa
	$(BIN)/python -m gradmeter.bench.performance.calibration compare
	$(BIN)/python -m gradmeter.bench.performance.calibration report

# make track       asv on this commit, in this environment, and its page; then: .venv/bin/asv preview
track: $(READY)
	$(BIN)/asv machine --yes
	GRADMETER_TRACK_AHEAD=1 $(BIN)/asv run -E existing:same --set-commit-hash "$$(git rev-parse HEAD)"
	$(BIN)/asv publish

# make track-injected        asv over commits with an injected slowdown and an injected variance: it names both
track-injected: $(READY)
	$(BIN)/python -m tests.tracking.injected

# make goals       what this suite costs against its goals: ratios, printed and written to results/goals (15 minutes)
goals: $(READY)
	$(BIN)/python -m gradmeter.bench.performance.goals --output results/goals

# make papers      the claims of papers: their suites, judged, and one page of all in results/papers (2 minutes)
papers: $(READY)
	$(BIN)/python -m gradmeter.bench.papers --output results/papers

# make peers       other libraries on the same problems, each in an environment of its own (gigabytes below .peers)
peers: $(READY)
	$(BIN)/python -m gradmeter.bench.performance.peers

# make gpu         what a graphics card makes of the kernels, written to results/gpu (8 minutes); without a card, one line
gpu: $(VENV)/.gpu
	@$(BIN)/python -m gradmeter.bench.performance.gpu --output results/gpu

$(VENV)/.gpu: $(READY)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[gpu]'
	touch $@

# make libraries   audits of NumPyro, Pyro, TensorFlow Probability, PyMC, Optax, torch and JAX, written to results/libraries
libraries: $(READY)
	$(BIN)/python -m gradmeter.bench.libraries --output results/libraries

# make adapters    tests of the adapters to those libraries, in the environment that the audits use (.libraries)
adapters: $(READY)
	$(BIN)/python -m gradmeter.bench.libraries --install
	.libraries/libraries/bin/python -m pytest -q tests/audit/test_adapters.py

clean:
	rm -rf $(VENV) .libraries .peers .gradmeter report .asv .pytest_cache .mypy_cache .ruff_cache .benchmarks
