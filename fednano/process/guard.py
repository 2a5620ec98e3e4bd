"""Runs a command that ends with whoever started it: python -m fednano.process.guard GRACE_S COMMAND …

The starter holds the guard's standard input open. When that closes, by intention or because the starter was killed, the
command is asked to end, and killed GRACE_S seconds later. Needs nothing of the platform, and imports nothing slow.
"""

import os
import signal
import subprocess
import sys
import threading

from fednano.process import tree


def main() -> int:
    """Run the command; its exit code. Where a signal ended it, the same one ends the guard."""
    grace_s, *command = sys.argv[1:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # Whoever ends the group means the command; the guard ends behind it.
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_end_with_starter, args=(child, float(grace_s)), daemon=True).start()
    code = child.wait()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _end_with_starter(child: subprocess.Popen[bytes], grace_s: float) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    tree.thaw(os.getpid())  # a process that is stopped could not heed it
    child.terminate()
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(main())
