# One script per habit: the same targets for a person and for CI.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
THREADS ?= 2
WORKERS ?= 2
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz check bench bench-engine bench-speed matrix docs clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

fuzz: $(VENV)/.check  ## the laws on 5,000 random networks (half an hour on 2 cores)
	OMP_NUM_THREADS=1 SECATEUR_FUZZ=5000 $(BIN)/python -m pytest -n $(WORKERS) --dist load tests/fuzz

check: $(VENV)/.check  ## lint, types, floors, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_floors.py tests/test_docs.py

bench: $(VENV)/.bench  ## the peer's row of the README (needs SECATEUR_DATA; ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/peer_resnet20.py

bench-engine: $(VENV)/.bench  ## docs/engine.md: the engine's speed against the peer's, growth, memory (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/engine/speed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/engine/growth.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/engine/memory.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/engine/verify_cost.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/engine/planning.py
	$(BIN)/python benchmarks/engine/table.py

bench-speed: $(VENV)/.bench  ## docs/speed.md and the table of docs/sparsity.md: latency predicted and realised (forty minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed/prediction.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed/realised.py
	$(BIN)/python benchmarks/speed/table.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sparse_linear.py

matrix: $(VENV)/.check  ## docs/compatibility.md and docs/cost.md: every model of the zoo (an hour; goes on where it stopped)
	$(BIN)/python benchmarks/zoo/run.py --how uniform --limit-seconds 300 --out benchmarks/results/zoo_uniform.jsonl
	$(BIN)/python benchmarks/zoo/run.py --how ranked --limit-seconds 300 --out benchmarks/results/zoo_ranked.jsonl
	$(BIN)/python benchmarks/zoo/table.py
	$(BIN)/python benchmarks/zoo/cost.py
	$(BIN)/python benchmarks/zoo/cost.py --page

docs: $(VENV)/.check  ## the methods table, the demo report and its screenshot
	$(BIN)/python scripts/docs.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache
