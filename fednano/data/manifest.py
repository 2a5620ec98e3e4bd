"""The manifest of a corpus, `manifest.json`; a folder without it is not a corpus."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fednano.core.files import reading, write_whole
from fednano.core.sealed import sealed, unsealed

MANIFEST = "manifest.json"
FORMAT = 2
UNSEALED = 1  # the format of earlier versions, without a checksum
Split = Literal["train", "validation"]


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One Parquet file; `name` is relative to the corpus folder, `text_bytes` counts UTF-8."""

    name: str
    split: Split
    rows: int
    text_bytes: int
    file_bytes: int
    sha256: str


@dataclass(frozen=True)
class SourceCount:
    """Size of one source's training rows."""

    rows: int
    text_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`. `source_column` is None if the whole corpus is one source."""

    name: str
    settings: dict[str, Any]
    files: tuple[ShardFile, ...]
    sources: dict[str, SourceCount]
    source_column: str | None = "source"
    text_column: str = "text"

    def of(self, split: Split) -> tuple[ShardFile, ...]:
        return tuple(file for file in self.files if file.split == split)

    def rows(self, split: Split) -> int:
        return sum(file.rows for file in self.of(split))

    def text_bytes(self, split: Split) -> int:
        return sum(file.text_bytes for file in self.of(split))

    def sha256(self) -> str:
        """Digest of the corpus's content and order; its name, place and settings do not enter."""
        lines = [f"{file.split} {file.rows} {file.sha256}\n" for file in self.files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, atomically."""
        head = {"format": FORMAT, "corpus_sha256": self.sha256(), "totals": self._totals()}
        write_whole(folder / MANIFEST, sealed(head | dataclasses.asdict(self)))

    def _totals(self) -> dict[str, dict[str, int]]:
        splits: tuple[Split, Split] = ("train", "validation")
        return {s: {"rows": self.rows(s), "text_bytes": self.text_bytes(s)} for s in splits}

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of `folder`. Raises ValueError if it is missing, was edited, or has another format.

        A manifest of an earlier version has no checksum; its totals must agree with its files.
        """
        path = folder / MANIFEST
        remedy = f"delete {folder} to make it again"
        try:
            if not path.exists():
                raise ValueError(f"{path} does not exist, so {folder} is not a corpus; {remedy}")
            with reading(path, remedy):
                data = path.read_bytes()
                held = json.loads(data)
            known = held["format"] in (FORMAT, UNSEALED)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error!r}); {remedy}") from error
        if not known:
            raise ValueError(f"{path} must have format {FORMAT}, got {held['format']}; {remedy}")
        try:
            manifest = cls._from(held if held["format"] == UNSEALED else unsealed(data))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} was changed after it was written ({error}); {remedy}") from error
        return manifest

    @classmethod
    def _from(cls, held: dict[str, Any]) -> "Manifest":
        """The manifest of a record. Raises ValueError if its figures contradict each other."""
        manifest = cls(
            name=held["name"],
            settings=held["settings"],
            files=tuple(ShardFile(**file) for file in held["files"]),
            sources={name: SourceCount(**count) for name, count in held["sources"].items()},
            source_column=held["source_column"],
            text_column=held["text_column"],
        )
        if manifest.sha256() != held["corpus_sha256"]:
            raise ValueError("it does not match its own corpus_sha256")
        if manifest._totals() != held["totals"]:
            raise ValueError("its files do not add up to its totals")
        return manifest
