"""The graph that every engine gets: shell stages in layers of ten, each reading one stage of the layer above."""
import dataclasses


@dataclasses.dataclass
class Shape:
    """`size` stages; each notes its execution in `count`, so that executions are counted alike for every engine."""

    size: int
    count: str
    leaf: str = ""
    root: str = ""

    def above(self, i):
        """Returns the stage that stage `i` reads, or None."""
        return i - 10 if i >= 10 else None

    def command(self, i, source, target):
        """Returns the shell command of stage `i`, which reads the file `source` and writes `target`."""
        said = f"{i}{self.root if i == 0 else ''}{self.leaf if i == self.size - 1 else ''}"
        note = f"echo {i} >> {self.count}"
        return f"{note}; (cat {source}; echo {said}) > {target}" if source else f"{note}; echo {said} > {target}"

    def commands(self):
        """Returns what a build in one folder needs: (i, the stage above or None, command) with files named s0, s1, …"""
        for i in range(self.size):
            above = self.above(i)
            yield i, above, self.command(i, None if above is None else f"s{above}", f"s{i}")

    def change_leaf(self, turn):
        """Changes one parameter of the last stage."""
        self.leaf = f" {turn}"

    def rewrite_root(self, turn):
        """Changes the text of the first stage and not a byte of what it writes."""
        self.root = " " * (turn + 1)
