"""Compares our models and adapters with PEFT's and transformers', both ways.

    python tests/reference/agreement.py [--gguf models/smollm2-135m.gguf]

Wants `cargo build --release --workspace --examples` done. Four comparisons, each of logits on the same ids:

1. an adapter that `lora-train` wrote, loaded by PEFT;
2. adapters that PEFT wrote (plain, rslora, with patterns of rank and alpha), loaded by us;
3. a merged folder and a merged GGUF that `export` wrote, loaded by transformers;
4. SmolLM2's GGUF, read by us and by transformers.
"""
import argparse, json, pathlib, shutil, subprocess, sys, tempfile
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

root = pathlib.Path(__file__).resolve().parent.parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--fixture", type=pathlib.Path, default=root / "tests/fixtures/tiny-llama")
parser.add_argument("--gguf", type=pathlib.Path, default=root / "models/smollm2-135m.gguf")
parser.add_argument("--bin", type=pathlib.Path, default=root / "target/release")
options = parser.parse_args()
torch.set_num_threads(2)
IDS = json.loads((options.fixture / "reference.json").read_text())["examples"][1]["ids"][:48]
work = pathlib.Path(tempfile.mkdtemp())
failures = 0

def ours(model, ids, adapter=None):
    words = [options.bin / "examples/logits", model, ",".join(map(str, ids)), *([adapter] if adapter else [])]
    done = subprocess.run(list(map(str, words)), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return torch.tensor(json.loads(done.stdout))

def theirs(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits[0].float()

def compare(name, one, two, tolerance):
    global failures
    off = (one - two).abs().max().item()
    failures += off > tolerance
    print(f"{'ok' if off <= tolerance else 'FAILED'}  {name}: logits differ by at most {off:.2e} (tolerance {tolerance:.0e})")

def base():
    return AutoModelForCausalLM.from_pretrained(options.fixture / "model", dtype=torch.float32)

def watershed(*words):
    done = subprocess.run([options.bin / "watershed", *words], cwd=work, capture_output=True)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()

# 1 and 3
shutil.copytree(options.fixture / "model", work / "base")
shutil.copy(options.fixture / "dataset.json", work / "rows.json")
(work / "watershed.yaml").write_text("""stages:
  rows: {use: examples, in: {files: ./rows.json}}
  tuned:
    use: lora-train
    in: {train: rows, base: ./base}
    with: {max_len: 256, max_steps: 20, lr: 1.0e-2, lora: {r: 4, variant: rslora}, checks: {eos: warn}}
    run: {device: cpu}
  folder: {use: export, in: {base: ./base, adapter: tuned.adapter}, with: {format: hf, dtype: f16}}
  file: {use: export, in: {base: ./base, adapter: tuned.adapter}, with: {format: gguf, dtype: f16}}
""")
watershed("run")
watershed("get", "tuned.adapter", "-o", "adapter")
watershed("get", "folder", "-o", "merged")
wanted = theirs(PeftModel.from_pretrained(base(), work / "adapter"), IDS)
assert (wanted - theirs(base(), IDS)).abs().max() > 0.1, "the adapter changed nothing"
compare("our adapter in PEFT", ours(options.fixture / "model", IDS, work / "adapter"), wanted, 1e-4)
merged = AutoModelForCausalLM.from_pretrained(work / "merged", dtype=torch.float32)
compare("our merged folder in transformers", theirs(merged, IDS), wanted, 5e-2)
watershed("get", "file", "-o", "merged.gguf")
merged = AutoModelForCausalLM.from_pretrained(work, gguf_file="merged.gguf", dtype=torch.float32)
compare("our merged GGUF in transformers", theirs(merged, IDS), wanted, 5e-2)
compare("our merged GGUF here and there", ours(work / "merged.gguf", IDS), theirs(merged, IDS), 1e-4)
merged = AutoModelForCausalLM.from_pretrained(work / "merged", dtype=torch.float32)
compare("our merged folder here and there", ours(work / "merged", IDS), theirs(merged, IDS), 1e-4)

# 2
SORTS = {
    "plain": dict(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj"]),
    "rslora": dict(r=8, lora_alpha=8, target_modules=["k_proj", "o_proj", "gate_proj", "down_proj"], use_rslora=True),
    "patterns": dict(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], rank_pattern={"layers.1.self_attn.q_proj": 2},
                     alpha_pattern={"up_proj": 3}),
}
for name, sort in SORTS.items():
    torch.manual_seed(3)
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **sort))
    for key, value in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.05)
    model.save_pretrained(work / name)
    compare(f"PEFT's adapter here, {name}", ours(options.fixture / "model", IDS, work / name), theirs(model, IDS), 1e-4)

# 4
if options.gguf.exists():
    model = AutoModelForCausalLM.from_pretrained(options.gguf.parent, gguf_file=options.gguf.name, dtype=torch.float32)
    ids = [1, 9690, 198, 2683, 359, 260, 5356, 282, 4649, 47, 2, 198, 1, 4093, 198]
    compare("SmolLM2's GGUF", ours(options.gguf, ids), theirs(model, ids), 1e-3)
else:
    print(f"left out: no {options.gguf}")
shutil.rmtree(work)
sys.exit(failures > 0)
