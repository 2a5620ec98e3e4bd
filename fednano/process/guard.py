"""The guard: a process that runs one command, which ends with whoever started the guard. `Child` is who does.

    python -I -S guard.py GRACE_S ORPHAN_S FED COMMAND …

Its standard input is a socket. The starter sends the FED bytes that the command is to read from its own standard input,
and later, where it wants the command to end, anything at all: the command has GRACE_S seconds then. Where the socket
closes, the starter is gone, and the command has ORPHAN_S seconds. The guard sends two lines: the command's process id,
and how it ended. Then it kills its process group, itself included, so that nothing in there outlives the command.

It imports next to nothing, since it stands before every start, and needs nothing that only one platform has.
"""

import os
import select
import signal
import sys

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores, and a command would too
MOST_FED = 4096  # bytes; a pipe takes as many before anybody reads
NOT_STARTED = 127  # the exit code of a shell whose command cannot be started
STARTER = 0


class Command:
    """The command's process. Signals that reach the guard are passed on to it, also those that came before it.

    Args:
        words: program and arguments.
        fed: what it reads from its standard input.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, words: list[str], fed: bytes) -> None:
        self.pid = 0  # while there is none
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
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        self.pid = 0  # from now on the number may be another process's
        return os.waitstatus_to_exitcode(status)

    def end(self, within_s: float) -> None:
        """Ask it to end, unless it has been asked, and have it killed `within_s` from now, if not earlier."""
        if within_s <= 0.0:
            self.send(signal.SIGKILL)
            return
        left_s, _ = signal.getitimer(signal.ITIMER_REAL)
        signal.signal(signal.SIGALRM, lambda *_: self.send(signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, min(left_s or within_s, within_s))
        if not left_s:
            _thaw()  # a process that is stopped could not heed it
            self.send(signal.SIGTERM)


def main() -> None:
    """Run the command, then kill the group."""
    if os.getpgrp() != os.getpid():
        sys.exit("the guard kills its process group, which has to be its own; use fednano.process.child")
    try:
        grace_s, orphan_s, fed, *words = sys.argv[1:]
        _guard(words, float(grace_s), float(orphan_s), int(fed))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os.killpg(0, signal.SIGKILL)


def _guard(words: list[str], grace_s: float, orphan_s: float, fed: int) -> None:
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # it has to wake, no more
    if (food := _received(fed)) is None:
        return
    try:
        command = Command(words, food)
    except OSError as error:
        print(f"{words[0]} cannot be started: {error.strerror}", file=sys.stderr, flush=True)
        _tell(0, NOT_STARTED)
        return
    _tell(command.pid)
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
    """Start the command; its process id."""
    reads, writes = os.pipe()
    try:
        os.write(writes, fed)
        os.close(writes)
        actions = [(os.POSIX_SPAWN_DUP2, reads, 0)]
        return os.posix_spawnp(words[0], words, os.environ, file_actions=actions, setsigdef=RESTORED)
    finally:
        os.close(reads)


def _received(size: int) -> bytes | None:
    """So many bytes from the starter; None where it is gone before."""
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
        pass  # nobody is there to be told


def _thaw() -> None:
    # Imported late, and from where this file lies: the guard starts without the paths of installed packages.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120
    from fednano.process import tree

    tree.thaw(os.getpid())


if __name__ == "__main__":
    main()
