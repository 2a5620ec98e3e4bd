"""Which W&B run a run folder belongs to, kept in the folder so that a resumed run continues it."""

import json
import os
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

    A process that is killed takes along what W&B had not written yet.
    """
    logs = list((folder / PATH.parent).glob(f"*run-*/run-{identity.id}.wandb"))
    if not logs:
        return identity.rows
    return max((step + 1 for log in logs for step in _steps(log)), default=0)


def _steps(log: Path) -> Iterator[int]:
    """The numbers of the rows in a log of W&B's, as far as it is whole."""
    from wandb.proto.wandb_internal_pb2 import Record

    with suppress(OSError, struct.error):
        for content in _records(log.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "history":
                yield record.history.step.num


def _records(data: bytes) -> Iterator[bytes]:
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
            yield parts
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
