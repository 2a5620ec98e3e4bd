"""Children that end with their parent, also where it is killed: they watch a pipe whose other end it alone holds."""

import os
import signal
from threading import Thread

from fednano.core.clock import pause

VARIABLE = "FEDNANO_LIFELINE"
GRACE_S = 5.0


class Lifeline:
    """The parent's end. It closes with this process, however that ends."""

    def __init__(self) -> None:
        self.descriptor, self._held = os.pipe()  # the child's end, and one that no child inherits

    def environment(self) -> dict[str, str]:
        """What a child that is given `descriptor` needs in its environment for `watch`."""
        return {VARIABLE: str(self.descriptor)}

    def close(self) -> None:
        """Let go of the children that still run."""
        os.close(self._held)
        os.close(self.descriptor)


def watch() -> None:
    """End this process with the parent that gave it a lifeline: by SIGTERM, and after some seconds at once."""
    descriptor = os.environ.pop(VARIABLE, None)
    if descriptor is not None:
        Thread(target=_watch, args=(int(descriptor),), name="fednano-lifeline", daemon=True).start()


def _watch(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    pause(GRACE_S)
    os._exit(1)
