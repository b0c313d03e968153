# Every target sets up what it needs in .venv: Python >= 3.10 and PyPI are enough. `make PYTHON=python3.12 test` picks another.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
META   := setup.py pyproject.toml sseproxy/wsgi/express.c
SERVERS := $(or $(SSEPROXY_SERVERS_VENV),.venv-servers)

.PHONY: help run test lint format docs bench books fuzz servers clean
.DEFAULT_GOAL := help

help:
	@echo "make run     the proxy with its built-in demo upstream"
	@echo "make test    lint, then every test (those that need Node, Chromium or PostgreSQL skip where it is missing)"
	@echo "make lint    ruff and mypy --strict"
	@echo "make docs    the tables of docs/configuration.md, from the schema"
	@echo "make bench   the benchmarks, a table each, 40 minutes; ONLY=streams ARGS=--quick: one of them, with its options"
	@echo "make books   the fault suite: thousands of streams, every ending, kill -9; is every charge right?"
	@echo "make servers transformers serve in .venv-servers, for the tests against real servers (1.2 GB)"
	@echo "make fuzz    random bytes through the normaliser, and its properties on 10,000 examples each"

run: $(VENV)/.installed
	$(BIN)/sseproxy serve $(ARGS)

# Compiled once, not by every worker and again by every server that a test starts.
test: export PYTHONDONTWRITEBYTECODE :=
test: lint
	$(BIN)/python -m pytest $(or $(ARGS),-n 6 --dist worksteal --ignore=tests/doctor)
	@# The doctor's tests measure time: beside others they would find faults of the machine.
	$(if $(ARGS),,$(BIN)/python -m pytest tests/doctor)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed
	$(BIN)/python docs/reference.py

bench: $(VENV)/.installed-test
	@missed=0; for name in $(or $(ONLY),core ledger footprint streams overload); do echo "== benchmarks/$$name.py"; \
	  $(BIN)/python benchmarks/$$name.py $(ARGS) || missed=1; done; exit $$missed

books: $(VENV)/.installed-test
	$(BIN)/python benchmarks/books.py $(ARGS)

fuzz: $(VENV)/.installed-test
	$(BIN)/python tests/fuzz.py $(ARGS)
	$(BIN)/python -m pytest -q --timeout=0 --hypothesis-profile=fuzz tests/core/normalize/test_properties.py

servers: $(SERVERS)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info sseproxy/wsgi/*.so .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "sseproxy needs Python 3.10 or later; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "no venv module: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }

# A stamp per set of packages: a second run costs nothing, a changed setup.py installs again.
$(VENV)/.installed: $(META) | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(META) | $(BIN)/python
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(META) | $(BIN)/python
	$(PIP) --editable '.[dev,test]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

# torch stays out of the project's own environment.
$(SERVERS)/.installed: tests/servers/transformers.txt
	$(PYTHON) -m venv $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
