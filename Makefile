# `make help` lists the targets. Everything runs in .venv, made from requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# OpenMP threads that wait for each other by spinning starve when a neighbour wants a core.
export GOMP_SPINCOUNT ?= 20000
# Dozens of processes start: the library is compiled once and not by each of them.
unexport PYTHONDONTWRITEBYTECODE

STORE ?=
PORT ?= 5000
REPORT ?= data/report/index.html

# A process per core and one more, since some tests wait; a test file at a time.
PARALLEL ?= -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(VENV)/.installed  ## Make the environment in .venv from requirements.lock

.PHONY: demo
demo: install  ## The whole pipeline on embedded digits, in build/demo
	synthgain demo build/demo

.PHONY: repro
repro: install  ## dvc repro: the whole pipeline with params.yaml (MNIST)
	@synthgain doctor --fix
	dvc repro
	@synthgain verdict

.PHONY: literature
literature: install  ## The papers' GANs at their own lengths, in build/literature (hours; data/prepared first: make repro)
	synthgain literature

.PHONY: ui
ui: install  ## MLflow's UI on the runs of this study (STORE=sqlite:///... for another store, PORT=5000)
	@test -n "$(STORE)" || env -u MLFLOW_TRACKING_URI synthgain stage track --check || true
	@env $(if $(STORE),MLFLOW_TRACKING_URI=$(STORE),-u MLFLOW_TRACKING_URI) synthgain ui --port $(PORT)

.PHONY: report-open
report-open:  ## The report in the default browser (REPORT=build/demo/data/report/index.html for another)
	@test -f "$(REPORT)" || { echo "$(REPORT): no report there; make repro writes it, make demo another" >&2; exit 1; }
	@echo "$(abspath $(REPORT))"
	@$(PYTHON) -c 'import pathlib, sys, webbrowser; webbrowser.open(pathlib.Path(sys.argv[1]).as_uri()) or print("no browser here: open this file with one")' "$(abspath $(REPORT))"

.PHONY: test
test: install  ## The fast test ring, offline
	OMP_NUM_THREADS=1 python -m pytest $(PARALLEL) -m "not slow and not gpu and not browser"

.PHONY: test-slow
test-slow: install  ## The tests that run the whole pipeline again and again
	python -m pytest $(PARALLEL) --durations=15 -m "slow and not soak and not gpu and not browser"

.PHONY: test-all
test-all: install  ## Every test that this machine can run
	python -m pytest

.PHONY: bench
bench: install  ## Speed against references measured in the same run, as a table and build/bench.json
	python benchmarks/all.py

.PHONY: lint
lint: install  ## Format, lint, types and import rules
	ruff format --check .
	ruff check .
	mypy
	lint-imports

.PHONY: lock
lock:  ## Resolve pyproject.toml anew and write requirements.lock
	rm -rf build/lock-venv
	$(PYTHON) -m venv build/lock-venv
	build/lock-venv/bin/pip install --quiet -e '.[dev]'
	build/lock-venv/bin/pip freeze --all --exclude-editable --exclude pip > requirements.lock

.PHONY: gpu-check
gpu-check: install  ## Tests, speed and the study on your GPU, about 15 minutes, as a table and build/gpu-check.json
	python benchmarks/gpu_check.py

.PHONY: clean-demo
clean-demo:  ## Remove build/demo
	rm -rf build/demo
