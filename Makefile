# One script per habit: the same targets for a person and for CI.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
THREADS ?= 2
WORKERS ?= 2
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch goes first and alone: with the pinned version present nothing else can pull in another build.
$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -e .
	touch $@

$(VENV)/.check: $(VENV)/.core
	$(PIP) -e '.[check]'
	touch $@

$(VENV)/.bench: $(VENV)/.check
	$(PIP) -e '.[check,bench]'
	touch $@

demo: $(VENV)/.core  ## train a small net on real digits, prune it by several methods, compare, write a report
	OMP_NUM_THREADS=$(THREADS) $(BIN)/secateur compare --preset demo --out runs/demo

test: $(VENV)/.check  ## every test (a few minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/.check  ## lint, types, floors, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_floors.py tests/test_docs.py

bench: $(VENV)/.bench  ## the peer's row of the README (needs SECATEUR_DATA; ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/peer_resnet20.py

docs: $(VENV)/.check  ## the methods table, the demo report and its screenshot
	$(BIN)/python scripts/docs.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache
