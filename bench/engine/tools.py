"""How each engine is told the shape, as its manual would have it, and how it is run."""
import json
import pathlib
import subprocess

import shape


class Watershed:
    name = "watershed"

    def __init__(self, program):
        self.run = [program, "run", "-q"]

    def prepare(self, folder):
        (folder / "watershed.root").touch()

    def tell(self, folder, graph: shape.Shape):
        lines = ["stages:"]
        for i in range(graph.size):
            above = graph.above(i)
            command = graph.command(i, None if above is None else "$IN_x", "$OUT_out")
            reads = "" if above is None else f"in: {{x: s{above}}}, "
            lines.append(f"  s{i}: {{use: command, {reads}with: {{shell: '{command}'}}}}")
        (folder / "watershed.yaml").write_text("\n".join(lines) + "\n")


class Ninja:
    name = "ninja"
    run = ["ninja", "--quiet"]

    def prepare(self, folder):
        pass

    def tell(self, folder, graph):
        lines = ["rule stage", "  command = $text"]
        for i, above, command in graph.commands():
            lines += [f"build s{i}: stage" + ("" if above is None else f" s{above}"), f"  text = {command}"]
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")


class Dvc:
    name = "DVC"
    run = ["dvc", "repro", "--quiet"]

    def prepare(self, folder):
        subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=folder, check=True)
        subprocess.run(["dvc", "config", "core.analytics", "false"], cwd=folder, check=True)

    def tell(self, folder, graph):
        stages = {
            f"s{i}": {"cmd": command, "outs": [f"s{i}"], **({} if above is None else {"deps": [f"s{above}"]})}
            for i, above, command in graph.commands()
        }
        (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}, indent=1))


class Snakemake:
    name = "Snakemake"
    run = ["snakemake", "--cores", "2", "--quiet", "all"]
    rules = """
import json
STAGES = json.load(open("stages.json"))
rule all:
    input: expand("s{i}", i=range(len(STAGES)))
rule stage:
    wildcard_constraints: i=r"\\d+"
    input: lambda w: [f"s{a}" for a in STAGES[int(w.i)][0]]
    output: "s{i}"
    params: text=lambda w: STAGES[int(w.i)][1]
    shell: "{params.text}"
"""

    def prepare(self, folder):
        (folder / "Snakefile").write_text(self.rules)

    def tell(self, folder, graph):
        (folder / "stages.json").write_text(stages_json(graph))


class Redun:
    name = "redun"
    run = ["redun", "run", "workflow.py", "main"]
    tasks = '''
import json, subprocess
from redun import File, task
redun_namespace = "bench"

@task()
def stage(i: int, text: str, above: list) -> File:
    subprocess.run(text, shell=True, check=True)
    return File(f"s{i}")

@task()
def main(graph: File = File("stages.json")) -> list:
    files = []
    for i, (above, text) in enumerate(json.loads(graph.read())):
        files.append(stage(i, text, [files[a] for a in above]))
    return files
'''

    def prepare(self, folder):
        (folder / "workflow.py").write_text(self.tasks)

    def tell(self, folder, graph):
        (folder / "stages.json").write_text(stages_json(graph))


def stages_json(graph):
    return json.dumps([[[] if above is None else [above], command] for _, above, command in graph.commands()])


def found(program):
    """Returns Watershed and those of the peers that are installed."""
    import shutil

    peers = [Ninja(), Dvc(), Snakemake(), Redun()]
    return [Watershed(str(pathlib.Path(program).resolve()))] + [peer for peer in peers if shutil.which(peer.run[0])]
