# Limner. Each target sets up what it needs in .venv, again only when the dependencies changed.
# torch is pinned here alone, by constraints.txt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint bench clean

help:  ## Lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Limner needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Setting up $(VENV): about 1.5 GB with PyTorch, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[engine,dev]'
	@# spandrel names torchvision as a dependency, and needs it for two architectures only
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps spandrel
	@touch $@

setup: $(READY)  ## Sets up .venv

demo: $(READY)  ## Starts Limner, sends it a ComfyUI workflow over HTTP, and saves the picture
	@$(BIN)/python examples/demo.py

test: $(READY)  ## Everything that is not slow
	@$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(READY)  ## The rest (faults, whole process trees); any skip fails
	@LIMNER_REQUIRE=all $(BIN)/python -m pytest -m "slow and not gpu"

lint: $(READY)  ## ruff, mypy --strict, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY)  ## Measures this machine: bench/results/*.json and a table
	@$(BIN)/python -m bench

clean:  ## Removes .venv and what tools left behind
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
