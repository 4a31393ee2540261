"""A pipeline trained on a device: killed and resumed, run again for nothing, and beside one that was left alone and one on the processor.

Usage: gpu_story.py WATERSHED FOLDER DEVICE. Leaves FOLDER/killed as the project whose store another machine can check (`watershed plan`
there finds every stage done). Prints one JSON line a finding.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

WATERSHED, FOLDER, DEVICE = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
EPOCHS = 12 if DEVICE == "cuda" else 3
SECONDS = int(os.environ.get("SECONDS_A_RUN", "60"))
# Losses of the same f32 training on two devices; they drift apart with the number of updates.
NEAR = 0.02


def main():
    killed, straight, processor = (project(name, device) for name, device in [("killed", DEVICE), ("straight", DEVICE), ("processor", "cpu")])
    tell("killed in training", kill_in_training(killed))
    tell("resumed", run(killed), log=log(killed, "tuned"))
    tell("again", run(killed))
    tell("straight", run(straight), numerics=numerics(straight))
    tell("processor", run(processor), numerics=numerics(processor))
    for stage in ("tuned", "tuned16"):
        tell(f"{stage}: resumed beside straight", compare(killed, straight, stage))
        tell(f"{stage}: straight beside processor", compare(straight, processor, stage))
    tell("tuned16 beside tuned", compare(straight, straight, "tuned", "tuned16"))
    tell("answers equal to the processor's", same_answers(straight, processor))
    tell("show", {"text": command(killed, "show")[1][-1500:]})


def tell(what, found, **more):
    print(json.dumps({"story": what, **found, **more}), flush=True)


def project(name, device):
    folder = FOLDER / name
    subprocess.run([WATERSHED, "init", "--template", "quickstart", str(folder)], check=True, stdout=subprocess.DEVNULL)
    path = folder / "watershed.yaml"
    text = path.read_text()
    keys = f"run: {{device: {device}, {'gpus: 1, ' if device == 'cuda' else ''}cpus: 2, checkpoint: 5}}"
    tuned = re.search(r"^  tuned: .*$", text, re.M)[0]
    line = tuned.replace("epochs: 2", f"epochs: {EPOCHS}").removesuffix("}") + f", {keys}}}"
    narrow = line.replace("tuned: ", "tuned16: ", 1).replace("with: {", "with: {dtype: bf16, ")
    text = text.replace(tuned, f"{line}\n{narrow}")
    answers = re.search(r"^  answers: .*$", text, re.M)[0]
    text = text.replace(answers, answers.removesuffix("}") + f", {keys}}}")
    path.write_text(text)
    return folder


def command(folder, *arguments):
    done = subprocess.run([WATERSHED, *arguments], cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stdout + done.stderr


def run(folder):
    begun = time.monotonic()
    try:
        status, text = command(folder, "run")
    except subprocess.TimeoutExpired as late:
        return {"status": "late", "tail": str(late.output)[-1500:]}
    found = {"status": status, "seconds": round(time.monotonic() - begun, 1), "summary": text.strip().splitlines()[-1]}
    return found if status == 0 else {**found, "tail": text[-2500:], "log": log(folder, "tuned")}


def log(folder, stage):
    return command(folder, "log", stage)[1][-1500:]


def kill_in_training(folder):
    """Ends engine and worker without warning once a checkpoint is there."""
    with open(folder / "killed.log", "w") as out:
        engine = subprocess.Popen([WATERSHED, "run"], cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        begun = time.monotonic()
        while engine.poll() is None and time.monotonic() - begun < SECONDS:
            steps = sorted(folder.glob(".watershed/partial/*/**/step-*"))
            if steps:
                break
            time.sleep(0.02)
        if engine.poll() is not None:
            return {"status": engine.returncode, "error": "ended before a checkpoint", "tail": (folder / "killed.log").read_text()[-2500:]}
        workers = [int(pid) for pid in children(engine.pid)]
        for pid in [engine.pid, *workers]:
            os.kill(pid, signal.SIGKILL)
        engine.wait()
    return {"status": "killed", "checkpoints": [step.name for step in steps], "workers": len(workers), "seconds": round(time.monotonic() - begun, 1)}


def children(parent):
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.parent.name, stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(rest[1]) == parent:
            yield pid


def curves(folder, stage):
    target = folder / f"curves-{stage}"
    if not target.exists():
        status, text = command(folder, "get", f"{stage}.curves", "-o", str(target))
        if status != 0:
            raise LookupError(text)
    return [json.loads(line) for line in (target / "metrics.jsonl").open()]


def compare(one, other, stage, other_stage=None):
    try:
        pairs = list(zip(curves(one, stage), curves(other, other_stage or stage), strict=True))
    except (LookupError, OSError, ValueError) as error:
        return {"error": str(error)[-800:]}
    gaps = [abs(a["loss"] - b["loss"]) for a, b in pairs]
    return {
        "updates": len(pairs), "first_losses": [pairs[0][0]["loss"], pairs[0][1]["loss"]], "last_losses": [pairs[-1][0]["loss"], pairs[-1][1]["loss"]],
        "largest_gap_first_5": max(gaps[:5]), "largest_gap": max(gaps), "near": max(gaps) < NEAR, "equal": max(gaps) == 0,
    }


def numerics(folder):
    target = folder / "receipt"
    status, text = command(folder, "get", "tuned.receipt", "-o", str(target))
    files = [target, *target.glob("*")] if target.is_dir() else [target]
    receipts = [json.loads(path.read_text()) for path in files if path.is_file()]
    return receipts[0].get("numerics") if receipts else text[-500:]


def same_answers(one, other):
    texts = [command(folder, "get", "answers", "-o", str(folder / "answers")) for folder in (one, other)]
    found = [sorted(path.read_text() for path in ([folder / "answers"] if (folder / "answers").is_file() else (folder / "answers").glob("*"))) for folder in (one, other)]
    return {"equal": found[0] == found[1] and found[0] != [], "said": [text[-200:] for _, text in texts]}


main()
