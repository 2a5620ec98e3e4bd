"""The guard: a process that runs one command, and ends it when the guard's starter ends. `Child` starts guards.

    python -I -S guard.py GRACE_S ORPHAN_S FED COMMAND …

Its standard input is a socket. The starter sends the FED bytes that the command reads from its own standard input. To
end the command, the starter later sends anything at all: the command then has GRACE_S seconds. If the socket closes,
the starter is gone, and the command has ORPHAN_S seconds. The guard sends two lines: the command's process id, and its
exit code. Then it kills its process group, including itself, so that nothing in the group outlives the command. On
Linux it also kills all other descendants of the command, in whatever group or session: while the guard lives, a
process whose parent has ended becomes the guard's child.

It imports next to nothing, since every start of a command waits for it, and it is portable.
"""

import os
import select
import signal
import sys
from types import ModuleType

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores these, and the command would inherit that
MOST_FED = 4096  # bytes; a pipe holds as many before anything reads from it
NOT_STARTED = 127  # a shell's exit code for a command that cannot be started
STARTER = 0
PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h


class GuardedCommand:
    """The command's process. Signals to the guard are passed on to it, even those from before it started.

    Args:
        words: program and arguments.
        fed: what the command reads from its standard input.

    Raises:
        OSError: the command cannot be started.
    """

    def __init__(self, words: list[str], fed: bytes) -> None:
        self.pid = 0  # 0: there is no process
        self._early: list[int] = []
        for passed in PASSED_ON:
            if signal.getsignal(passed) != signal.SIG_IGN:
                signal.signal(passed, lambda number, _: self.send(number))
        self.pid = _spawned(words, fed)
        for number in self._early:
            self.send(number)

    def send(self, number: int) -> None:
        if self.pid:
            os.kill(self.pid, number)
        else:
            self._early.append(number)

    def ended(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)  # also of orphans
            if not pid:
                return None
            if pid == self.pid:
                self.pid = 0  # from now on, the id may belong to another process
                return os.waitstatus_to_exitcode(status)

    def end(self, within_s: float) -> None:
        """Ask it to end, unless it was asked before, and kill it after `within_s` seconds at the latest."""
        if within_s <= 0.0:
            self.send(signal.SIGKILL)
            return
        left_s, _ = signal.getitimer(signal.ITIMER_REAL)
        signal.signal(signal.SIGALRM, lambda *_: self.send(signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, min(left_s or within_s, within_s))
        if not left_s:
            _tree().thaw(os.getpid())  # a stopped process could not react
            self.send(signal.SIGTERM)


def main() -> None:
    """Run the command, then kill the group."""
    if os.getpgrp() != os.getpid():
        sys.exit("the guard must lead a process group of its own, since it kills the group; use fednano.process.child")
    try:
        grace_s, orphan_s, fed, *words = sys.argv[1:]
        _guard(words, float(grace_s), float(orphan_s), int(fed))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os.killpg(0, signal.SIGKILL)


def _guard(words: list[str], grace_s: float, orphan_s: float, fed: int) -> None:
    _adopt_orphans()
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # it only has to wake `select`
    if (food := _received(fed)) is None:
        return
    try:
        command = GuardedCommand(words, food)
    except OSError as error:
        remedy = "; raise ulimit -u" if isinstance(error, BlockingIOError) else ""
        print(f"{words[0]} cannot be started: {error.strerror}{remedy}", file=sys.stderr, flush=True)
        _tell(0, NOT_STARTED)
        return
    try:
        _tell(command.pid)
        _await(command, wakes, grace_s, orphan_s)
    finally:
        _tree().kill(os.getpid())


def _await(command: GuardedCommand, wakes: int, grace_s: float, orphan_s: float) -> None:
    """Wait until the command ends, and end it when its starter says so or is gone."""
    watched = [wakes, STARTER]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if wakes in ready:
            os.read(wakes, 4096)
            if (code := command.ended()) is not None:
                _tell(code)
                return
        if STARTER in ready:
            if _read(64):
                command.end(grace_s)
            else:
                watched.remove(STARTER)
                command.end(orphan_s)


def _spawned(words: list[str], fed: bytes) -> int:
    """Start the command; returns its process id."""
    reads, writes = os.pipe()
    try:
        os.write(writes, fed)
        os.close(writes)
        actions = [(os.POSIX_SPAWN_DUP2, reads, 0)]
        return os.posix_spawnp(words[0], words, os.environ, file_actions=actions, setsigdef=RESTORED)
    finally:
        os.close(reads)


def _received(size: int) -> bytes | None:
    """`size` bytes from the starter; None if it is gone before."""
    received = b""
    while len(received) < size:
        if not (more := _read(size - len(received))):
            return None
        received += more
    return received


def _read(size: int) -> bytes:
    try:
        return os.read(STARTER, size)
    except ConnectionError:
        return b""


def _tell(*numbers: int) -> None:
    try:  # noqa: SIM105  # contextlib would be one more import
        os.write(STARTER, b"".join(b"%d\n" % number for number in numbers))
    except ConnectionError:
        pass  # the starter is gone


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _tree() -> ModuleType:
    # Imported late and from this file's own tree: the guard starts without the paths of installed packages.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120
    from fednano.process import tree

    return tree


if __name__ == "__main__":
    main()
