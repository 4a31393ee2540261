#!/usr/bin/env bash
# Measures training beside PEFT and generation beside transformers on SmolLM2-135M; installs the peers into bench/.venv.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -d bench/.venv ] || python3 -m venv bench/.venv
bench/.venv/bin/pip install --quiet torch==2.11.0 transformers==5.23.0 peft==0.21.2 gguf==0.19.0
[ -e models/smollm2-135m.gguf ] || scripts/get-model
cargo build --release --quiet -p watershed-torch --example throughput
bench/.venv/bin/python bench/lora/compare.py target/release/examples/throughput models/smollm2-135m.gguf "$@"
