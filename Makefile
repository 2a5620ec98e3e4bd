.DEFAULT_GOAL := help
.PHONY: help run simulation flwr-config test gpu slow chaos soak fidelity map lint bench docs reproduce fuzz wheels bundle

# Libraries to compare with, in addition to tiktoken and tokenizers, which the tests install.
PEERS := --with 'gigabpe>=0.1,<0.2' --with 'gigatoken>=0.10,<0.11' --with 'rustbpe>=0.1,<0.2' --with 'bpeasy>=0.1.6,<0.2'
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 3600

help: ## list these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: ## run the quickstart: prepare the data, train, write the report
	uv run python -m fednano.run

simulation: ## run the quickstart with its clients side by side, in Ray's processes
	uv run --extra simulation python -m fednano.run runtime=simulation volatility=none

flwr-config: ## add fednano's connections to the configuration of Flower's own command
	uv run python -m fednano.flower_config

test: ## run all tests but the slow ones, Python and Rust
	uv run pytest -n auto
	cd rustbpe && cargo test --release

DEVICE ?= cuda
gpu: ## run the checks on a GPU, in at most 9 minutes; DEVICE=cpu for a small form of each
	uv run python tests/gpu --device $(DEVICE)

slow: ## run the tests that take minutes each
	uv run pytest -m slow

chaos: ## test live federations while their processes are killed; CHAOS_ROUNDS=12 for fewer random kills
	uv run pytest -n 0 -m slow tests/live/test_live_failures.py tests/live/test_node_refusals.py tests/live/test_node_whole.py

LIVE := runtime=deployment clients=3 hardware.threads=1 batch_size=4 eval_tokens=2048 seed=199
VOLATILE := runtime.chaos=true volatility=markov volatility.mean_up_s=60 volatility.mean_down_s=20
fidelity: ## compare two live federations, one of them volatile, with replays on the virtual clock
	folder=$$(mktemp -d) && \
	uv run python -m fednano.run $(LIVE) $(VOLATILE) strategy.local_steps=120 rounds=15 hydra.run.dir=$$folder/volatile && \
	uv run python -m fednano.run $(LIVE) volatility=none strategy.local_steps=60 rounds=5 hydra.run.dir=$$folder/steady && \
	uv run python -m fednano.fidelity $$folder/volatile && uv run python -m fednano.fidelity $$folder/steady

soak: ## kill runs at random moments, resume them, compare their ends; SOAK_SECONDS=3600
	uv run python tests/support/soak.py --seconds $(SOAK_SECONDS) --seed $$(date +%s)

map: ## list files per folder, the longest files and functions, positional records, import cycles
	uv run python tests/support/house.py

lint: ## check format, style and types, Python and Rust
	uv run ruff format --check
	uv run ruff check
	uv run mypy
	cd rustbpe && cargo fmt --check && cargo clippy --all-targets --all-features -- -D warnings

bench: ## measure speeds: training step, sampling, batches, codecs, tokenizer
	uv run python -m fednano.bench train_step
	uv run python -m fednano.bench sample
	uv run python -m fednano.bench loader
	uv run python -m fednano.bench codec
	uv run $(PEERS) python -m fednano.bench tokenizer
	uv run $(PEERS) python -m fednano.bench tokenizer --megabytes 100

STUDIES := $(filter-out _%,$(notdir $(basename $(wildcard conf/experiment/reproduce/*.yaml))))
FIGURES := --metric val_bpb --metric bytes.up --metric virtual_s --metric goodput --metric co2_g
reproduce: ## run small forms of the field's studies and compare each one's runs; STUDIES=muloco for one, OUT=FOLDER
	folder=$(or $(OUT),outputs/reproduce/$$(date +%Y-%m-%d_%H-%M-%S)) && mkdir -p $$folder && for study in $(STUDIES); do \
		uv run python -m fednano.run experiment=reproduce/$$study hydra.sweep.dir=$$folder/$$study || exit 1; done && \
	uv run --extra compare python -m fednano.compare --panels $(FIGURES) --out $$folder/comparison.html \
		$(STUDIES:%=$$folder/%)

docs: ## build the documentation site, site/html/index.html; the first time with small runs for its gallery
	uv run --group docs python docs/website

fuzz: ## feed random input to the Rust core, a minute per target; needs a C++ compiler
	command -v cargo-fuzz > /dev/null || cargo install --locked cargo-fuzz@0.13.2
	cd rustbpe && for target in split encode cuts train; do \
		cargo fuzz run --sanitizer none $$target -- -max_len=1500 -len_control=0 -max_total_time=$(FUZZ_SECONDS) || exit 1; done

wheels: ## make the bundle for this Python and try it without a network, in an environment that has torch alone
	tests/wheels.sh

PYTHON ?= 3.12
bundle: ## write wheels for a machine without a network; PYTHON=3.12, RAY=1, WANDB=1, OUT=dist
	python3 bundle/make.py --python $(PYTHON) --out $(or $(OUT),dist) $(if $(RAY),--ray) $(if $(WANDB),--wandb)
