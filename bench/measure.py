"""Whole-process figures of commands, run in turns: CPU seconds (user + system), wall seconds, peak memory.

Machines are shared and noisy, so figures are medians of CPU time and comparisons are ratios taken in one run.
"""
import os
import statistics
import time


def once(argv, cwd, env=None):
    """Runs a command and returns (cpu seconds, wall seconds, peak MiB); its output is thrown away."""
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.chdir(cwd)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            os.execvpe(argv[0], argv, {**os.environ, **(env or {})})
        finally:
            os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise SystemExit(f"{argv} ended with status {status}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begun, usage.ru_maxrss / 1024


def in_turns(commands, runs):
    """Runs named commands A B A B …; returns name -> median (cpu, wall, MiB)."""
    figures = {name: [] for name in commands}
    for name, (argv, cwd) in commands.items():
        once(argv, cwd)
    for _ in range(runs):
        for name, (argv, cwd) in commands.items():
            figures[name].append(once(argv, cwd))
    return {name: tuple(statistics.median(f[i] for f in rows) for i in range(3)) for name, rows in figures.items()}
