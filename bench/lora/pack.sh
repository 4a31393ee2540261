#!/usr/bin/env bash
# Puts what bench/lora/gpu.sh needs into target/gpu/: the programs without symbols. Says which C library they ask for.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --quiet -j"${JOBS:-2}" --workspace --bins
cargo build --release --quiet -j"${JOBS:-2}" --workspace --example gpu
mkdir -p target/gpu
for program in watershed watershed-torch examples/gpu; do
  strip -o "target/gpu/$(basename "$program")" "target/release/$program"
  objdump -T "target/release/$program" | grep -oE 'GLIBC(XX)?_[0-9.]+' | sort -uV | awk -F_ -v p="$program" '{newest[$1] = $0} END {for (n in newest) print p, "asks for", newest[n]}'
done
du -h target/gpu/*
