# Two commands for a newcomer: `make demo` and `make test`. Both do all set-up, say what they do, and may be repeated.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := target/release/watershed

help: ## lists the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: build model ## builds Watershed, runs pipelines/quickstart.yaml, writes report.html
	@scripts/say "running pipelines/quickstart.yaml (under 3 minutes on 2 cores; the second time it does nothing)"
	@$(BIN) run pipelines/quickstart.yaml
	@$(BIN) report -o report.html
	@$(BIN) show --metrics parrot_rate,copy_4,hit@10,ndcg@10,val_loss,val_loss_before
	@scripts/say "the page is $(CURDIR)/report.html"

build: setup ## builds watershed and watershed-torch
	@scripts/say "building (the first time takes some minutes)"
	@cargo build --release --workspace

test: setup fixtures ## formatting, lints, all tests, doc tests
	@scripts/say "checking format and lints"
	@cargo fmt --all --check
	@cargo clippy --release --workspace --all-targets --quiet -- -D warnings
	@scripts/say "building and running the tests"
	@cargo build --release --workspace
	@cargo test --release --workspace --all-targets
	@cargo test --release --workspace --doc

docs: build ## writes docs/kinds.md anew from the program
	@$(BIN) kinds --format markdown > docs/kinds.md

test-full: export WATERSHED_CAMPAIGN := full
test-full: test ## the tests with their long campaigns whole

bench: build model ## measures, as bench/README.md describes
	@bench/all.sh

deny: ## licences, bans and sources of all dependencies, with cargo-deny (`cargo install --locked cargo-deny`)
	@cargo deny --offline check licenses bans sources

setup: ## puts libtorch under .libtorch/ (TORCH=cuda: with its CUDA libraries)
	@scripts/need-tools
	@scripts/get-libtorch

model: ## puts SmolLM2-135M-Instruct under models/
	@scripts/need-tools
	@scripts/get-model

fixtures: ## fetches the MovieLens rows that some tests compare with
	@scripts/get-ml100k

.PHONY: help demo build test docs test-full bench deny setup model fixtures
