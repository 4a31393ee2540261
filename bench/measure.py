"""Whole-process figures of commands: CPU seconds (user + system), wall seconds, peak memory.

Machines are shared and noisy, so callers take medians of CPU time, and ratios within one run.
"""
import os
import shutil
import subprocess
import time


def once(argv, cwd, fine=(0,)):
    """Runs a command and returns (cpu seconds, wall seconds); its output is thrown away.

    The child is spawned, not forked: a fork copies this process's page tables at the child's expense.
    """
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    begun = time.monotonic()
    os.chdir(cwd)
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=null)
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) not in fine:
        raise SystemExit(f"{argv} in {cwd} ended with status {status}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begun


def peak(argv, cwd):
    """Returns the peak memory of a command in MiB, or None without GNU time: a child of this process counts our pages as its own."""
    if not shutil.which("time"):
        return None
    done = subprocess.run(["time", "-f", "%M", *argv], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return int(done.stderr.split()[-1]) / 1024
