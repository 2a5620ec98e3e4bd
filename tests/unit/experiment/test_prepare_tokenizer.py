"""From a corpus to its tokenizer and held-out ids: the same as from its texts as Python strings."""

from itertools import accumulate

import pytest

from fednano.core.progress import Silent
from fednano.data.shards import Corpus
from fednano.data.writer import write_corpus
from fednano.experiment.preparation import Prepared, held_out, prepare_tokenizer
from fednano.tokenizer import Tokenizer
from fednano.tokenizer.train import BpeTrainer


class Bar(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.finished = False

    def start(self, what: str, total: int | None, unit: str) -> None:
        self.total = total

    def advance(self, n: int) -> None:
        self.done += n

    def finish(self) -> None:
        self.finished = True


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two shards of more than one row group each, and documents of all lengths."""
    folder = tmp_path_factory.mktemp("corpus")
    documents = ((f"Document {i} says é × {i * i}.\n" * (1 + i % 5), "source") for i in range(4000))
    return write_corpus(folder, "toy", {}, documents, origin="toy", shard_bytes=160_000)


def texts_of(corpus: Corpus, split: str) -> list[str]:
    return [text for array in corpus.iter_texts(split) for text in array.to_pylist()]  # type: ignore[arg-type]


def test_training_stops_after_the_document_that_reaches_the_limit(corpus: Corpus) -> None:
    texts = texts_of(corpus, "train")
    ends = list(accumulate(len(text.encode()) for text in texts))
    groups = list(accumulate(len(array) for array in corpus.iter_texts("train")))
    assert len(groups) > 3
    edge = ends[groups[0] - 1]
    for limit in (1, ends[0], ends[0] + 1, edge - 1, edge, edge + 1, 150_000, ends[-1] - 1, ends[-1], ends[-1] + 1):
        rows = next((at for at, end in enumerate(ends, 1) if end >= limit), len(texts))
        bar = Bar()
        for path in corpus.folder.glob("bpe-*"):
            path.unlink()
        with pytest.warns(UserWarning, match="is not reached"):
            found = prepare_tokenizer(BpeTrainer(vocab_size=5000, train_bytes=limit), corpus, bar)
        with pytest.warns(UserWarning, match="is not reached"):
            expected = Tokenizer.train(texts[:rows], 5000)
        assert found.sha256 == expected.sha256, limit
        assert (bar.total, bar.done, bar.finished) == (min(limit, ends[-1]), ends[rows - 1], True)


def test_held_out_documents_are_those_of_the_texts(corpus: Corpus) -> None:
    tokenizer = Tokenizer([[97, 98], [195, 169]])
    expected = [[tokenizer.bos_id, *tokenizer.encode(text).tolist()] for text in texts_of(corpus, "validation")]
    assert [document.tolist() for document in held_out(Prepared(corpus, tokenizer))] == expected
