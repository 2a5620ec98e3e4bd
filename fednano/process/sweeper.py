"""The sweeper: kills what a run has left that its guards cannot reach. `Child` starts it, behind a guard.

    python -I -S sweeper.py WORD

It waits for SIGTERM, which its guard sends when the run has ended, however it ended. Then it kills all processes of
this user whose environment holds WORD, except those that it descends from. It is for programs that start processes of
their own which outlive them, as Ray's do. Only Linux shows the environment; elsewhere it does nothing.
"""

import os
import select
import signal
import sys

STILL_S = 0.5  # without such a process, after which none is about to appear
PAUSE_S = 0.02


def main() -> None:
    """Wait for SIGTERM, then kill until no such process appears any more."""
    word = os.fsencode(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.sigwait({signal.SIGTERM})
    still_s = 0.0
    while still_s < STILL_S:
        found = [pid for pid in _others() if word in _environment(pid)]
        for pid in found:
            _kill(pid)
        still_s = 0.0 if found else still_s + PAUSE_S
        select.select([], [], [], PAUSE_S)


def _others() -> list[int]:
    try:
        listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  # as few imports as can be
    except OSError:
        return []
    return [pid for pid in listed if pid not in (os.getpid(), os.getppid())]


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""  # another user's, or gone by now


def _kill(pid: int) -> None:
    try:  # noqa: SIM105
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


if __name__ == "__main__":
    main()
