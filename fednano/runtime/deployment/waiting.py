"""Notes on what the first round of a deployment waits for."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fednano.core.clock import wall
from fednano.process.temporary import SOCKET
from fednano.report import units
from fednano.runtime.deployment.serving import server_pid

NOTE_S = 5.0  # between two notes


class Waiting:
    """Says every few seconds which processes have started.

    Args:
        private: the folder that holds the folders of the nodes.
        local: the clients whose nodes run on this machine.
    """

    def __init__(self, private: Path, local: Sequence[str]) -> None:
        self._private = private
        self._local = local
        self._noted_at = wall()

    def tell(self, note: Callable[[str], None]) -> None:
        """Call `note` with a line, unless the last one was a moment ago."""
        if wall() - self._noted_at < NOTE_S:
            return
        self._noted_at = wall()
        server = "the ServerApp serves" if server_pid(self._private) else "the ServerApp is starting"
        started = sum((self._private / client / SOCKET).exists() for client in self._local)
        nodes = f", {started} of {units.plural(len(self._local), 'trainer')} here started" if self._local else ""
        note(f"waiting for the first round: {server}{nodes}")
