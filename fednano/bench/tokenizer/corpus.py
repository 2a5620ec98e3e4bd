"""The files that all contenders read."""

import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENCODED_BYTES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class BenchCorpus:
    """Texts, one per file. The first 10 MB of them are encoded."""

    files: list[str]
    bytes: int
    alphabet: int  # distinct bytes
    sha256: str
    encoded: list[str]
    encoded_bytes: int


def write(source: Path | None, megabytes: float, folder: Path) -> BenchCorpus:
    """Copies texts of `source`, or sources of Python, to `folder` until there are `megabytes` of them.

    Files that are empty or no UTF-8 are left out, as are copies of earlier ones. Raises ValueError if none is left.
    """
    if source is not None and not source.is_dir():
        raise ValueError(f"--texts must be a folder, got {source}; name a folder of text files")
    seen: set[bytes] = set()
    distinct: set[int] = set()
    whole = hashlib.sha256()
    files: list[str] = []
    size, encoded, encoded_bytes = 0, 0, 0
    for path in python_sources() if source is None else sorted(source.rglob("*")):
        data = _text(path)
        digest = hashlib.sha256(data).digest()
        if not data or digest in seen:
            continue
        seen.add(digest)
        file = folder / f"{len(files):06}.txt"
        file.write_bytes(data)
        files.append(str(file))
        distinct.update(data)
        whole.update(data)
        size += len(data)
        if size <= ENCODED_BYTES or not encoded:
            encoded, encoded_bytes = len(files), size
        if size >= megabytes * 1e6:
            break
    if not files:
        raise ValueError(f"--texts must hold text, got {source}; name a folder of text files in UTF-8")
    return BenchCorpus(
        files=files,
        bytes=size,
        alphabet=len(distinct),
        sha256=whole.hexdigest(),
        encoded=files[:encoded],
        encoded_bytes=encoded_bytes,
    )


def _text(path: Path) -> bytes:
    """The text of a file, empty if it is not UTF-8 or not a file."""
    try:
        data = path.read_bytes()
        data.decode()
    except (OSError, UnicodeDecodeError):
        return b""
    return data


def python_sources() -> Iterator[Path]:
    """The modules of the standard library and of installed packages, mixed, in the same order on every machine."""
    roots = [sysconfig.get_path("stdlib"), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    found = []
    for root in map(Path, dict.fromkeys(roots)):
        for path in root.rglob("*.py"):
            relative = path.relative_to(root).as_posix()
            if "site-packages" not in relative:
                found.append((hashlib.sha256(relative.encode()).digest(), str(path)))
    return (Path(path) for _, path in sorted(found))
