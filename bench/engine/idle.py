"""CPU of `run` with nothing to do at N `command` stages, in turns with ninja on the same graph; and of `--version`.

The graph is layered: ten stages a layer, each reading one stage of the layer above. Usage: idle.py WATERSHED [RUNS]
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure

SIZES = (10, 100, 1000, 10_000)


def parent(i):
    return i - 10 if i >= 10 else None


def pipeline(n):
    lines = ["stages:"]
    for i in range(n):
        above = parent(i)
        if above is None:
            lines.append(f"  s{i}: {{use: command, with: {{shell: 'echo {i} > $OUT_out'}}}}")
        else:
            lines.append(f"  s{i}: {{use: command, in: {{x: s{above}}}, with: {{shell: '(cat $IN_x; echo {i}) > $OUT_out'}}}}")
    return "\n".join(lines) + "\n"


def ninja_file(n):
    lines = ["rule root", "  command = echo $i > $out", "rule child", "  command = (cat $in; echo $i) > $out"]
    for i in range(n):
        above = parent(i)
        lines.append(f"build o{i}: root" if above is None else f"build o{i}: child o{above}")
        lines.append(f"  i = {i}")
    return "\n".join(lines) + "\n"


def main():
    watershed = str(pathlib.Path(sys.argv[1]).resolve())
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 11
    ninja = shutil.which("ninja")
    print("| N | watershed, CPU ms | peak MiB | ninja, CPU ms | ratio |")
    print("|---|---|---|---|---|")
    for n in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "watershed.root").touch()
            (folder / "watershed.yaml").write_text(pipeline(n))
            (folder / "build.ninja").write_text(ninja_file(n))
            commands = {"watershed": ([watershed, "run", "-q"], folder)}
            for _ in range(2):
                subprocess.run([watershed, "run", "-q"], cwd=folder, check=True)
            if ninja:
                subprocess.run([ninja, "--quiet"], cwd=folder, check=True)
                commands["ninja"] = ([ninja, "--quiet"], folder)
            figures = measure.in_turns(commands, runs)
            ours, peer = figures["watershed"], figures.get("ninja")
            theirs = f"{peer[0] * 1e3:.1f} | {ours[0] / peer[0]:.2f}" if peer else "not installed | -"
            print(f"| {n} | {ours[0] * 1e3:.1f} | {ours[2]:.1f} | {theirs} |", flush=True)
    version = measure.in_turns({"v": ([watershed, "--version"], ".")}, 21)["v"]
    print(f"\n`watershed --version`: {version[0] * 1e3:.1f} ms CPU, {version[1] * 1e3:.1f} ms wall")


main()
