# The commands a person types. Each calls cargo or one script.
SHELL := /bin/bash
export CARGO_TERM_PROGRESS_WHEN ?= auto
DATA ?= data
VENV := $(DATA)/venv
TRAIN_VENV := $(DATA)/venv-train
CARGO := cargo

.PHONY: help run setup fetch build test test-rust test-python lint bench references train clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: build fetch ## serve all five models on 127.0.0.1:8080
	@./target/release/ml-inference serve --data-dir $(DATA)

setup: ## install the system packages and toolchain this project needs, where missing
	@scripts/setup.sh

build: setup ## compile the server
	@echo "==> building ml-inference (the first time takes some minutes)"
	@$(CARGO) build --release --locked --workspace

fetch: build ## fetch the base encoder's weights, once
	@./target/release/ml-inference fetch --data-dir $(DATA)

test: test-rust test-python ## run every test

# Fetches the weights itself where they are missing, and builds the binary that the client tests start.
test-rust: setup ## unit, property, integration and end-to-end tests in Rust
	@echo "==> Rust tests (the first build takes some minutes)"
	@ML_INFERENCE_DATA_DIR=$(abspath $(DATA)) $(CARGO) test --release --locked --workspace

test-python: test-rust $(VENV)/.done ## clients nobody here wrote, against the real server
	@echo "==> client tests"
	@$(VENV)/bin/python -m pytest -q serving/tests/clients --binary target/release/ml-inference --data-dir $(DATA)

lint: setup ## formatting, clippy, rustdoc, dependency checks
	@scripts/lint.sh

bench: build fetch ## criterion benches and the served-latency bench; writes benches/results/
	@benches/run.sh

references: $(TRAIN_VENV)/.done ## remake the reference embeddings with sentence-transformers
	@$(TRAIN_VENV)/bin/python scripts/make_references.py

train: $(TRAIN_VENV)/.done ## retrain the adapters of the classifier, sentiment and entity models
	@cd scripts && for task in sentiment documents entities; do ../$(TRAIN_VENV)/bin/python -m train --task $$task --seed 17 || exit 1; done

$(VENV)/.done: serving/tests/clients/requirements.txt | setup
	@echo "==> installing the test clients"
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --disable-pip-version-check --progress-bar on -r $<
	@touch $@

$(TRAIN_VENV)/.done: scripts/train/requirements.txt | setup
	@echo "==> installing torch and the training tools (several GB)"
	@python3 -m venv $(TRAIN_VENV)
	@$(TRAIN_VENV)/bin/pip install --disable-pip-version-check -r $<
	@touch $@

clean: ## remove what was built; the fetched weights stay
	@$(CARGO) clean
