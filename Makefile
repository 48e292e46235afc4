# Each target sets up what it needs, once; nothing has to be installed by hand but Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo/venv
BENCH := .bench/venv
DOORS := .doors/venv

.DEFAULT_GOAL := help
.PHONY: bench-doors help demo test test-doors check bench docs clean

help:  ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

$(DEMO)/stamp: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check -e '.[openvino]'
	touch $@

$(DOORS)/stamp: pyproject.toml
	$(PYTHON) -m venv $(DOORS)
	$(DOORS)/bin/pip install --quiet --disable-pip-version-check -e '.[dev,torch,keras,tensorflow]'
	touch $@

demo: $(DEMO)/stamp  ## optimise a real network within 1 % and show the verdict
	$(DEMO)/bin/python -m examples.demo

test: check docs  ## linters, types, documentation and every test that is quick and needs no download
	$(BIN)/python -m pytest -m "not network and not slow"

test-slow: $(VENV)/stamp  ## the tests that take many seconds each: kills, browsers, gigabytes, whole searches
	$(BIN)/python -m pytest -m "slow and not network"

test-doors: $(DOORS)/stamp  ## the tests of every framework, in an environment that has them all (3 GB)
	$(DOORS)/bin/python -m pytest -m "extra and not network"

check: $(VENV)/stamp  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/stamp  ## run every example in the documentation
	$(BIN)/python -m pytest --doctest-modules --doctest-glob='*.md' src README.md docs

$(BENCH)/stamp: benchmarks/networks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --disable-pip-version-check -r benchmarks/networks/requirements.txt
	touch $@

bench: $(VENV)/stamp $(BENCH)/stamp  ## fetch nine networks and compare with the stock tools, each in its own environment
	$(BENCH)/bin/python -m benchmarks.networks.fetch .bench/packages
	$(BENCH)/bin/python -m benchmarks.networks .bench/packages .bench/nets
	$(BIN)/python -m benchmarks.peers --nets .bench/nets --envs .venvs

bench-doors: bench $(DOORS)/stamp  ## every front door: the whole search, every engine, one network through three, damaged files
	$(DOORS)/bin/python -m benchmarks.doors .bench/packages .bench/nets benchmarks/results/doors.json
	$(DOORS)/bin/python -m benchmarks.frontends .bench/packages .bench/nets benchmarks/results/frontends.json
	$(DOORS)/bin/python -m benchmarks.pitch .bench/packages benchmarks/results/pitch.json
	$(DOORS)/bin/python -m benchmarks.mutations --store

clean:  ## remove what the other targets made
	rm -rf $(VENV) .demo .doors .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
