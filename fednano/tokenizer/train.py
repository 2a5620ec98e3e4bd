"""The tokenizer's trainer, a `tokenizer` choice: settings that become a tokenizer once there is a corpus."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fednano.tokenizer.bpe import Tokenizer, TrainingProgress
from fednano.tokenizer.formats import OutdatedError
from fednano.tokenizer.settings import SPECIAL_TOKENS, Ties, check_settings, checked_specials
from fednano.tokenizer.texts import TextInput


@dataclass(frozen=True, kw_only=True)
class BpeTrainer:
    """Trains byte-level BPE.

    Args:
        vocab_size: number of ids, those of the 256 bytes and of the special tokens included.
        pattern: how text is split before merging: gpt4, cl100k or gpt2.
        special_tokens: tokens that text never turns into; <|bos|>, which begins each document, must be among them.
        train_bytes: most bytes of the corpus to learn from, counted from its start.
        ties: which of two equally frequent pairs is merged first, by their bytes or as Hugging Face's tokenizers do.

    Raises:
        ValueError: settings that no training can satisfy.
    """

    vocab_size: int
    pattern: str = "gpt4"
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    train_bytes: int = 1_000_000_000
    ties: Ties = "bytes"

    def __post_init__(self) -> None:
        # A list from YAML arrives as Hydra's own type of list.
        object.__setattr__(self, "special_tokens", checked_specials(self.special_tokens))
        if self.train_bytes < 1:
            raise ValueError(f"tokenizer.train_bytes must be >= 1, got {self.train_bytes}; use 1 or more")
        check_settings(self.vocab_size, self.pattern, self.special_tokens, self.ties)

    @property
    def file_name(self) -> str:
        """The file name, which contains the settings, so that tokenizers of different settings do not collide."""
        specials = hashlib.sha256("\n".join(self.special_tokens).encode()).hexdigest()[:8]
        ties = "" if self.ties == "bytes" else f"-{self.ties}"
        return f"bpe-{self.pattern}-{self.vocab_size}-{specials}{ties}.json"

    def ensure(
        self,
        folder: Path,
        corpus_sha256: str,
        texts: Callable[[], TextInput],
        progress: TrainingProgress | None = None,
    ) -> Tokenizer:
        """The tokenizer of these settings and this corpus: loaded from `folder`, or trained and saved there.

        `texts` is called only for training. A file of an earlier release is replaced. Raises ValueError, which names
        the file, if the file in `folder` is damaged.
        """
        path = folder / self.file_name
        meta = {"corpus_sha256": corpus_sha256, "train_bytes": self.train_bytes}
        if path.exists():
            try:
                known = Tokenizer.load(path)
            except OutdatedError:
                known = None
            identity = (meta, self.pattern, self.special_tokens)
            if known and (known.meta, known.pattern, known.special_tokens) == identity:
                return known
        tokenizer = Tokenizer.train(
            texts(),
            self.vocab_size,
            pattern=self.pattern,
            special_tokens=self.special_tokens,
            ties=self.ties,
            progress=progress,
            meta=meta,
        )
        tokenizer.save(path)
        return tokenizer
