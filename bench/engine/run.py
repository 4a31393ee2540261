"""Whole-process CPU of Watershed and its peers on the same graph, in turns: nothing to do, one leaf parameter, everything, and a
root whose bytes stay. Usage: run.py WATERSHED [RUNS]

A cell holds CPU milliseconds, a peer's as a multiple of ours, and the number of stages that executed. DVC, Snakemake and redun
run at N <= 100 only: beyond that a turn takes minutes.
"""
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure
import shape
import tools

SLOW = {"DVC", "Snakemake", "redun"}
GOALS = {("nothing", 10): "5", ("nothing", 100): "5.5", ("nothing", 1000): "7", ("nothing", 10_000): "25",
         ("one leaf", 1000): "10 + the stage", ("everything", 1000): "2x ninja"}


class Place:
    """A folder in which one tool has built one shape."""

    def __init__(self, tool, size, folder):
        self.tool, self.folder = tool, folder
        folder.mkdir()
        self.count = folder / "count"
        self.graph = shape.Shape(size, str(self.count))
        tool.prepare(folder)
        tool.tell(folder, self.graph)

    def run(self):
        """Returns (CPU seconds, wall seconds, stages executed) of one run."""
        self.count.unlink(missing_ok=True)
        figures = measure.once(self.tool.run, self.folder)
        executed = len(self.count.read_text().splitlines()) if self.count.exists() else 0
        return *figures, executed

    def after(self, change, turn):
        change(self.graph, turn)
        self.tool.tell(self.folder, self.graph)
        return self.run()


def medians(rows):
    return tuple(statistics.median(column) for column in zip(*rows))


def in_turns(measured, names, runs):
    rows = {name: [] for name in names}
    for turn in range(runs):
        for name in names:
            rows[name].append(measured(name, turn))
    return {name: medians(figures) for name, figures in rows.items()}


def at(size, all_tools, runs, scratch):
    """Yields (situation, tool -> medians) for one size."""
    chosen = {tool.name: tool for tool in all_tools if size <= 100 or tool.name not in SLOW}
    slow_runs = runs if size <= 10 else max(1, runs // 4)
    places = {}

    def cold(name, turn):
        places[name] = Place(chosen[name], size, scratch / f"{name}-{size}-{turn}")
        return places[name].run()

    yield "everything", in_turns(cold, chosen, 1 if size > 1000 else 3)
    for name in chosen:
        places[name].run()
    fast = [name for name in chosen if name not in SLOW]
    slow = [name for name in chosen if name in SLOW]
    situations = {
        "nothing": lambda name, turn: places[name].run(),
        "one leaf": lambda name, turn: places[name].after(shape.Shape.change_leaf, turn),
        "same bytes": lambda name, turn: places[name].after(shape.Shape.rewrite_root, turn),
    }
    for situation, measured in situations.items():
        yield situation, {**in_turns(measured, fast, runs), **in_turns(measured, slow, slow_runs)}


def cell(ours, theirs):
    if theirs is None:
        return "-"
    ratio = "" if theirs is ours else f" ({theirs[0] / ours[0]:.3g}x)"
    return f"{theirs[0] * 1e3:.1f}{ratio}, {theirs[2]:.0f}"


def print_peak(size, watershed, scratch):
    folder = scratch / f"watershed-{size}-0"
    measure.once(watershed.run, folder)
    peak = measure.peak(watershed.run, folder)
    print(f"| nothing, peak MiB | {size} | 10 at 1000 | {f'{peak:.1f}' if peak else 'no GNU time'} |")


def main():
    all_tools = tools.found(sys.argv[1])
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 11
    names = ["watershed", "ninja", "DVC", "Snakemake", "redun"]
    print("| work | N | goal | " + " | ".join(names) + " |")
    print("|---" * (3 + len(names)) + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for size in (10, 100, 1000, 10_000):
            for situation, figures in at(size, all_tools, runs, pathlib.Path(scratch)):
                ours = figures["watershed"]
                cells = [cell(ours, figures.get(name)) for name in names]
                goal = GOALS.get((situation, size), "")
                print(f"| {situation} | {size} | {goal} | " + " | ".join(cells) + " |", flush=True)
            print_peak(size, all_tools[0], pathlib.Path(scratch))
    version = statistics.median(measure.once([all_tools[0].run[0], "--version"], ".")[0] for _ in range(51))
    print(f"\n`watershed --version`: {version * 1e3:.2f} ms of CPU")


main()
