"""Bits per byte of a byte n-gram model: what a language model has to heartbeat.

    uv run python tests/ngram.py CORPUS_FOLDER [--order 2]

Order k predicts a byte from the k before it, smoothed by interpolation with the lower orders (Witten and Bell 1991):
p(b | c) = (n(c, b) + t(c) · p(b | c′)) / (n(c) + t(c)), t(c) being the number of different bytes seen after c.
"""

import argparse
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fednano.data.shards import Corpus

Keys = npt.NDArray[np.uint64]


def joined(documents: Iterable[str], order: int) -> npt.NDArray[np.uint8]:
    """All documents as bytes, each behind `order` zeros so that no context crosses a boundary."""
    padding = bytes(order)
    return np.frombuffer(b"".join(padding + text.encode() for text in documents), dtype=np.uint8)


def keys(data: npt.NDArray[np.uint8], order: int, longest: int) -> Keys:
    """For every byte that is no padding: its `order` predecessors and itself, packed into one integer."""
    packed = np.zeros(len(data) - longest, dtype=np.uint64)
    for back in range(order, -1, -1):
        packed = (packed << np.uint64(8)) | data[longest - back : len(data) - back].astype(np.uint64)
    return packed[data[longest:] != 0]


def bits_per_byte(train: Sequence[str], held_out: Sequence[str], order: int) -> float:
    """Cross-entropy of the model of `train` on `held_out`. Texts must hold no zero byte."""
    fitted, measured = joined(train, order), joined(held_out, order)
    probability = np.full(len(keys(measured, 0, order)), 1 / 255)
    for k in range(order + 1):
        seen, counts = np.unique(keys(fitted, k, order), return_counts=True)
        contexts, first, types = np.unique(seen >> np.uint64(8), return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first)
        wanted = keys(measured, k, order)
        n = lookup(seen, counts, wanted)
        total, kinds = (lookup(contexts, values, wanted >> np.uint64(8)) for values in (totals, types))
        known = total > 0
        smoothed = (n + kinds * probability) / np.maximum(total + kinds, 1)
        probability = np.where(known, smoothed, probability)
    return float(-np.log2(probability).mean())


def lookup(sorted_keys: Keys, values: npt.NDArray[np.int64], wanted: Keys) -> npt.NDArray[np.int64]:
    """The value of each wanted key, 0 where there is none."""
    at = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return np.where(sorted_keys[at] == wanted, values[at], 0)


def texts(corpus: Corpus, split: str) -> list[str]:
    """All documents of a split, without zero bytes."""
    return [text.replace("\0", " ") for array in corpus.iter_texts(split) for text in array.to_pylist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of a prepared corpus")
    parser.add_argument("--order", type=int, default=2, choices=range(7))
    arguments = parser.parse_args()
    corpus = Corpus.open(arguments.folder)
    print(f"{bits_per_byte(texts(corpus, 'train'), texts(corpus, 'validation'), arguments.order):.4f}")


if __name__ == "__main__":
    main()
