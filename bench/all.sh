#!/usr/bin/env bash
# Measures what bench/README.md tells. The peers (ninja, DVC, Snakemake, redun, PEFT, transformers) are installed into bench/.venv.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -d bench/.venv ] || python3 -m venv bench/.venv
bench/.venv/bin/pip install --quiet ninja dvc snakemake redun
PATH="$PWD/bench/.venv/bin:$PATH" python3 bench/engine/run.py target/release/watershed
python3 bench/engine/hash.py target/release/watershed
python3 bench/engine/cases.py target/release/watershed
if [ -x bench/lora/run.sh ]; then bench/lora/run.sh; fi
