"""What a run-*.wandb file says: a LevelDB log of protobuf records behind seven bytes of identification."""

import json
import struct
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def records_of(path: Path) -> list[Any]:
    """The protobuf records of a file."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # as at the end of the process: only then is the log surely on disk
    data, at, parts, records = path.read_bytes(), HEADER, b"", []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if at > len(data):
            break
        if kind in (1, 4):  # full, last
            record = Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def items_of(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def history_of(path: Path) -> list[dict[str, Any]]:
    """What was logged, row by row; `_step` is the number that it was logged with."""
    found = [r.history for r in records_of(path) if r.WhichOneof("record_type") == "history"]
    return [items_of(history.item) | {"_step": history.step.num} for history in found]


def runs_of(path: Path) -> list[str]:
    """The ids of the runs that the file is of."""
    return list(dict.fromkeys(r.run.run_id for r in records_of(path) if r.WhichOneof("record_type") == "run"))
