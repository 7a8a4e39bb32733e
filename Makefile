# The verbs of this project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
SEEDS ?= 200
# Tests wait more than they compute: three at once keep two cores busy.
AT_ONCE ?= $(shell echo $$(($$(nproc) * 3 / 2)))
PACKAGES := domain eventlog commands projections services gateway peritus
CODE := $(PACKAGES) tests benchmarks

help: ## Lists what can be made.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Makes .venv with all that is needed; does nothing when it is up to date.
	@scripts/setup

demo: setup ## Runs the example expert on the scripted model: no key, no Docker. Watch it repair a bug.
	@examples/bugfix/demo.sh

test: setup ## Runs the tests (under 10 minutes on 2 cores).
	@echo "test: about 9,200 tests on all cores, with a real NATS server and real sandboxes"
	$(BIN)/pytest -q -n $(AT_ONCE) -m "not (thorough or backends or registries or faults or slow or browser)"

faults: setup ## Kills and stops processes, counts what long runs leave behind; and other slow tests.
	$(BIN)/pytest -q -n auto -m "(faults or slow) and not (thorough or backends or registries or browser)"

backends: setup ## The sandbox on Docker and the other backends; MCP servers of PyPI and npm.
	$(BIN)/pytest -q -n auto -m "backends or registries"

console: setup ## The console in a real Chromium, with a real gateway; says so when there is none.
	$(BIN)/pytest -q -n auto -m "browser"

test-all: setup ## The tests, with every variant of every backend.
	$(BIN)/pytest -q -n auto

check: format-check lint types imports test faults backends console mutants ## All that CI runs.

format: setup ## Formats the code and fixes what ruff can fix.
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

format-check: setup
	$(BIN)/ruff format --check $(CODE)

lint: setup ## Ruff, warnings are errors.
	$(BIN)/ruff check $(CODE)

types: setup ## mypy strict and pyright strict over source and tests.
	$(BIN)/mypy $(CODE)
	$(BIN)/pyright

imports: setup ## The layers of the architecture.
	$(BIN)/lint-imports

simulate: setup ## The whole write side from SEEDS seeds (200), with faults; checks the invariants.
	$(BIN)/python -m peritus.simulation --seeds $(SEEDS)

mutants: setup ## Each planted bug is caught by the simulation.
	$(BIN)/python -m tests.simulation.mutants

kills: setup ## kill -9 at 50 random moments mid-generation and 50 mid-tool; writes results.
	$(BIN)/python -m benchmarks.kills --count 50

sandbox-jobs: setup ## 500 jobs cancelled at random; counts what is left; writes results.
	$(BIN)/python -m benchmarks.sandbox_jobs

mcp-soak: setup ## 500 runs with MCP servers that misbehave; counts what is left; writes results.
	$(BIN)/python -m benchmarks.mcp_soak

bench: setup ## Measures the figures of the README; writes benchmarks/results/.
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.projections

viewers: setup ## 1,000 clients follow one run of one gateway, ever faster; writes results.
	$(BIN)/python -m benchmarks.streams

conformance: setup ## The official MCP suite against `peritus mcp` and our client; needs npm.
	$(BIN)/python -m tests.conformance.server
	$(BIN)/python -m tests.conformance.client

clean: ## Removes what was built, not your runs.
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.PHONY: help setup demo test faults backends console test-all check format format-check lint types imports simulate mutants kills sandbox-jobs mcp-soak bench viewers conformance clean
