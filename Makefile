# `make demo` and `make test` are all that a fresh clone needs: both set up what is missing first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait more than they work: one process more than there are cores on the smallest machine.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder
READY := $(VENV)/.ready

.PHONY: help setup demo test lint format bench lock clean

help:
	@echo "make demo    deploy, simulate, verify and report on this machine, no AWS account needed"
	@echo "make test    every test that needs no AWS account"
	@echo "make lint    ruff and mypy --strict"
	@echo "make bench   the benchmarks; writes benchmarks/RESULTS.md"
	@echo "make lock    resolve pyproject.toml into requirements.lock anew"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) scripts/check_python.py
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked dependencies into $(VENV) (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	@$(BIN)/fleetcast demo

test: $(READY)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	@$(BIN)/python benchmarks/run_all.py

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) .fleetcast runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
