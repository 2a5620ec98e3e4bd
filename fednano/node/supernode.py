"""Flower's SuperNode as the supervisor starts it: python -m fednano.node.supernode NAME ARGUMENTS."""

import logging
import sys
from typing import cast

from fednano.config.errors import BAD_INPUT, REFUSAL
from fednano.core.marks import mark
from fednano.core.output import tolerate_output
from fednano.flower.compat.supernode import INACTIVE, KEYLESS, NO_CONNECTION, run_supernode, stage_of
from fednano.node.one_process import in_one_process
from fednano.process.memory import keep_freed_memory

CAUSES = {
    KEYLESS: "the SuperLink accepts registered nodes only; set private_key= to the key that the run made for this node",
    INACTIVE: "the SuperLink rejects private_key=: the key is unknown, or another node uses it or did so within the "
    "last minute; give the key that the run made for this node, or stop the other node",
    "CERTIFICATE_VERIFY_FAILED": "the SuperLink's certificate is not signed by root_certificates=; give the authority "
    "file that the run printed",
}


class Heard(logging.Handler):
    """Reads from Flower's log why the connection to the SuperLink failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.mark: str | None = None  # a key of `CAUSES`

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if said.startswith(NO_CONNECTION):
            self.mark = next((mark for mark in CAUSES if mark in said), None)


class Marking(logging.Handler):
    """Writes a mark for each stage of a message that Flower's log reports."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.INFO)
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        if stage := stage_of(record.getMessage()):
            mark(stage, self._name)


def main() -> int:
    """Run until a signal comes; returns the exit code. Prints in one line why a connection was refused."""
    tolerate_output()
    keep_freed_memory()
    heard = Heard()
    logging.getLogger("flwr").addHandler(heard)
    logging.getLogger("flwr").addHandler(Marking(sys.argv.pop(1)))
    in_one_process()
    try:
        run_supernode()
    except SystemExit as ended:
        if heard.mark is None:
            return cast(int, ended.code)
        print(f"{REFUSAL}{CAUSES[heard.mark]}", file=sys.stderr)
        # The key of a restarted node counts as in use until Flower has missed the old heartbeats.
        return 1 if heard.mark == INACTIVE else BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
