.DEFAULT_GOAL := help
.PHONY: help run test lint bench wheels

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: ## the quickstart: prepare the data, train, report
	uv run python -m fednano.run

test: ## all tests, Python and Rust
	uv run pytest
	cd rustbpe && cargo test --release

lint: ## format, lint and type checks, Python and Rust
	uv run ruff format --check
	uv run ruff check
	uv run mypy
	cd rustbpe && cargo fmt --check && cargo clippy --all-targets --all-features -- -D warnings

bench: ## speeds as ratios, measured in one run
	uv run python -m fednano.bench train_step
	uv run python -m fednano.bench tokenizer

wheels: ## build both wheels and try them in an empty environment
	tests/wheels.sh
