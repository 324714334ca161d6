# `make run` and `make test` need nothing but Python 3.11 or newer. `make help` tells the rest.
.DEFAULT_GOAL := help
.PHONY: help run test test-all check audit bench simulate fuzz mutants faults soak down clean lock environment test-environment

BIN := .venv/bin
PACKAGES := ledger consumers producers projections service apps
CHECKED := $(PACKAGES) alembic scripts $(wildcard benchmarks) tests docs/examples
# Two processes, each with servers of its own: most tests wait for servers more than they compute. JOBS=0: in one process.
SIDE_BY_SIDE = --numprocesses $(or $(JOBS),2) --dist loadfile
STEP = @printf '\033[1m==>\033[0m %s\n'

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

run: environment  ## start Kafka, Postgres and the ledger, publish the example app's commands, serve until Ctrl-C
	$(STEP) "starting the ledger (Ctrl-C stops it)"
	@exec $(BIN)/ledger up

test: check  ## checks, then every test but the slow ones, on the Kafka and Postgres that this machine has
	$(STEP) "tests"
	@$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-all: check  ## `make test` with the slow tests, and the integration tests on the other stack
	$(STEP) "tests, the slow ones included"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
	$(STEP) "integration tests on the other stack"
	@if docker version > /dev/null 2>&1; then LEDGER_STACK=local $(BIN)/python -m pytest -m "integration and not slow" $(PYTEST_ARGS); else echo "SKIPPED: no engine"; fi

check: test-environment  ## lint, format, types and import rules
	$(STEP) "lint"
	@$(BIN)/ruff check .
	$(STEP) "format"
	@$(BIN)/ruff format --check .
	$(STEP) "types"
	@$(BIN)/mypy $(CHECKED)
	$(STEP) "import rules"
	@$(BIN)/lint-imports --no-cache

bench: test-environment  ## the benchmark, beside what one would write instead, with plots (QUICK=1: under three minutes)
	$(STEP) "benchmark"
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(BENCH_ARGS)

simulate: test-environment  ## the simulation with many seeds: make simulate SEEDS=200000 [FIRST=0] [JOBS=2]
	$(STEP) "simulation"
	@$(BIN)/python -m tests.simulation $(or $(SEEDS),10000) $(or $(FIRST),0) $(if $(JOBS),--jobs $(JOBS)) $(SIMULATE_ARGS)

fuzz: test-environment  ## mutated messages to the codecs, and requests by the OpenAPI document to the real service
	$(STEP) "fuzz"
	@$(BIN)/python -m pytest -m fuzz $(PYTEST_ARGS)

mutants: test-environment  ## take each guard away and see the tests notice: make mutants [ONLY="fence identity"] [JOBS=2]
	$(STEP) "mutants"
	@$(BIN)/python -m tests.mutants --jobs $(or $(JOBS),2) $(if $(ONLY),--only $(ONLY))

faults: test-environment  ## faults on real servers under load, then an audit: make faults MINUTES=10 SEED=1 [RATE=400]
	$(STEP) "faults"
	@$(BIN)/python -m tests.nemesis --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) $(if $(RATE),--rate $(RATE)) $(FAULTS_ARGS)

soak: test-environment  ## a steady load and flat memory: make soak HOURS=0.5 RATE=2000 [FAULTS=1 SEED=1]
	$(STEP) "soak"
	@$(BIN)/python -m tests.nemesis.soak --hours $(or $(HOURS),0.5) --rate $(or $(RATE),$(if $(FAULTS),400,2000)) $(if $(FAULTS),--faults --seed $(or $(SEED),1)) $(SOAK_ARGS)

down:  ## stop what runs from LEDGER_HOME (default .ledger)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m service.stack down; else echo "nothing was ever started here"; fi

clean:  ## stop it and delete what was made here: the ledger's data, the environment, caches
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m service.stack clean; fi
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

audit: test-environment  ## are vulnerabilities known of what the locks pin? Asks OSV; it says so where that does not answer
	$(STEP) "known vulnerabilities"
	@$(BIN)/python scripts/audit.py

lock:  ## write requirements*.lock anew from pyproject.toml (needs uv)
	scripts/lock.sh

environment:
	@MAKE_TARGET=run PYTHON="$(PYTHON)" scripts/environment.sh run

test-environment:
	@MAKE_TARGET=test PYTHON="$(PYTHON)" scripts/environment.sh test
