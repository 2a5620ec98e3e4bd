"""Time marks of processes on one machine, written to the file named by an environment variable, if it is set."""

import json
import os
from pathlib import Path
from typing import Any

from fednano.core.clock import wall

VARIABLE = "FEDNANO_MARKS"


def mark(what: str, client: str, **more: int) -> None:
    """Record that something happened now for a client, on the clock shared by all processes of this machine."""
    if path := os.environ.get(VARIABLE):
        line = json.dumps({"t": wall(), "what": what, "client": client, **more})
        # A single write, so that lines of several processes do not mix.
        with Path(path).open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())


def read_marks(path: Path) -> list[dict[str, Any]]:
    """All marks, in the order of their times (`t`, seconds)."""
    return sorted(map(json.loads, path.read_text(encoding="utf-8").splitlines()), key=lambda noted: noted["t"])
