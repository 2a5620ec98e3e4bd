"""A data set: the language reference that every Python carries for `help()`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

from fednano.core.files import made_once
from fednano.core.progress import Progress
from fednano.data.dataset import keyed, root_folder
from fednano.data.manifest import MANIFEST
from fednano.data.partition import Partition
from fednano.data.shards import Corpus
from fednano.data.writer import Document, write_corpus


@dataclass(frozen=True, kw_only=True)
class Manual:
    """Paragraphs of Python's language reference. A topic's first letter is its source.

    Args:
        root: the folder that corpora are kept in.
        min_chars: shorter paragraphs are left out.
        validation_fraction: of the paragraphs, held out.
        partition: how rows are dealt to clients; only carried.
    """

    root: str
    min_chars: int
    validation_fraction: float
    partition: Partition

    def check(self) -> None:
        root_folder(self.root)

    def ensure(self, progress: Progress) -> Corpus:
        settings = {"min_chars": self.min_chars, "validation_fraction": self.validation_fraction}

        def make(partial: Path) -> None:
            write_corpus(
                partial,
                "manual",
                settings,
                self._documents(),
                origin=f"data.min_chars={self.min_chars}",
                validation_fraction=self.validation_fraction,
            )

        folder = root_folder(self.root) / keyed("manual", settings, sorted(topics))
        made_once(folder, MANIFEST, make, progress)
        return Corpus.open(folder, progress)

    def _documents(self) -> Iterator[Document]:
        for topic, text in sorted(topics.items()):
            for paragraph in text.split("\n\n"):
                if len(paragraph) >= self.min_chars:
                    yield paragraph, topic[0].lower()
