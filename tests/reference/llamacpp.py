"""Compares what our exported GGUF files write greedily with what llama.cpp writes from them.

    python tests/reference/llamacpp.py [--gguf models/smollm2-135m.gguf]

Wants `cargo build --release --workspace --examples` done and the package `xllamacpp` (llama.cpp, prebuilt). An adapter is trained for
a few updates, so that it changes what is written; then for 20 prompts ids in and ids out are compared, of

1. the merged file (`format: gguf`), here and in llama.cpp;
2. the adapter's file (`format: gguf_lora`) on the base's file in llama.cpp, beside our adapter on the same base here.

llama.cpp rounds activations to the kind of number that the matrix has, we compute in f32: where two tokens are all but equally
likely either may win, and from there on the texts part. Such a place is counted as equal only when our own logits of
the two tokens are within `--near` of each other.
"""
import argparse, json, pathlib, shutil, subprocess, sys, tempfile, time, urllib.request

root = pathlib.Path(__file__).resolve().parent.parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--gguf", type=pathlib.Path, default=root / "models/smollm2-135m.gguf")
parser.add_argument("--bin", type=pathlib.Path, default=root / "target/release")
parser.add_argument("--new", type=int, default=32)
parser.add_argument("--near", type=float, default=0.02)
parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
options = parser.parse_args()
PORT, PROMPTS = 18493, 20


def serve(model, adapter=None):
    """Serves one model, until it is killed or ten minutes are over."""
    import xllamacpp
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.port, settings.hostnames = model, PORT, ["127.0.0.1"]
    settings.n_parallel, settings.n_ctx, settings.n_gpu_layers, settings.offline = 1, 2048, 0, True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    if adapter:
        settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
    server = xllamacpp.Server(settings)
    print("listening on", server.listening_address, flush=True)
    time.sleep(600)


def ask(path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=300))


def theirs(texts, *model):
    """Returns (ids of the prompt, ids after it) of each text from llama.cpp."""
    server = subprocess.Popen([sys.executable, __file__, "--serve", *map(str, model)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout.readline(), "the server did not start"
        return [written(text) for text in texts]
    finally:
        server.kill()
        server.wait()


def written(text):
    ids = ask("/tokenize", {"content": text, "add_special": True})["tokens"]
    body = {"prompt": ids, "n_predict": options.new, "temperature": 0, "top_k": 1, "return_tokens": True, "cache_prompt": False}
    return ids, ask("/completion", body)["tokens"]


def ours(texts, model, *adapter):
    (work / "prompts.json").write_text(json.dumps(texts))
    words = [options.bin / "examples/greedy", model, options.new, work / "prompts.json", *adapter]
    done = subprocess.run(list(map(str, words)), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def gap(ids, one, two, model, *adapter):
    """Returns how far our logits of two tokens are apart behind `ids`."""
    words = [options.bin / "examples/logits", model, ",".join(map(str, ids)), *adapter]
    done = subprocess.run(list(map(str, words)), capture_output=True)
    last = json.loads(done.stdout)[-1]
    return abs(last[one] - last[two])


def compare(name, texts, theirs, *model):
    equal = near = 0
    for (our_ids, our_new), (their_ids, their_new) in zip(ours(texts, *model), theirs, strict=True):
        assert our_ids == their_ids, f"{name}: another prompt: {our_ids} here, {their_ids} there"
        length = min(len(our_new), len(their_new))
        assert length, f"{name}: nothing was written"
        parting = next((at for at in range(length) if our_new[at] != their_new[at]), None)
        if parting is None:
            equal += 1
        elif (apart := gap(our_ids + our_new[:parting], our_new[parting], their_new[parting], *model)) <= options.near:
            near += 1
            print(f"    parts at token {parting}, where our logits are {apart:.4f} apart")
        else:
            print(f"    FAILED: parts at token {parting}, where our logits are {apart:.4f} apart")
    passed = equal + near == len(texts)
    print(f"{'ok' if passed else 'FAILED'}  {name}: {equal} of {len(texts)} prompts with equal ids, {near} part at a near tie")
    return passed


def watershed(*words):
    done = subprocess.run([options.bin / "watershed", *words], cwd=work, capture_output=True)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


PIPELINE = """stages:
  reviews:   {use: synthetic, with: {customers: 60}}
  ingested:  {use: ingest, in: {reviews: reviews.reviews, items: reviews.items}}
  cleaned:   {use: clean, in: ingested}
  prompts:   {use: prompt, in: cleaned, with: {customers: 20, min_products: 5}}
  labelled:
    use: teacher-label
    in: {prompts: prompts, interactions: cleaned.interactions, items: cleaned.items}
    with: {backend: neighbours}
  base:      {use: export, in: {base: ./base.gguf}, with: {format: gguf, dtype: f16}}
  tuned:
    use: lora-train
    in: {train: labelled, base: base}
    with: {preset: repaired, dtype: f32, max_steps: 6, batch_size: 2, lr: 3.0e-3}
    run: {device: cpu}
  merged:    {use: export, in: {base: base, adapter: tuned.adapter}, with: {format: gguf, dtype: f16}}
  lora:      {use: export, in: {base: base, adapter: tuned.adapter}, with: {format: gguf_lora, dtype: f16}}
"""

if options.serve:
    serve(*options.serve)
    sys.exit()
work = pathlib.Path(tempfile.mkdtemp())
try:
    shutil.copy(options.gguf, work / "base.gguf")
    (work / "watershed.yaml").write_text(PIPELINE)
    watershed("run")
    for output, name in [("base", "plain.gguf"), ("merged", "merged.gguf"), ("lora", "lora.gguf"), ("tuned.adapter", "tuned"),
                         ("prompts", "prompts.jsonl")]:
        watershed("get", output, "-o", name)
    rows = [json.loads(line) for line in (work / "prompts.jsonl").read_text().splitlines()]
    texts = [f"{row['instruction']}\n\n{row['input']}\n\nAnswer:" for row in rows[:PROMPTS]]
    assert len(texts) == PROMPTS
    base, merged, lora = work / "plain.gguf", work / "merged.gguf", work / "lora.gguf"
    plain = ours(texts, base)
    assert sum(one != two for one, two in zip(plain, ours(texts, merged))) > PROMPTS / 2, "the adapter changed hardly anything"
    passed = [compare("merged GGUF", texts, theirs(texts, merged), merged),
              compare("adapter on the base's GGUF", texts, theirs(texts, base, lora), base, work / "tuned")]
finally:
    shutil.rmtree(work)
sys.exit(not all(passed))
