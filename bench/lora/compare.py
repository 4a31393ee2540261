"""Training and generation per CPU-second, ours and the peers' in turns.

Where a processor has no bf16 instructions, the half in bf16 takes hours and tells nothing: name f32 as TYPE.

Both print a line for each repetition; the first is warm-up. A process's figure is the median of the others, a side's the
median of its processes, and the ratio is the median of the ratios within a turn, which the neighbours' load disturbs least.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

PEER = pathlib.Path(__file__).resolve().parent / "peer.py"
TRAIN, VARIED, EIGHT, ONE = "train 2 256 60", "varied 8 256 48", "generate 8 94 48", "generate 1 94 48"
WORKS = {
    "training, 2 rows x 256, f32": f"f32 {TRAIN}",
    "training, 2 rows x 256, bf16": f"bf16 {TRAIN}",
    "training, 8 rows of 64 to 256, f32": f"f32 {VARIED}",
    "training, 8 rows of 64 to 256, bf16": f"bf16 {VARIED}",
    "generation, batch 8, f32": f"f32 {EIGHT}",
    "generation, batch 1, f32": f"f32 {ONE}",
    "generation, batch 8, bf16": f"bf16 {EIGHT}",
    "generation, batch 1, bf16": f"bf16 {ONE}",
}
# Two threads a side, asleep while they wait: spinning would count as work.
SETTINGS = {"THREADS": "2", "OMP_NUM_THREADS": "2", "RAYON_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive",
            "HF_HUB_OFFLINE": "1"}


def measure(program, model, work):
    """Returns (tokens per CPU-second, loss before the first update or none)."""
    done = subprocess.run([*program, model, *work.split()], env={**os.environ, **SETTINGS}, capture_output=True, text=True)
    figures = [float(found) for found in re.findall(r"([\d.]+) tokens per CPU-second", done.stdout)]
    if done.returncode != 0 or len(figures) < 2:
        raise SystemExit(f"{program} {work} ended with status {done.returncode}\n{done.stdout}\n{done.stderr}")
    loss = re.search(r"loss ([\d.]+)", done.stdout)
    return statistics.median(figures[1:]), float(loss[1]) if loss else None


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("throughput", metavar="THROUGHPUT", help="our example of that name, built")
    parser.add_argument("model", metavar="MODEL.gguf")
    parser.add_argument("turns", metavar="TURNS", nargs="?", type=int, default=2)
    parser.add_argument("type", metavar="TYPE", nargs="?", choices=["f32", "bf16"], help="f32 or bf16; both without it")
    return parser.parse_args()


def main():
    given = arguments()
    ours, model, turns = [given.throughput], given.model, given.turns
    peer = [sys.executable, str(PEER)]
    print("| work | watershed, tokens per CPU-s | peer | ratio | first loss, ours and peer's |")
    print("|---|---|---|---|---|")
    for name, work in WORKS.items():
        if given.type not in (None, work.split()[0]):
            continue
        pairs = [(measure(ours, model, work), measure(peer, model, work)) for _ in range(turns)]
        figures = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
        ratio = statistics.median(mine[0] / theirs[0] for mine, theirs in pairs)
        losses = [pairs[0][side][1] for side in (0, 1)]
        check = "-" if losses[0] is None else f"{losses[0]:.4f}, {losses[1]:.4f}"
        print(f"| {name} | {figures[0]:.1f} | {figures[1]:.1f} | {ratio:.2f} | {check} |", flush=True)


main()
