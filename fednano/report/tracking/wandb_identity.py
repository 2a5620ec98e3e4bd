"""Which W&B run a run folder belongs to, kept in the folder so that a resumed run continues it."""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fednano.core.failures import naming

PATH = Path("wandb", "fednano.json")
DECIDED_OUTSIDE = ("WANDB_RUN_ID", "WANDB_SWEEP_ID")  # variables with which somebody else has chosen the run
# W&B's log is that of LevelDB: blocks of records, behind a few bytes of identification. A record that does not fit into
# its block goes on in the next one.
BLOCK, IDENTIFICATION, HEADER = 32768, 7, struct.Struct("<IHB")  # of a record: checksum, length, which part
WHOLE, LAST = 1, 4


@dataclass(frozen=True, kw_only=True)
class WandbIdentity:
    """The id of a W&B run, its project, and how many rows it has been given."""

    id: str
    project: str
    rows: int


def known(folder: Path, project: str) -> WandbIdentity | None:
    """The W&B run of this folder; None if there is none in this project, or if the environment decides."""
    if any(os.environ.get(variable) for variable in DECIDED_OUTSIDE):
        return None
    try:
        found = WandbIdentity(**json.loads((folder / PATH).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or a damaged one: W&B's part of the run begins anew
        return None
    return found if found.project == project else None


def rows_kept(folder: Path, identity: WandbIdentity) -> int:
    """How many rows of the run W&B has on this disk, or had until it uploaded them.

    A process that is killed takes along what W&B had not written yet. Its log is cut behind the last whole record, and
    removed if there is none, since `wandb sync` gives a run up at a log that ends within a record.
    """
    logs = list((folder / PATH.parent).glob(f"*run-*/run-{identity.id}.wandb"))
    if not logs:
        return identity.rows
    kept = 0
    for log in logs:
        with suppress(OSError):
            steps, whole = _read(log.read_bytes())
            kept = max(kept, *(step + 1 for step in steps), 0)
            if whole == IDENTIFICATION:
                shutil.rmtree(log.parent, ignore_errors=True)
            elif whole < log.stat().st_size:
                os.truncate(log, whole)
    return kept


def _read(data: bytes) -> tuple[list[int], int]:
    """The numbers of the rows in a log of W&B's, and how many of its bytes are whole records."""
    from wandb.proto.wandb_internal_pb2 import Record

    steps, whole = [], IDENTIFICATION
    for end, content in _records(data):
        record = Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            steps.append(record.history.step.num)
        whole = end
    return steps, whole


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each whole record ends, and its content."""
    at, parts = IDENTIFICATION, b""
    while at + HEADER.size <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER.size:
            at += left
            continue
        _, length, part = HEADER.unpack_from(data, at)
        at += HEADER.size + length
        if at > len(data):
            return
        parts += data[at - length : at]
        if part in (WHOLE, LAST):
            yield at, parts
            parts = b""


class IdentityFile:
    """The file of the identity, written anew after each row."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PATH
        with naming(self._path):
            self._path.parent.mkdir(exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")

    def write(self, identity: WandbIdentity) -> None:
        with naming(self._path):
            self._file.seek(0)
            self._file.write(json.dumps(asdict(identity)))  # never shorter than before
            self._file.flush()

    def close(self) -> None:
        self._file.close()
