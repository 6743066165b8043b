# The commands a person types. Each calls cargo or one script.
SHELL := /bin/bash
export CARGO_TERM_PROGRESS_WHEN ?= auto
DATA ?= data
VENV := $(DATA)/venv
DIALECTS_VENV := $(DATA)/venv-dialects
TRAIN_VENV := $(DATA)/venv-train
CHECKPOINTS_VENV := $(DATA)/venv-checkpoints
ONNX_VENV := $(DATA)/venv-onnx
# Measuring against torch needs what training needs, and little more.
ENGINES_VENV := $(TRAIN_VENV)
PLOTS_VENV := $(DATA)/venv-plots
CARGO := cargo
# Features that are off by default and tested.
TESTED := --features ml-inference/kafka,ml-inference/cuda,benches/cuda
# From an edit to its tests: thin crates of ours are compiled incrementally and without optimisation.
QUICK := --config build.incremental=true --config profile.release.package.serving.opt-level=0 --config profile.release.package.router.opt-level=1

.PHONY: help check docs run setup system fetch onnx build build-benches cuda-toolkit build-cuda test test-rust test-python test-dialects lint bench bench-dialects bench-engines bench-load bench-loading gpu-kit simulate autoscale simulate-long sanitize neon references checkpoints verify train clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: build fetch ## serve all five models on 127.0.0.1:8080
	@./target/release/ml-inference serve --data-dir $(DATA)

setup: system $(ONNX_VENV)/.done ## install what this project needs and the machine lacks

system:
	@scripts/setup.sh

# With the features of the whole workspace, so that nothing is compiled twice.
build: setup ## compile the server
	@echo "==> building ml-inference (the first time takes some minutes)"
	@$(CARGO) build --release --locked --workspace --bin ml-inference

build-benches: setup ## compile the server, the simulators and what makes load
	@$(CARGO) build --release --locked --workspace

fetch: build ## fetch the base encoder's weights, once, and write the ONNX graphs
	@./target/release/ml-inference fetch --data-dir $(DATA)
	@$(ONNX_VENV)/bin/python scripts/export_onnx.py --data-dir $(DATA)

cuda-toolkit: setup ## nvcc, for the CUDA kernels; no GPU needed
	@scripts/cuda_toolkit.sh $(DATA)/cuda

build-cuda: cuda-toolkit ## the server with the CUDA runtime: one binary, which starts without a GPU too
	@$(CARGO) build --release --locked --workspace --features ml-inference/cuda

onnx: fetch ## write the graphs for the runtime `onnx`, where they are missing or stale

test: test-rust test-python ## run every test

# With the same features of every crate for tests and server, so that nothing is compiled twice.
test-rust: cuda-toolkit ## unit, property, integration and end-to-end tests in Rust
	@echo "==> building the tests (the first time takes some minutes)"
	@$(CARGO) test --release --locked --workspace $(TESTED) --no-run
	@$(CARGO) build --release --locked --workspace $(TESTED) --bin ml-inference
	@./target/release/ml-inference fetch --data-dir $(DATA)
	@$(ONNX_VENV)/bin/python scripts/export_onnx.py --data-dir $(DATA)
	@echo "==> Rust tests"
	@ML_INFERENCE_DATA_DIR=$(abspath $(DATA)) $(CARGO) test --release --locked --workspace $(TESTED)
	@echo "==> scheduler, engine, limiter and ledger with their invariants asserted"
	@$(CARGO) test --locked --package batching --package units
	@$(CARGO) test --config profile.release.package.router.debug-assertions=true --release --locked --package router
	@echo "==> the engine's threads in many orders"
	@$(CARGO) test --release --locked --package batching --features shuttle --test interleavings

test-python: test-rust $(VENV)/.done ## clients nobody here wrote, against the real server
	@echo "==> client tests"
	@$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile serving/tests/clients --binary target/release/ml-inference --data-dir $(DATA)

# Clients that are too heavy for every run, or want older packages than the others.
test-dialects: test-rust $(DIALECTS_VENV)/.done ## more clients of other servers, against the real server
	@$(DIALECTS_VENV)/bin/python -m pytest -q $(addprefix serving/tests/clients/,test_kserve.py test_langchain_huggingface.py test_litellm.py) \
		--binary target/release/ml-inference --data-dir $(DATA)

# What `make test` proves at length is skipped: simulations.
check: cuda-toolkit ## formatting, clippy, unit tests and documentation tests: under a minute after an edit
	@$(CARGO) fmt --all -- --check
	@$(CARGO) clippy $(QUICK) --release --locked --workspace $(TESTED) --all-targets -- -D warnings
	@$(CARGO) test $(QUICK) --release --locked --workspace $(TESTED) --quiet --lib --test architecture --test documentation \
		--test error_table -- --skip simulation:: --skip autoscaling::

docs: cuda-toolkit ## write the generated pages of docs/ anew
	@UPDATE_DOCS=1 $(CARGO) test $(QUICK) --release --locked --workspace $(TESTED) --quiet --test documentation is_fresh

lint: cuda-toolkit ## formatting, clippy, rustdoc, dependency checks
	@scripts/lint.sh

bench: build-benches fetch ## criterion benches and the served-latency bench; writes benches/results/
	@benches/run.sh

bench-engines: build-benches fetch $(ENGINES_VENV)/.engines ## CPU engines side by side: a table and a plot in benches/results/
	@$(ENGINES_VENV)/bin/python benches/engines/run.py

bench-dialects: build-benches fetch ## what each dialect costs over the engine, and calls a second: a table in benches/results/
	@python3 benches/dialects/run.py --data-dir $(DATA)

bench-load: build-benches fetch $(PLOTS_VENV)/.done ## callers who wait, and 0.5 to 10 times of what can be answered, by policy: table and plot
	@$(PLOTS_VENV)/bin/python benches/load/run.py --data-dir $(DATA)

bench-loading: build fetch ## how long a start takes with 110 million parameters, and its memory: a table in benches/results/
	@python3 benches/loading/run.py --data-dir $(DATA)

gpu-kit: cuda-toolkit ## what benches/gpu/run.sh needs on a machine with a GPU and nothing else, in parts, in data/gpu-kit
	@scripts/load_generators.sh
	@python3 benches/gpu/pack.py --data-dir $(DATA) --out $(DATA)/gpu-kit

simulate: build-benches $(PLOTS_VENV)/.done ## scheduling policies side by side on a virtual clock: tables and plots in benches/results/
	@./target/release/simulate
	@$(PLOTS_VENV)/bin/python benches/simulation/report.py

autoscale: build-benches $(PLOTS_VENV)/.done ## days of 50 million requests on clusters whose size policies decide: table and plot (an hour)
	@./target/release/autoscale
	@$(PLOTS_VENV)/bin/python benches/autoscaling/report.py

SEEDS ?= 1000000
simulate-long: setup ## the scheduler's promises under random use and faults, and the engine's under other orders of its threads, for SEEDS seeds (twenty minutes)
	@SEEDS=$(SEEDS) $(CARGO) test --release --locked --workspace --test random_use -- --nocapture
	@RUNS=$(SEEDS) $(CARGO) test --release --locked --package batching --features shuttle --test interleavings

sanitize: setup ## the fused runtime under AddressSanitizer, and under Miri where installed
	@scripts/kernels/sanitize.sh

neon: setup ## the kernels for 64-bit Arm, cross-compiled and tested under emulation (needs root)
	@scripts/kernels/neon.sh $(DATA)/trixie

references: $(TRAIN_VENV)/.done ## remake the reference embeddings with sentence-transformers
	@$(TRAIN_VENV)/bin/python scripts/make_references.py

checkpoints: $(CHECKPOINTS_VENV)/.done ## remake the reference outputs of every architecture with transformers
	@$(CHECKPOINTS_VENV)/bin/python scripts/make_checkpoints.py models/tests/references

verify: test-rust $(VENV)/.done $(CHECKPOINTS_VENV)/.done ## `models verify` against transformers and sentence-transformers themselves
	@$(VENV)/bin/python -m pytest -q serving/tests/clients/test_model_commands.py --binary target/release/ml-inference --data-dir $(DATA) \
		--authors $(CHECKPOINTS_VENV)/bin/python

train: $(TRAIN_VENV)/.done ## retrain the adapters of the classifier, sentiment and entity models
	@$(CARGO) build --release --locked --workspace --example text_as_read
	@cd scripts && for task in sentiment documents entities; do ../$(TRAIN_VENV)/bin/python -m train --task $$task --seed 17 || exit 1; done

$(ONNX_VENV)/.done: scripts/onnx-requirements.txt | system
	@echo "==> installing ONNX Runtime"
	@python3 -m venv $(ONNX_VENV)
	@$(ONNX_VENV)/bin/pip install --disable-pip-version-check --progress-bar on -r $<
	@touch $@

$(PLOTS_VENV)/.done: benches/simulation/requirements.txt | setup
	@echo "==> installing what draws the plots"
	@python3 -m venv $(PLOTS_VENV)
	@$(PLOTS_VENV)/bin/pip install --disable-pip-version-check --progress-bar on -r $<
	@touch $@

$(VENV)/.done: serving/tests/clients/requirements.txt | setup
	@echo "==> installing the test clients"
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --disable-pip-version-check --progress-bar on -r $<
	@touch $@

$(DIALECTS_VENV)/.done: serving/tests/clients/requirements-dialects.txt | setup
	@echo "==> installing more test clients (800 MB)"
	@python3 -m venv $(DIALECTS_VENV)
	@$(DIALECTS_VENV)/bin/pip install --disable-pip-version-check --progress-bar on -r $<
	@touch $@

$(CHECKPOINTS_VENV)/.done: scripts/checkpoints-requirements.txt | setup
	@python3 -m venv $(CHECKPOINTS_VENV)
	@$(CHECKPOINTS_VENV)/bin/pip install --disable-pip-version-check -r $<
	@touch $@

$(TRAIN_VENV)/.done: scripts/train/requirements.txt | setup
	@echo "==> installing torch and the training tools (several GB)"
	@python3 -m venv $(TRAIN_VENV)
	@$(TRAIN_VENV)/bin/pip install --disable-pip-version-check -r $<
	@touch $@

$(ENGINES_VENV)/.engines: benches/engines/requirements.txt $(TRAIN_VENV)/.done
	@echo "==> installing the engines to measure against"
	@$(ENGINES_VENV)/bin/pip install --disable-pip-version-check -r $<
	@touch $@

clean: ## remove what was built; the fetched weights stay
	@$(CARGO) clean
