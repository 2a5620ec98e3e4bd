"""A source of made-up documents."""

from collections.abc import Sequence

import numpy as np

from fednano.data.loader import TextSource

BOS = 999


def source(lengths: Sequence[int]) -> TextSource:
    """Row r holds the ids r·100, r·100 + 1, …"""

    def encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        documents = [np.arange(lengths[int(t)]) + 100 * int(t) for t in texts]
        return np.concatenate(documents), np.cumsum([0, *map(len, documents)])

    return TextSource(lambda rows: [str(r) for r in rows], encode, BOS)
