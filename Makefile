# Everything a newcomer types. The environment lives in .venv beside this file and comes from requirements.lock alone.
ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
PYTHON ?= python3
VENV := $(ROOT).venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q -n auto --dist loadfile
UNITS := --ignore=tests/simulation
READY := $(VENV)/.ready

.PHONY: demo test check soak bench lock clean help
.DEFAULT_GOAL := help

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(ROOT)Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): $(ROOT)requirements.lock $(ROOT)pyproject.toml $(ROOT)tools/setup.sh
	@PYTHON="$(PYTHON)" sh "$(ROOT)tools/setup.sh"

demo: $(READY) ## Run a ledger, two wallets, a channel, and a stale report that fails
	@cd "$(ROOT)" && $(BIN)/python -m examples.demo

test: $(READY) ## Run all tests but those on PostgreSQL, or those of TESTS=path
ifdef TESTS
	@cd "$(ROOT)" && $(BIN)/python -m pytest -q $(TESTS)
else
	@cd "$(ROOT)" && $(PYTEST) $(UNITS) -m 'not e2e and not postgresql'
	@cd "$(ROOT)" && $(PYTEST) tests/simulation
	@cd "$(ROOT)" && $(PYTEST) -m 'e2e and not postgresql'
	@echo "Left out: the tests on PostgreSQL. With its programs (apt-get install postgresql): make test TESTS='-m postgresql'"
endif

check: $(READY) ## Lint, format, types, and all tests with branch coverage; needs PostgreSQL's programs
	@cd "$(ROOT)" && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@cd "$(ROOT)" && $(BIN)/mypy
	@cd "$(ROOT)" && $(PYTEST) $(UNITS) -m 'not e2e' --cov --cov-report=term:skip-covered
	@cd "$(ROOT)" && $(PYTEST) tests/simulation
	@cd "$(ROOT)" && $(PYTEST) -m e2e

soak: $(READY) ## Simulate whole networks under fresh seeds until Ctrl-C
	@cd "$(ROOT)" && $(BIN)/python -m tests.simulation --soak

bench: $(READY) ## Measure the marks, each beside its floor
	@cd "$(ROOT)" && $(BIN)/python -m benchmarks

lock: $(READY) ## Pin the newest versions that pyproject.toml allows, with hashes
	@cd "$(ROOT)" && PATH="$(BIN):$$PATH" sh tools/lock.sh

clean: ## Remove the environment and everything that tools left behind
	@rm -rf "$(VENV)" "$(ROOT)".mypy_cache "$(ROOT)".pytest_cache "$(ROOT)".ruff_cache "$(ROOT)".hypothesis "$(ROOT)".coverage
