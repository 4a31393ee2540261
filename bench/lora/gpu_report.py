"""The findings of gpu.sh as tables. Usage: gpu_report.py findings.jsonl

FLOPs a token of LoRA training: 4N (forward, and the gradient by the input; frozen weights need no gradient of their own) plus
attention, 2 x layers x tokens x width forward (causal) and twice that backward. Full fine-tuning's 6N is given beside it. N are
the weights that a token multiplies with, the output projection included. Recomputed work does not count.
"""
import json
import sys

LAYERS, WIDTH = 32, 4096
PEAK = 989e12  # dense bf16 of an H100 or H200 SXM, NVIDIA's data sheet
GB = 1e9


def main():
    findings = [json.loads(line) for line in open(sys.argv[1])]
    ours = [f for f in findings if f.get("side") != "peer"]
    peer = [f for f in findings if f.get("side") == "peer"]
    matmul = next((f for f in ours if f.get("probe") == "matmul bf16"), {}).get("tflops")
    copy = next((f for f in ours if f.get("probe") == "copy"), {}).get("bytes_read_and_written_per_s")
    n = next((f for f in ours if f.get("work") == "random"), {}).get("matmul_parameters")
    card = next((f for f in peer if f.get("probe") == "libraries"), {})
    print(f"Device: {card.get('device')}, torch {card.get('torch')}, transformers {card.get('transformers')}, PEFT {card.get('peft')}.")
    print(f"Matrix product {show(matmul)} TFLOP/s in bf16; copy {show(copy, GB)} GB/s read and written.\n")
    training(ours, peer, n, matmul)
    generation(ours, peer, copy)
    told = [f for f in findings if "error" in f]
    print("\nFailed: " + ("; ".join(json.dumps(f) for f in told) if told else "nothing"))


def training(ours, peer, n, matmul):
    print("| training | rows | tokens/s | MFU, 4N + attention | 6N + attention | of the measured product, 4N | memory in use, GB | losses |")
    print("|---|---|---|---|---|---|---|---|")
    best = {}
    for side, found in [("watershed", ours), ("PEFT", peer)]:
        for f in (f for f in found if f.get("work") == "train"):
            name = side + (", checkpointing" if f.get("checkpointing") else "")
            if "tokens_per_s" not in f:
                print(f"| {name} | {f['rows']} | {f['error'][:60]} | | | | | |")
                continue
            rate = f["tokens_per_s"]
            best[name] = max(best.get(name, 0), rate)
            attention = 3 * 2 * LAYERS * WIDTH * f["length"]
            shares = ["-"] * 3
            if n:
                shares = [f"{rate * (4 * n + attention) / PEAK:.1%}", f"{rate * (6 * n + attention) / PEAK:.1%}", f"{rate * (4 * n + attention) / (matmul * 1e12):.1%}" if matmul else "-"]
            losses = f"{f['losses'][0]:.4f} to {f['losses'][-1]:.4f}"
            print(f"| {name} | {f['rows']} | {rate:.0f} | {' | '.join(shares)} | {show(f.get('used_bytes'), GB)} | {losses} |")
    if best.get("PEFT") and best.get("watershed"):
        print(f"\nBest beside best: {best['watershed'] / best['PEFT']:.2f} times PEFT.")
    pairs = [(a, b) for a in ours for b in peer if a.get("work") == b.get("work") == "train" and a["rows"] == b["rows"] and not b["checkpointing"]]
    ratios = [f"{a['rows']} rows {a['tokens_per_s'] / b['tokens_per_s']:.2f}" for a, b in pairs if "tokens_per_s" in a and "tokens_per_s" in b]
    print(f"Same rows: {', '.join(ratios) or 'none'}.\n")


def generation(ours, peer, copy):
    print("| generation | rows | tokens/s | decoding alone | share of the bandwidth limit | prompts, s | memory in use, GB |")
    print("|---|---|---|---|---|---|---|")
    limits = {f["rows"]: f["rows"] * copy / f["bytes_a_step"] for f in ours if copy and "bytes_a_step" in f}
    for side, found in [("watershed", ours), ("transformers", peer)]:
        for f in (f for f in found if f.get("work") == "generate"):
            if "tokens_per_s" not in f:
                print(f"| {side} | {f['rows']} | {f['error'][:60]} | | | | |")
                continue
            share = f"{f['decode_tokens_per_s'] / limits[f['rows']]:.1%}" if f["rows"] in limits else "-"
            print(f"| {side} | {f['rows']} | {f['tokens_per_s']:.0f} | {f['decode_tokens_per_s']:.0f} | {share} | {f['prefill_seconds']:.2f} | {show(f.get('used_bytes'), GB)} |")


def show(number, unit=1.0):
    return "-" if number is None else f"{number / unit:.1f}"


main()
