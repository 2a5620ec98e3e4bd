"""Where time goes between processes of one machine: marks in the file that an environment variable names, if any."""

import json
import os
from pathlib import Path
from typing import Any

from fednano.core.clock import wall

VARIABLE = "FEDNANO_MARKS"


def mark(what: str, client: str, **more: int) -> None:
    """Note that something has happened now for a client, on the clock that all processes of this machine share."""
    if path := os.environ.get(VARIABLE):
        line = json.dumps({"t": wall(), "what": what, "client": client, **more})
        # A single write: lines of several processes do not mix.
        with Path(path).open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())


def read_marks(path: Path) -> list[dict[str, Any]]:
    """All marks, in the order of their times (`t`, seconds)."""
    return sorted(map(json.loads, path.read_text(encoding="utf-8").splitlines()), key=lambda noted: noted["t"])
