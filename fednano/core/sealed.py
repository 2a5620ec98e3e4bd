"""Checksums of JSON records and manifests of folders, which give away a flipped bit, a lost and a torn file."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fednano.core.files import sha256_of, write_whole

MANIFEST = "manifest.json"


def sealed(record: Mapping[str, Any]) -> bytes:
    """`record`, which is not empty, as JSON. The first key is "checksum": the SHA-256 of all bytes after its comma."""
    rest = json.dumps(record, indent=1, sort_keys=True).encode()[1:] + b"\n"
    return _opening(rest) + rest


def unsealed(data: bytes) -> dict[str, Any]:
    """The inverse of `sealed`. Raises ValueError if a byte has changed."""
    start = len(_opening(b""))
    if data[:start] != _opening(data[start:]):
        raise ValueError("its checksum does not match its content")
    record: dict[str, Any] = json.loads(data)
    del record["checksum"]
    return record


def _opening(rest: bytes) -> bytes:
    return b'{\n "checksum": "%s",' % hashlib.sha256(rest).hexdigest().encode()


def seal(folder: Path) -> None:
    """Write a manifest into `folder`: size and SHA-256 of every file in it and its sub-folders, except hidden ones."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    write_whole(folder / MANIFEST, sealed({"files": files}))


def check_seal(folder: Path) -> list[str]:
    """Read all files of a sealed folder; returns their names, relative to it, except that of the manifest.

    Files that the manifest does not name are ignored. Raises ValueError, which names the file, for the first that is
    missing or has changed.
    """
    try:
        files = unsealed((folder / MANIFEST).read_bytes())["files"]
    except FileNotFoundError:
        raise ValueError(f"{MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{MANIFEST} has changed: {error}") from error
    for name, expected in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected["bytes"]:
                raise ValueError(f"{name} has {size} bytes instead of {expected['bytes']}")
            if sha256_of(path) != expected["sha256"]:
                raise ValueError(f"{name} has changed: its SHA-256 is not that in {MANIFEST}")
        except FileNotFoundError:
            raise ValueError(f"{name} is missing") from None
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error.strerror}") from error
    return list(files)
