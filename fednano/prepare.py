"""The command that prepares a corpus and its tokenizer, as a run would before it starts.

python -m fednano.prepare data=text data.path=FOLDER tokenizer=bpe_4k
"""

from fednano.core.interrupts import end_at_signals

if __name__ == "__main__":  # first, since the imports below take a while
    end_at_signals()

import sys
from collections.abc import Sequence

from fednano.config.build import build_groups, plain
from fednano.config.compose import compose_config, with_hydra_flags
from fednano.config.errors import guarded, shown
from fednano.process.surroundings import settle


def main(overrides: Sequence[str]) -> int:
    """Prepare the corpus and tokenizer that `overrides` name, and print where they are; returns the exit code."""
    cfg = compose_config(overrides, "prepare")
    from fednano.experiment.preparation import prepare_tokenizer
    from fednano.report.terminal.console import RichProgress

    for key in cfg:
        if key not in ("data", "partition", "tokenizer"):
            raise ValueError(f"{key!s}={shown(plain(cfg, str(key)))} sets a key that does not exist; remove it")
    groups = build_groups(cfg, ("data", "tokenizer"))
    groups["data"].check()
    corpus = groups["data"].ensure(RichProgress())
    tokenizer = prepare_tokenizer(groups["tokenizer"], corpus, RichProgress())
    print(f"corpus     {corpus.folder}")
    print(f"documents  {corpus.train_rows:,} to train on, {corpus.validation_rows:,} held out")
    print(f"text       {corpus.train_bytes / 1e6:,.1f} MB from {len(corpus.source_names)} sources")
    print(f"tokenizer  {tokenizer.vocab_size:,} ids, {corpus.folder / groups['tokenizer'].file_name}")
    return 0


def _command() -> int:
    settle()
    return with_hydra_flags("prepare", main)


if __name__ == "__main__":
    sys.exit(guarded(_command))
