# make demo    set up, render the demo videos, ingest them, search them      (ONCE=1: stop afterwards)
# make test    set up, lint, check the types, run every test
# make bench   measure; the demo's data must be there (make demo ONCE=1)
# make slo     boot a stack, load 20,000 segments, run the scenario slo-search, write its report
# make proto   generate the messages of the search over gRPC again from search.proto
# make train   train the mini family again, into .trained (SEED=1): docs/model-card.md
# Needs Python 3.11 or 3.12 with its shared library, and make. Nothing is installed outside .venv.

PYTHON ?= $(firstword $(foreach v,3.11 3.12,$(shell command -v python$(v) 2>/dev/null)) python3)
PORT ?= 8080
DATA ?= .demo
SEED ?= 1
WEIGHTS ?= .trained
SLO_DATA ?= .slo
SCENARIO ?= slo-search
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types bench slo setup train configs proto clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 12)))' || \
		{ echo "pixserve needs Python 3.11 or 3.12, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
		       "Install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m deploy.demo.run --data-dir $(DATA) --port $(PORT) $(if $(ONCE),--once)

test: lint types
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/pixserve bench all --data-dir $(DATA)

slo: $(STAMP)
	$(BIN)/pixserve up --detach --data-dir $(SLO_DATA) --port $(PORT)
	@$(BIN)/pixserve loadtest load-corpus --data-dir $(SLO_DATA) --segments 20000 && \
		$(BIN)/pixserve loadtest run $(SCENARIO) --data-dir $(SLO_DATA); code=$$?; \
		$(BIN)/pixserve down --data-dir $(SLO_DATA); exit $$code

train: $(STAMP)
	$(BIN)/python -m training.train --seed $(SEED) --out $(WEIGHTS)

configs: $(STAMP)
	$(BIN)/python -m ensembles.build

proto: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. gateway/rpc/search.proto

clean:
	rm -rf $(VENV) $(DATA) $(SLO_DATA) build *.egg-info
