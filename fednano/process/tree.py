"""Signals to a process and all its descendants, across sessions. Imports nothing that is slow to import."""

import os
import signal
import subprocess
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and their descendants; parents first."""
    children = defaultdict(list)
    for child, parent in _parents():
        children[parent].append(child)
    found = [pid]
    for process in found:
        found += children[process]
    return found[1:]


def freeze(pid: int) -> list[int]:
    """SIGSTOP to all descendants of `pid`, including those started meanwhile; returns their ids."""
    frozen: list[int] = []
    while new := [process for process in descendants(pid) if process not in frozen]:
        for process in new:
            send(process, signal.SIGSTOP)
        frozen += new
    return frozen


def thaw(pid: int) -> None:
    """SIGCONT to all descendants of `pid`."""
    for process in descendants(pid):
        send(process, signal.SIGCONT)


def kill(pid: int) -> None:
    """SIGKILL to all descendants of `pid` at once, so that none can notice that another is gone."""
    for process in freeze(pid):
        send(process, signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, which may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _parents() -> list[tuple[int, int]]:
    """(process, its parent) of all processes."""
    if not PROC.joinpath("self/stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return [(int(pid), int(parent)) for pid, parent in map(str.split, listed.splitlines())]
    pairs = []
    for entry in os.listdir(PROC):  # noqa: PTH208  # names only: building a path for each would be slower
        if entry.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                # The name in the second field may contain blanks and brackets.
                rest = PROC.joinpath(entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
                if rest[0] not in "ZX":
                    pairs.append((int(entry), int(rest[1])))
    return pairs
