"""Flower's SuperNode, which the supervisor starts: python -m fednano.node.supernode NAME ARGUMENTS.

What is known here of Flower's errors was found with flwr 1.41.0: look here when raising it.
"""

import logging
import sys
from typing import cast

from flwr.supercore.error import ApiErrorCode
from flwr.supercore.exit import ExitCode
from flwr.supernode.cli.flower_supernode import flower_supernode

from fednano.config.errors import BAD_INPUT, REFUSAL
from fednano.core.marks import mark
from fednano.node.one_process import in_one_process
from fednano.process.memory import keep_freed_memory

KEYLESS = f"[code: {int(ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED)}]"
INACTIVE = f"[code: {int(ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED)}]"
CAUSES = {
    KEYLESS: "the SuperLink takes registered nodes only; set private_key= to the key that the run made for this one",
    INACTIVE: "the SuperLink does not take private_key=: it does not know the key, or another node uses it, or did so "
    "within the last minute; give the key that the run made for this one, or stop the other node",
    "CERTIFICATE_VERIFY_FAILED": "the SuperLink's certificate is not signed by root_certificates=; give the file of "
    "the authority that the run has printed",
}


class Heard(logging.Handler):
    """Notes from Flower's log why the connection to the SuperLink failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.mark: str | None = None  # of `CAUSES`

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if said.startswith(f"Exit Code: {int(ExitCode.SUPERNODE_CONNECTION_ERROR)}\n"):
            self.mark = next((mark for mark in CAUSES if mark in said), None)


class Marking(logging.Handler):
    """Marks where a message is, which Flower's log tells."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.INFO)
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        word = record.getMessage().partition(" ")[0].rstrip(":")
        if word in ("Receiving", "Received", "Sending", "Sent"):
            mark(word.lower(), self._name)


def main() -> int:
    """Run until a signal comes; the exit code. Says in one line why the SuperLink is refused, or refuses."""
    keep_freed_memory()
    heard = Heard()
    logging.getLogger("flwr").addHandler(heard)
    logging.getLogger("flwr").addHandler(Marking(sys.argv.pop(1)))
    in_one_process()
    try:
        flower_supernode()
    except SystemExit as ended:
        if heard.mark is None:
            return cast(int, ended.code)
        print(f"{REFUSAL}{CAUSES[heard.mark]}", file=sys.stderr)
        # A node that is started again finds its key in use until Flower has missed its heartbeats.
        return 1 if heard.mark == INACTIVE else BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
