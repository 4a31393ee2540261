"""CPU of the commands that look at a sweep of ten thousand cases before anything runs. Usage: cases.py WATERSHED [RUNS]

Eight stages, of which the grid sweeps the training and, with it, what reads the adapter: 30,000 nodes of its own cases and 5 shared
ones. The store is empty.
"""
import json
import pathlib
import shutil
import statistics
import sys
import tempfile

here = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(here))
import measure

PIPELINE = """
name: cases
params: {seed: 1}
stages:
  rows:    {use: examples, in: {files: ./data.jsonl}}
  parts:   {use: split, in: rows, with: {val: 4, test: 4, seed: "${params.seed}"}}
  base:    {use: random-model, in: {tokenizer: ./tokenizer.json}, with: {config: {bos_token_id: 1, eos_token_id: 2, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, initializer_range: 0.2, max_position_embeddings: 1024, vocab_size: 512, tie_word_embeddings: true}}}
  tuned:   {use: lora-train, in: {train: parts.train, val: parts.val, base: base}, with: {lora: {r: 8}, lr: 1.0e-3, seed: "${params.seed}"}}
  answers: {use: generate, in: {base: base, adapter: tuned.adapter, prompts: parts.test}}
  scores:  {use: evaluate, in: {answers: {tuned: answers}, teacher: rows, curves: {tuned: tuned}}}
  best:    {use: choose, in: {candidates: tuned.adapter@*, scores: scores@*}, with: {metric: tuned.val_loss, mode: min}}
  last:    {use: generate, in: {base: base, adapter: best.chosen, prompts: parts.test}}
sweeps:
  wide: {grid: {tuned.lr: RATES, "tuned.lora.r": RANKS}}
"""

COMMANDS = {
    "check": ["check"],
    "plan": ["plan", "--sweep", "wide"],
    "plan, JSON": ["plan", "--sweep", "wide", "--format", "json"],
    "run --frozen": ["run", "--sweep", "wide", "--frozen"],
}


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    print("| 10,000 cases | CPU s | wall s |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "watershed.root").touch()
        (folder / "data.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 40)
        shutil.copy(here.parent / "templates/tokenizer.json", folder)
        rates, ranks = [i * 1e-5 for i in range(1, 101)], list(range(1, 101))
        text = PIPELINE.replace("RATES", json.dumps(rates)).replace("RANKS", json.dumps(ranks))
        (folder / "watershed.yaml").write_text(text)
        for name, command in COMMANDS.items():
            pending = (0, 10) if "--frozen" in command else (0,)
            figures = [measure.once([program, *command], folder, pending) for _ in range(runs)]
            cpu, wall = (statistics.median(column) for column in zip(*figures))
            print(f"| {name} | {cpu:.2f} | {wall:.2f} |", flush=True)


main()
