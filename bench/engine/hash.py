"""CPU and memory of taking in one large input: a run over 2 GiB that were never seen, then after `touch`. Usage: hash.py WATERSHED [GIB]"""
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure

BLOCK = 1 << 24
SETTLED = 3  # seconds after which the times of a file are trusted


def write_large(path, gib):
    with open(path, "wb") as file:
        for _ in range(gib * (1 << 30) // BLOCK):
            file.write(os.urandom(1 << 12) * (BLOCK >> 12))


def main():
    watershed = str(pathlib.Path(sys.argv[1]).resolve())
    gib = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "watershed.root").touch()
        text = "stages:\n  s: {use: command, in: {x: ./large.bin}, with: {shell: 'echo done > $OUT_out'}}\n"
        (folder / "watershed.yaml").write_text(text)
        write_large(folder / "large.bin", gib)
        time.sleep(SETTLED)
        for situation in ("never seen", "touched", "unchanged"):
            if situation == "touched":
                os.utime(folder / "large.bin")
                time.sleep(SETTLED)
            cpu, wall = measure.once([watershed, "run", "-q"], folder)
            print(f"{situation}: {cpu:.3f} s of CPU, {wall:.3f} s wall for {gib} GiB", flush=True)
        os.utime(folder / "large.bin")
        peak = measure.peak([watershed, "run", "-q"], folder)
        print(f"peak: {peak:.1f} MiB" if peak else "peak: no GNU time")


main()
