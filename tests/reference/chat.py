"""Writes chat/tokenizer.json and chat/expected.json: what transformers' apply_chat_template makes of four published templates.

    python tests/reference/chat.py [FIXTURES/tiny-llama]

The templates in chat/ are those of ChatML (transformers' documentation), Meta-Llama-3-8B-Instruct, Mistral-7B-Instruct-v0.2
and Qwen2-7B-Instruct. The vocabulary is the tiny fixture's with their control tokens added. `labels` are worked out here by
looking for each answer and the end token behind it in the rendered text, by character offsets. Made with transformers 5.23.0.
"""
import json, pathlib, sys
from tokenizers import Tokenizer, AddedToken
from transformers import PreTrainedTokenizerFast

here = pathlib.Path(__file__).parent / "chat"
fixture = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else here.parent.parent / "fixtures/tiny-llama")
CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
           "<|eot_id|>", "<|end_of_text|>"]
# template, beginning and end of a text, what ends an answer, whether the tokenizer itself adds a beginning
CASES = [("chatml", "<s>", "</s>", "<|im_end|>", True), ("llama3", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", True),
         ("mistral", "<s>", "</s>", "</s>", True), ("qwen2", None, "<|endoftext|>", "<|im_end|>", False)]
SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [("user", "I bought a sturdy charger."), ("assistant", "Then buy a folding basket!"),
         ("user", "Why?\n\nPlease explain."), ("assistant", "  It folds, and\nit is 'quiet'. ")]

def tokenizer():
    data = json.loads((fixture / "model/tokenizer.json").read_text())
    data["post_processor"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    own = Tokenizer.from_str(json.dumps(data))
    own.add_special_tokens([AddedToken(text, normalized=False) for text in CONTROL])
    own.save(str(here / "tokenizer.json"))
    return own

def labels(text, offsets, answers, end):
    spans, at = [], 0
    for answer in answers:
        start = text.index(answer, at)
        at = text.index(end, start) + len(end)
        spans.append((start, at))
    return [any(a <= s and e <= b for a, b in spans) for s, e in offsets]

own, out = tokenizer(), {}
for name, bos, eos, end, adds in CASES:
    fast = PreTrainedTokenizerFast(tokenizer_object=own, bos_token=bos, eos_token=eos)
    fast.chat_template = (here / f"{name}.jinja").read_text()
    rows = []
    for system in (False, True):
        for count in (2, 4):
            turns = [SYSTEM] * system + [{"role": r, "content": c} for r, c in TURNS[:count]]
            whole = fast.apply_chat_template(turns, tokenize=False)
            ids = fast.apply_chat_template(turns, tokenize=True, return_dict=False)
            prompt = fast.apply_chat_template(turns[:-1], tokenize=True, add_generation_prompt=True, return_dict=False)
            coded = fast(whole, add_special_tokens=False, return_offsets_mapping=True)
            assert coded["input_ids"] == ids
            # llama3 trims, mistral puts a space of its own before an answer
            answers = [t["content"].strip() if name == "llama3" else t["content"] for t in turns if t["role"] == "assistant"]
            answers = [" " + a for a in answers] if name == "mistral" else answers
            rows.append({"messages": turns, "text": whole, "ids": ids, "prompt": prompt,
                         "labels": labels(whole, coded["offset_mapping"], answers, end)})
    config = {"bos_token": bos, "eos_token": eos, "add_bos_token": adds}
    out[name] = {"tokenizer_config": {k: v for k, v in config.items() if v is not None}, "end": end, "rows": rows}
(here / "expected.json").write_text(json.dumps(out, ensure_ascii=False) + "\n")
