"""PEFT's training and transformers' generation on the shapes of the example `gpu`, one JSON line a finding, in its form.

Usage: gpu_peer.py probe, gpu_peer.py train SHAPE LENGTH LABELS ROWS..., gpu_peer.py generate SHAPE PROMPT NEW ROWS...; DEVICE=cpu tries it on
a processor. CHECKPOINTING=1 recomputes activations in the backward pass.
"""
import gc
import json
import os
import statistics
import sys
import time

import torch

UPDATES, WARM = 4, 2
DEVICE = os.environ.get("DEVICE", "cuda")
CHECKPOINTING = os.environ.get("CHECKPOINTING") == "1"
SHAPES = {
    "7b": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32, vocab_size=32000),
    "tiny": dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, vocab_size=512),
}


def main():
    work, *rest = sys.argv[1:]
    if work == "probe":
        return probe()
    shape, length, third, *rows = rest
    model = random(shape)
    learner = adapted(model) if work == "train" else model.eval()
    for count in map(int, rows):
        try:
            tell((train if work == "train" else write)(learner, count, int(length), int(third)))
        except RuntimeError as error:  # out of memory is one
            tell({"work": work, "rows": count, "checkpointing": CHECKPOINTING, "error": str(error).splitlines()[0]})
        gc.collect()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


def tell(finding):
    print(json.dumps({"side": "peer", **finding}), flush=True)


def probe():
    import peft
    import transformers

    found = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__, "cuda": torch.version.cuda}
    if DEVICE == "cuda":
        found |= {"device": torch.cuda.get_device_name(0), "memory_bytes": torch.cuda.mem_get_info()[1], "cudnn": torch.backends.cudnn.version()}
        found["sdpa_order"] = [str(backend) for backend in torch._C._get_sdp_priority_order()]
    tell({"probe": "libraries", **found})


def random(shape):
    import transformers

    config = transformers.LlamaConfig(
        **SHAPES[shape], max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        attn_implementation="sdpa",
    )
    torch.manual_seed(1)
    begun = time.monotonic()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    sync()
    assert model.lm_head.weight.dtype == torch.bfloat16 and model.lm_head.weight.device.type == DEVICE
    tell({"work": "random", "shape": shape, "seconds": time.monotonic() - begun, "used_bytes": used_bytes()})
    return model


def adapted(model):
    """PEFT as its manual says: adapters in f32 beside weights in bf16."""
    import peft

    config = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    if CHECKPOINTING:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return peft.get_peft_model(model, config).train()


def train(model, rows, length, labels):
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=DEVICE == "cuda")
    ids = numbers(model, rows, length)
    wanted = ids.clone()
    wanted[:, : length - labels] = -100
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    losses, seconds = [], []
    for _ in range(WARM + UPDATES):
        begun = time.monotonic()
        loss = model(input_ids=ids, labels=wanted, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        sync()
        seconds.append(time.monotonic() - begun)
    return {
        "work": "train", "rows": rows, "length": length, "labels": labels, "checkpointing": CHECKPOINTING,
        "tokens_per_s": rows * length / statistics.median(seconds[WARM:]), "seconds": seconds, "losses": losses,
        "used_bytes": used_bytes(), "allocated_bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None,
    }


@torch.no_grad()
def write(model, rows, length, new):
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ids = numbers(model, rows, length)

    def seconds(new):
        sync()
        begun = time.monotonic()
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
        sync()
        assert out.shape[1] == length + new
        return time.monotonic() - begun

    seconds(min(new, 8))
    whole, prefill = seconds(new), seconds(1)
    return {
        "work": "generate", "rows": rows, "prompt": length, "new": new, "seconds": whole, "prefill_seconds": prefill,
        "tokens_per_s": rows * new / whole, "decode_tokens_per_s": rows * (new - 1) / (whole - prefill), "used_bytes": used_bytes(),
    }


def numbers(model, rows, length):
    """The ids of `gpu`'s rows."""
    vocab = model.config.vocab_size
    made = [[(at * 7919 + row * 104729 + 17) % vocab for at in range(length)] for row in range(rows)]
    return torch.tensor(made, device=DEVICE)


def sync():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def used_bytes():
    """Memory of the device in use by anybody, which is what `gpu` can tell too."""
    if DEVICE != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free


main()
