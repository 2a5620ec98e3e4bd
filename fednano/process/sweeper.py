"""The sweeper: kills what a run has left that its guards cannot reach. `Child` starts it, behind a guard.

    python -I -S sweeper.py FOLDER STARTER

It waits for SIGTERM, which its guard sends when the run has ended, however it ended. Then it kills all processes except
STARTER whose environment names a path in FOLDER, or which have a file open there: a process that changes its title may
have written over its environment. It is for programs that start processes of their own which outlive them, as Ray's do.
Only Linux shows all this; elsewhere it does nothing.
"""

import os
import select
import signal
import sys

STILL_S = 0.5  # without such a process, after which none is about to appear
PAUSE_S = 0.02


def main() -> None:
    """Wait for SIGTERM, then kill until no such process appears any more."""
    word, starter = os.fsencode(sys.argv[1]) + b"/", int(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.sigwait({signal.SIGTERM})
    still_s = 0.0
    while still_s < STILL_S:
        found = [pid for pid in _others(starter) if word in _environment(pid) or word in _open_files(pid)]
        for pid in found:
            _kill(pid)
        still_s = 0.0 if found else still_s + PAUSE_S
        select.select([], [], [], PAUSE_S)


def _others(starter: int) -> list[int]:
    try:
        listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  # as few imports as can be
    except OSError:
        return []
    return [pid for pid in listed if pid not in (os.getpid(), os.getppid(), starter)]


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""  # another user's, or gone by now


def _open_files(pid: int) -> bytes:
    """The paths of the files that a process has open, one a line."""
    folder, found = f"/proc/{pid}/fd", []
    try:
        numbers = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return b""
    for number in numbers:
        try:
            found.append(os.fsencode(os.readlink(f"{folder}/{number}")))  # noqa: PTH115
        except OSError:
            continue  # closed by now
    return b"\n".join(found)


def _kill(pid: int) -> None:
    try:  # noqa: SIM105
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


if __name__ == "__main__":
    main()
