"""Writes another fixture of the layout of tiny-llama: multi-head attention, untied, sharded f16, another theta, no BOS.

    python tests/reference/tiny_llama.py FIXTURES/tiny-llama OUT/tiny-llama
    WATERSHED_FIXTURES=OUT cargo test --release -p watershed-weights -p watershed-stages -p watershed-torch

Rows, tokenizer, block samples, SentencePiece cases and the order of batches are the given fixture's; the model, its adapters
and every number are made here. Made to run with torch 2.11.0, transformers 5.23.0, peft 0.21.2, gguf 0.19.0 on a CPU (2 minutes).
"""
import json, math, pathlib, shutil, sys
import gguf, numpy as np, torch
from gguf import quants
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(11); torch.set_num_threads(1); torch.use_deterministic_algorithms(True)
source, out = map(pathlib.Path, sys.argv[1:3])
given = json.loads((source / "reference.json").read_text())
CUTOFF, EOS, PAD = 192, given["eos_id"], given["pad_id"]
shape = dict(vocab=512, hidden=64, inter=96, layers=3, heads=4, kv=4, head_dim=16, tie=False, theta=50000.0, eps=1e-6, bos=False)

for name in ["spm", "model"]:
    (out / name).mkdir(parents=True, exist_ok=True)
for name in ["dataset.json", "gguf_blocks.safetensors"]:
    shutil.copy(source / name, out / name)
for file in (source / "spm").iterdir():
    shutil.copy(file, out / "spm" / file.name)

# tokenizer: the given one without its beginning
tok = json.loads((source / "model/tokenizer.json").read_text())
tok["post_processor"] = None
(out / "model/tokenizer.json").write_text(json.dumps(tok, ensure_ascii=False))
conf = json.loads((source / "model/tokenizer_config.json").read_text())
conf["add_bos_token"] = False
(out / "model/tokenizer_config.json").write_text(json.dumps(conf))
tokenizer = Tokenizer.from_str(json.dumps(tok))
encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
data = json.loads((out / "dataset.json").read_text())

def prompt(row):
    name = "prompt_input" if row.get("input") else "prompt_no_input"
    return given["template"][name].replace("{instruction}", row["instruction"]).replace("{input}", row.get("input") or "")

def encoded(row, all_tokens, cutoff=CUTOFF):
    p = encode(prompt(row))
    ids = (p + encode(row["output"]) + [EOS])[:cutoff]
    return ids, (ids if all_tokens else ([-100] * len(p) + ids[len(p):])[:len(ids)])

def padded(rows, left=False):
    width = math.ceil(max(len(i) for i, _ in rows) / 8) * 8
    pad = lambda x, v: [v] * (width - len(x)) + x if left else x + [v] * (width - len(x))
    return [torch.tensor([pad(list(x), v) for x, v in col]) for col in
            ([(i, PAD) for i, _ in rows], [([1] * len(i), 0) for i, _ in rows], [(l, -100) for _, l in rows])]

def nll(model, rows):
    ids, mask, labels = padded(rows)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none")
    return loss.view(labels.shape[0], -1), (labels[:, 1:] != -100)

config = LlamaConfig(vocab_size=shape["vocab"], hidden_size=shape["hidden"], intermediate_size=shape["inter"],
    num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv"], head_dim=shape["head_dim"],
    max_position_embeddings=512, rms_norm_eps=shape["eps"], rope_parameters={"rope_theta": shape["theta"], "rope_type": "default"},
    tie_word_embeddings=False, bos_token_id=None, eos_token_id=EOS, pad_token_id=PAD, initializer_range=0.08)
base = LlamaForCausalLM(config)
# it learns to repeat its input, as the given one did
optimizer = torch.optim.AdamW(base.parameters(), lr=3e-3)
rows = []
for row in data[:64]:
    ids = (encode(prompt(row)) + encode(row.get("input") or row["instruction"]) + [EOS])[:CUTOFF]
    rows.append((ids, ids))
for step in range(160):
    picked = torch.randperm(64)[:8].tolist()
    losses, mask = nll(base, [rows[i] for i in picked])
    loss = losses.sum() / mask.sum()
    loss.backward(); optimizer.step(); optimizer.zero_grad()
print("pre-trained to", loss.item())
base.half().save_pretrained(out / "model", max_shard_size="150KB")
# read back, for .half() also rounds the rotary frequencies
base = LlamaForCausalLM.from_pretrained(out / "model", dtype=torch.float32).eval()
assert (out / "model/model.safetensors.index.json").exists()

tensors, ref = {}, {k: given[k] for k in ["template", "bos_id", "eos_id", "pad_id"]}
ref.update(variant="mha-untied-f16", shape=shape, cutoff=CUTOFF)
texts = [c["text"] for c in given["tokenize"]]
ref["tokenize"] = [{"text": t, "ids": encode(t), "decoded": tokenizer.decode(encode(t))} for t in texts]
ref["examples"] = [{"index": i, "prompt": prompt(data[i]), "ids": encoded(data[i], False)[0], "labels": encoded(data[i], False)[1],
                    "labels_train_on_inputs": encoded(data[i], True)[1]} for i in range(4)]
ref["truncated_at_64"] = [{"index": i, "ids": encoded(data[i], False, 64)[0],
                           "label_tokens": sum(l != -100 for l in encoded(data[i], False, 64)[1][1:])} for i in range(4)]

plain = torch.tensor([encode(prompt(data[1]))[:24]])
tensors["plain.input_ids"] = plain
batch = [encoded(data[i], False) for i in (0, 1, 2)]
with torch.no_grad():
    result = base(input_ids=plain, output_hidden_states=True)
    tensors["plain.logits"] = result.logits
    for i, state in enumerate(result.hidden_states):
        tensors[f"plain.hidden.{i}"] = state.clone()
    for side in ("right", "left"):
        ids, mask, labels = padded(batch, side == "left")
        tensors |= {f"batch.input_ids_{side}": ids, f"batch.mask_{side}": mask}
        if side == "right":
            tensors["batch.labels_right"] = labels
            logits = base(input_ids=ids, attention_mask=mask).logits
            last = [logits[i, len(row[0]) - 1] for i, row in enumerate(batch)]
            tensors["batch.last_logits"] = torch.stack(last)
    losses, mask = nll(base, batch)
per = [{"sum_nll": losses[i][mask[i]].sum().item(), "tokens": int(mask[i].sum())} for i in range(3)]
total, count = losses[mask].sum().item(), int(mask.sum())
ref["loss"] = {"hf_loss_token_mean": total / count, "sum_nll": total, "tokens": count, "per_sample": per,
               "mean_of_sample_means": sum(p["sum_nll"] / p["tokens"] for p in per) / 3}

def generations(model):
    found = []
    for row in data[64:70]:
        p = encode(prompt(row)); ids = torch.tensor([p])
        cut = dict(max_new_tokens=40, do_sample=False, pad_token_id=PAD, eos_token_id=EOS, attention_mask=torch.ones_like(ids))
        new = lambda **more: model.generate(input_ids=ids, **cut, **more)[0, len(p):].tolist()
        greedy = new(num_beams=1)
        with torch.no_grad():
            top = model(input_ids=torch.tensor([p + greedy])).logits[0, len(p) - 1:-1].topk(2).values
        found.append({"prompt": prompt(row), "greedy": greedy, "text": tokenizer.decode(greedy),
                      "min_top2_margin": (top[:, 0] - top[:, 1]).min().item(), "repetition_penalty_1.3": new(repetition_penalty=1.3),
                      "no_repeat_ngram_3": new(no_repeat_ngram_size=3), "beam4": new(num_beams=4)})
    return found
ref["generate_base"] = generations(base)

def validation(model):
    losses, mask = nll(model, [encoded(row, False) for row in data[64:]])
    return (losses[mask].sum() / mask.sum()).item()

def run(name, wanted):
    c = wanted["config"]
    torch.manual_seed(5)
    model = LlamaForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=c["r"], lora_alpha=c["alpha"], target_modules=c["targets"], lora_dropout=0.0,
                                             use_rslora=c["rslora"], use_dora=c["dora"], task_type="CAUSAL_LM"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.save_pretrained(out / f"adapter_{name}_init")
    result = {"config": c, "batches": wanted["batches"], "steps": [], "trainable": sum(p.numel() for p in parameters)}
    with torch.no_grad():
        result["val_loss_before"] = validation(model)
    optimizer = torch.optim.AdamW(parameters, lr=c["lr"], betas=(0.9, 0.999), eps=1e-8, weight_decay=c["wd"])
    for k, micros in enumerate(wanted["batches"]):
        w = c["warmup"]
        lr = c["lr"] * (k / w if k < w else (c["steps"] - k) / max(1, c["steps"] - w))
        rows = [[encoded(data[i], c["toi"]) for i in micro] for micro in micros]
        count = sum(sum(l != -100 for l in labels[1:]) for micro in rows for _, labels in micro)
        shown = 0.0
        for micro in rows:
            losses, mask = nll(model, micro)
            loss = losses[mask].sum() / count if c["loss"] == "token_mean" else losses[mask].mean() / len(micros)
            loss.backward(); shown += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, c["clip"] or float("inf")).item()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step(); optimizer.zero_grad()
        result["steps"].append({"step": k + 1, "loss": shown, "grad_norm": norm, "lr": lr, "label_tokens": count})
    model.eval()
    model.save_pretrained(out / f"adapter_{name}")
    with torch.no_grad():
        result["val_loss_after"] = validation(model)
        tensors[f"{name}.logits"] = model(input_ids=plain).logits
    merged = model.merge_and_unload()
    with torch.no_grad():
        result["merged_vs_unmerged_max_abs"] = (merged(input_ids=plain).logits - tensors[f"{name}.logits"]).abs().max().item()
    result["generate"] = generations(merged) if wanted["generate"] else None
    print(name, result["steps"][0]["loss"], "->", result["steps"][-1]["loss"], result["val_loss_before"], "->", result["val_loss_after"])
    return result
ref["runs"] = {name: run(name, wanted) for name, wanted in given["runs"].items()}

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
def gguf_name(name):
    name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}.get(name, name)
    for a, b in NAMES.items():
        name = name.replace(a, b)
    return name.replace("model.layers.", "blk.")
def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)

def write_gguf(kind):
    q, label = getattr(gguf.GGMLQuantizationType, kind.upper()), f"gguf.{kind}.logits"
    writer = gguf.GGUFWriter(out / f"model.{kind}.gguf", "llama")
    writer.add_name("tiny"); writer.add_block_count(shape["layers"]); writer.add_context_length(512)
    writer.add_embedding_length(shape["hidden"]); writer.add_feed_forward_length(shape["inter"])
    writer.add_head_count(shape["heads"]); writer.add_head_count_kv(shape["kv"]); writer.add_vocab_size(shape["vocab"])
    writer.add_rope_freq_base(shape["theta"]); writer.add_layer_norm_rms_eps(shape["eps"]); writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_key_length(shape["head_dim"]); writer.add_value_length(shape["head_dim"])
    by_id = {i: t for t, i in tok["model"]["vocab"].items()} | {t["id"]: t["content"] for t in tok["added_tokens"]}
    special = {t["id"] for t in tok["added_tokens"] if t["special"]}
    writer.add_tokenizer_model("gpt2"); writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([by_id.get(i, f"[PAD{i}]") for i in range(shape["vocab"])])
    writer.add_token_types([3 if i in special else 1 for i in range(shape["vocab"])])
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in tok["model"]["merges"]])
    writer.add_eos_token_id(EOS); writer.add_pad_token_id(PAD); writer.add_add_bos_token(False)
    model = LlamaForCausalLM.from_pretrained(out / "model", dtype=torch.float32).eval()
    for name, w in model.state_dict().items():
        w = w.numpy().astype(np.float32)
        heads = shape["heads"] if "q_proj" in name else shape["kv"] if "k_proj" in name else 0
        stored = permute(w, heads) if heads else w
        if w.ndim == 1:
            writer.add_tensor(gguf_name(name), stored)
            continue
        raw = quants.quantize(np.ascontiguousarray(stored), q)
        writer.add_tensor(gguf_name(name), raw, raw_dtype=q)
        back = quants.dequantize(raw, q)
        if heads:
            back = back.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        model.state_dict()[name].copy_(torch.from_numpy(np.ascontiguousarray(back)))
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
    with torch.no_grad():
        tensors[label] = model(input_ids=plain).logits
    return (tensors[label] - tensors["plain.logits"]).abs().max().item()
ref["gguf"] = {f"gguf.{kind}.logits": write_gguf(kind) for kind in ("q8_0", "q4_1")}
save_file({k: v.contiguous() for k, v in tensors.items()}, out / "reference.safetensors")
(out / "reference.json").write_text(json.dumps(ref, ensure_ascii=False))
