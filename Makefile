# `make demo` and `make test` are all that a fresh clone needs: both set up what is missing first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait more than they work: one process more than there are cores on the smallest machine.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder
READY := $(VENV)/.ready

# Scanners and CDKTF's continuation pin what ours pins otherwise: each has an environment of its own.
SCAN ?= .scan
CDKTN ?= .cdktn

.PHONY: help setup demo test lint format bench lock clean scan-tools scan cdktn-tools cdktn

help:
	@echo "make demo    deploy, simulate, verify and report on this machine, no AWS account needed"
	@echo "make test    every test that needs no AWS account"
	@echo "make lint    ruff and mypy --strict"
	@echo "make bench   the benchmarks; writes benchmarks/RESULTS.md"
	@echo "make scan    checkov over the synthesized stack, in an environment of its own"
	@echo "make cdktn   the same stack from CDKTF's continuation, in an environment of its own"
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

scan-tools: $(SCAN)/.ready

cdktn-tools: $(CDKTN)/.ready

scan: $(READY) $(SCAN)/.ready
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && \
	  $(BIN)/fleetcast synth --target aws --env scan --out "$$out" >/dev/null && \
	  $(BIN)/python scripts/scan_stack.py "$$out/stacks/fleetcast-scan"

cdktn: $(READY) $(CDKTN)/.ready
	@$(BIN)/python scripts/compare_cdktn.py $(CDKTN)/bin/python

$(SCAN)/.ready: requirements-scan.lock
$(CDKTN)/.ready: requirements-cdktn.lock
$(SCAN)/.ready $(CDKTN)/.ready:
	@test -x $(@D)/bin/python || { echo "creating $(@D)"; $(PYTHON) -m venv $(@D); }
	@echo "installing $< into $(@D)"
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate

lock: $(READY)
	$(LOCK) pyproject.toml --all-extras -o requirements.lock
	$(LOCK) requirements-scan.in -o requirements-scan.lock
	$(LOCK) requirements-cdktn.in -o requirements-cdktn.lock

clean:
	rm -rf $(VENV) $(SCAN) $(CDKTN) .fleetcast runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
