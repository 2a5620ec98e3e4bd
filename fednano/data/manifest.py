"""The manifest of a corpus, `manifest.json`; a folder without it is not a corpus."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fednano.core.files import read_json, write_atomically

MANIFEST = "manifest.json"
FORMAT = 1
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
        splits: tuple[Split, Split] = ("train", "validation")
        totals = {s: {"rows": self.rows(s), "text_bytes": self.text_bytes(s)} for s in splits}
        head = {"format": FORMAT, "corpus_sha256": self.sha256(), "totals": totals}
        text = json.dumps(head | dataclasses.asdict(self), indent=1, sort_keys=True)
        write_atomically(folder / MANIFEST, text + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of `folder`. Raises ValueError if it is missing, was edited, or has another format."""
        path = folder / MANIFEST
        remedy = f"delete {folder} to make it again"
        try:
            if not path.exists():
                raise ValueError(f"{path} does not exist, so {folder} is not a corpus; {remedy}")
            held = read_json(path, remedy)
            if held["format"] != FORMAT:
                raise ValueError(f"{path} must have format {FORMAT}, got {held['format']}; {remedy}")
            manifest = cls(
                name=held["name"],
                settings=held["settings"],
                files=tuple(ShardFile(**file) for file in held["files"]),
                sources={name: SourceCount(**count) for name, count in held["sources"].items()},
                source_column=held["source_column"],
                text_column=held["text_column"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read ({error!r}); {remedy}") from error
        if manifest.sha256() != held["corpus_sha256"]:
            raise ValueError(f"{path} does not match its own corpus_sha256={held['corpus_sha256']}; {remedy}")
        return manifest
