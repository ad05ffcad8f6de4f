# Each target sets up what it needs on a fresh machine: python3 (3.11 or newer) and make are enough.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
FITS    = import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: help demo run test lint oldest crash fuzz bench bench-quick soak clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    tasks of all four providers go out, come back and arrive, signed"
	@echo "make run     start the service on http://127.0.0.1:8000, with the sandbox"
	@echo "             while no provider is configured"
	@echo "make test    run every test"
	@echo "make lint    style, types and import rules"
	@echo "make oldest  the tests that start no processes, with the oldest libraries"
	@echo "             that setup.cfg allows"
	@echo "make crash   kill its processes hundreds of times: nothing may be lost"
	@echo "make fuzz    the generated tests, with many more examples"
	@echo "make bench   measure everything beside what others use, into BENCHMARKS.md"
	@echo "             (bench-quick: in two minutes)"
	@echo "make soak    twice ten minutes (SOAK_SECONDS) of failures, kills and purging:"
	@echo "             nothing may be lost"

# A stamp per set of requirements: reinstall only when the metadata or the constraints change. A .venv of too old a
# Python, or without pip (broken off, or made before Debian's python3-venv was there), is made anew.
$(VENV)/run.stamp: setup.cfg pyproject.toml constraints.txt
	@{ $(BIN)/python -c '$(FITS)' && test -x $(BIN)/pip; } 2>/dev/null || { \
	$(PYTHON) -c '$(FITS)' || { \
	echo "Python 3.11 or newer is needed, and $(PYTHON) is none. Name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }; \
	$(PYTHON) -m venv $$(test ! -f $(VENV)/pyvenv.cfg || echo --clear) $(VENV); }
	@echo "installing (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . 
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/run.stamp
	@$(BIN)/receiver demo

run: $(VENV)/run.stamp
	@$(BIN)/receiver run --with-sandbox

test: $(VENV)/dev.stamp
	@sh tests/attack/ensure_nginx.sh
	@sh tests/deploy/ensure_tools.sh
	@sh tests/browser/ensure_chromium.sh
	@sh tests/ensure_postgres.sh
	@if [ -n "$(PYTEST_ARGS)" ]; then $(BIN)/python -m pytest $(PYTEST_ARGS); else \
	$(BIN)/python -m pytest -n 4 --dist loadfile --cov --cov-report= -m "not process" && \
	$(BIN)/python -m pytest -n 3 --dist loadfile --cov --cov-append --cov-report=term --cov-fail-under=93 -m process; fi

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

oldest:
	@sh tests/ensure_postgres.sh
	@PYTHON="$(PYTHON)" sh tests/oldest.sh $(VENV)-oldest $(PYTEST_ARGS)

crash: $(VENV)/dev.stamp
	@sh tests/ensure_postgres.sh
	@RECEIVER_CRASH_KILLS=$${RECEIVER_CRASH_KILLS:-300} $(BIN)/python -m pytest tests/crash $(PYTEST_ARGS)

fuzz: $(VENV)/dev.stamp
	@sh tests/ensure_postgres.sh
	@HYPOTHESIS_PROFILE=long FUZZ_SCALE=$${FUZZ_SCALE:-25} $(BIN)/python -m pytest -n 2 --dist loadfile -k "fuzz or life_cycle" tests/model tests/attack $(PYTEST_ARGS)

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

MEASURE = sh tests/ensure_postgres.sh && sh tests/benchmarks/ensure_peers.sh && $(BIN)/python -m tests.benchmarks.report

bench: $(VENV)/bench.stamp
	@$(MEASURE) --write BENCHMARKS.md

bench-quick: $(VENV)/bench.stamp
	@$(MEASURE) --quick

soak: $(VENV)/bench.stamp
	@$(MEASURE) --soak --write BENCHMARKS.md

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache
