"""Tokens per CPU-second of PEFT's training and of transformers' generation, printed as the example `throughput` prints ours.

Usage: peer.py MODEL.gguf f32|bf16 train|varied ROWS LENGTH LABELS, or peer.py MODEL.gguf f32|bf16 generate ROWS LENGTH NEW.
The rows of `varied` grow from a quarter of LENGTH to all of it and are padded on the right, as transformers' collators do.
"""
import os
import pathlib
import resource
import sys
import time

import torch
import transformers

UPDATES, GENERATIONS = 4, 3


def main():
    path, dtype, work, *sizes = sys.argv[1:]
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    path = pathlib.Path(path)
    # Whole matrices, as ours: by default transformers may keep the packed Q4_1 blocks and multiply by those.
    dense = transformers.GgufConfig(dequantize=True)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=kind, quantization_config=dense
    )
    assert model.lm_head.weight.dtype == kind and type(model.model.layers[0].mlp.down_proj) is torch.nn.Linear
    rows, length, third = map(int, sizes)
    if work == "generate":
        write(model, rows, length, third)
    else:
        train(model, varied(rows, length) if work == "varied" else [length] * rows, third)


def varied(rows, length):
    """The lengths of `throughput`."""
    return [length // 4 + (length - length // 4) * row // max(rows - 1, 1) for row in range(rows)]


def train(model, lengths, labels):
    """PEFT as its manual says: adapters in f32 whatever the model's type; torch's AdamW, the norm clipped at 1."""
    import peft

    adapter = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, adapter).train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    ids = numbers(model, len(lengths), max(lengths))
    mask, wanted = torch.ones_like(ids), ids.clone()
    for row, length in enumerate(lengths):
        ids[row, length:] = mask[row, length:] = 0
        wanted[row, : max(length - labels, 0)] = wanted[row, length:] = -100
    # A mask of ones alone would only cost the peer time.
    padding = {"attention_mask": mask} if min(lengths) < max(lengths) else {}
    for update in range(UPDATES):
        clock = Clock()
        loss = model(input_ids=ids, labels=wanted, use_cache=False, **padding).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"update {update}: loss {loss.item():.4f}, {clock.per_second(sum(lengths))}")


def write(model, rows, length, new):
    ids = numbers(model, rows, length)
    model.eval().generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    for _ in range(GENERATIONS):
        clock = Clock()
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
        assert out.shape[1] == length + new
        print(f"{rows} prompts: {clock.per_second(rows * new)}")


def numbers(model, rows, length):
    """The ids of `throughput`'s rows."""
    vocab = model.config.vocab_size
    return torch.tensor([[(at * 7919 + row * 104729 + 17) % vocab for at in range(length)] for row in range(rows)])


class Clock:
    def __init__(self):
        self.wall, self.cpu = time.monotonic(), cpu_seconds()

    def per_second(self, tokens):
        wall, cpu = time.monotonic() - self.wall, cpu_seconds() - self.cpu
        return f"{tokens / cpu:.1f} tokens per CPU-second, {tokens / wall:.1f} per second ({cpu:.2f} CPU-s)"


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


main()
