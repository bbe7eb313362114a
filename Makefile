# Two commands: `make demo` shows the main job, `make test` checks it. Both create .venv on first use and reuse it after.
#   PYTHON=python3.12        another interpreter (3.11 or newer)
#   TORCH_INDEX=<address>    an extra package index that holds the CPU wheels of torch

PYTHON ?= python3
export PYTHON TORCH_INDEX
ENVIRONMENT := pyproject.toml constraints-cpu.txt scripts/setup_env.sh
BIN := .venv/bin
WORKERS ?= auto
PEERS := bart chromium dcm2niix dcmtk dicom3tools ismrmrd-tools
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench fuzz peers clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv/.core  ## reconstruct a simulated 4x brain scan: h5 files, scores and a picture in demo/
	$(BIN)/nirvana-mri demo --out demo

test: .venv/.test  ## run the tests
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal $(ARGS)

check: .venv/.dev  ## lint, format, types, import contracts, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: .venv/.test  ## time reconstruction, the backbone, reading and scoring beside their peers (ten minutes)
	$(BIN)/python benchmarks/reconstruct.py
	$(BIN)/python benchmarks/backbone.py
	$(BIN)/python benchmarks/io.py
	$(BIN)/python benchmarks/evaluate.py

fuzz: .venv/.test  ## thousands of damaged files of every format into the readers (minutes; ARGS="--cases 10000")
	$(BIN)/python scripts/fuzz.py $(ARGS)

peers:  ## install the Debian programs that some tests compare with (without them those tests skip)
	$(SUDO) apt-get update
	$(SUDO) apt-get install -y --no-install-recommends $(PEERS)

clean:  ## remove caches and demo/ (.venv stays)
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find nirvana_mri tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.core .venv/.test .venv/.dev: .venv/.%: $(ENVIRONMENT)
	scripts/setup_env.sh $*
