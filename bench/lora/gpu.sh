#!/usr/bin/env bash
# Measures training and generation on a CUDA device that has Python's torch 2.11.0 and no Rust, beside PEFT and transformers.
#
# bench/lora/pack.sh, run where Rust is, puts the programs into target/gpu/; carry that folder here. Results go to $OUT (else
# gpu-results/): findings.jsonl, table.md, log.txt, and project.tar.gz, a project trained here whose `watershed plan` finds
# every stage done on a machine without a GPU. Every part has a time limit, and the next goes on when one fails.
# DEVICE=cpu tries all of it on a processor with a tiny shape. PARTS names the parts to run.
set -uo pipefail
cd "$(dirname "$0")/../.."
device=${DEVICE:-cuda}
programs=$PWD/${PROGRAMS:-target/gpu}
parts=${PARTS:-machine probe train generate story peer}
out=${OUT:-gpu-results}
mkdir -p "$out" && out=$(cd "$out" && pwd)
work=$(mktemp -d)
python=${PYTHON:-python3}
export DEVICE=$device PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [ "$device" = cpu ]; then
  shape=tiny length=64 labels=16 rows='1 2' peer_rows='1 2' check_rows='2' prompt=16 new=16 batches='4'
else
  shape=7b length=1024 labels=256 rows='1 2 4 8 12' peer_rows='1 2 4 6 8' check_rows='8 12' prompt=128 new=128 batches='64'
fi
: >"$out/findings.jsonl"
: >"$out/log.txt"

say() { printf '\n== %s\n' "$*" | tee -a "$out/log.txt"; }

# part NAME SECONDS COMMAND...: findings are the lines of JSON that it prints; the rest is shown.
part() {
  local name=$1 limit=$2 begun=$SECONDS status
  shift 2
  say "$name (at most $limit s)"
  timeout -k 5 "$limit" "$@" >"$work/said" 2>"$work/errors"
  status=$?
  grep '^{' "$work/said" >>"$out/findings.jsonl"
  cat "$work/said" >>"$out/log.txt"
  cut -c1-900 "$work/said" | tail -40
  if [ $status -ne 0 ] || grep -q panicked "$work/errors"; then tail -n 30 "$work/errors" | cut -c1-500; fi
  tail -n 300 "$work/errors" >>"$out/log.txt"
  say "$name: status $status after $((SECONDS - begun)) s"
}

# Runs one of our programs with that Python's libraries. LD_LIBRARY_PATH goes before the path that the linker wrote down.
torch=$("$python" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')
libraries=$torch/lib
for folder in "$torch"/../nvidia/*/lib; do [ -d "$folder" ] && libraries+=:$(cd "$folder" && pwd); done
libraries+=${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
ours() {
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" env LD_LIBRARY_PATH="$libraries" "$@"
}

machine() {
  nvidia-smi 2>&1 | head -20
  uname -a
  nproc
  ls -l /dev/nvidia* 2>&1
  "$python" --version
  echo "torch at $torch; LD_LIBRARY_PATH $libraries"
  LD_LIBRARY_PATH=$libraries ldd "$programs/watershed-torch" "$programs/gpu" | grep -E 'not found|torch|c10|stdc|libc\.|:$'
  LD_LIBRARY_PATH=$libraries ldd "$torch/lib/libtorch_cuda.so" | grep 'not found'
  LD_LIBRARY_PATH=$libraries "$programs/watershed" doctor 2>&1
  return 0
}

for name in $parts; do
  case $name in
    machine) export -f machine && export programs torch libraries python && part machine 60 bash -c machine ;;
    probe)
      ours probe 60 "$programs/gpu" probe
      ours parts 60 "$programs/gpu" parts
      part 'probe, peer' 60 "$python" bench/lora/gpu_peer.py probe
      ;;
    train) ours training 90 "$programs/gpu" train $shape $length $labels $rows ;;
    generate) ours generation 60 "$programs/gpu" generate $shape $prompt $new $batches ;;
    story)
      mkdir -p "$work/story"
      SECONDS_A_RUN=${SECONDS_A_RUN:-60} ours story "${STORY_SECONDS:-150}" "$python" bench/lora/gpu_story.py "$programs/watershed" "$work/story" "$device"
      tar -C "$work/story" --exclude=locks -czf "$out/project.tar.gz" killed && ls -l "$out/project.tar.gz"
      ;;
    peer)
      part 'training, PEFT' 75 "$python" bench/lora/gpu_peer.py train $shape $length $labels $peer_rows
      CHECKPOINTING=1 part 'training, PEFT with checkpointing' 60 "$python" bench/lora/gpu_peer.py train $shape $length $labels $check_rows
      part 'generation, transformers' 60 "$python" bench/lora/gpu_peer.py generate $shape $prompt $new $batches
      ;;
  esac
done
say "results"
"$python" bench/lora/gpu_report.py "$out/findings.jsonl" 2>&1 | tee "$out/table.md"
rm -rf "$work"
