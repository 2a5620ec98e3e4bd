"""The built-in tasks: two sets made from held-out documents. Their scores only compare runs on the same corpus."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fednano.core.randomness import generator
from fednano.tasks.base import Documents
from fednano.tasks.items import EvaluationTask, Item, LanguageModelling, LeftOut, MultipleChoice

PARAGRAPH_WORDS = range(15, 120)
SENTENCE_WORDS = range(5, 60)
CHOICES = 4
NEEDS = {
    "last_word": f"a paragraph of {PARAGRAPH_WORDS[0]} to {PARAGRAPH_WORDS[-1]} words",
    "next_sentence": f"sentences of {CHOICES} documents, two of them in a row",
}
_LAST_WORD = re.compile(r"(.*\S) ([A-Za-z]{3,})[.!?:]?")
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")


@dataclass(frozen=True)
class Builtin:
    """`last_word` and `next_sentence`, made from the held-out documents."""

    def tasks(self, documents: Documents, seed: int) -> list[EvaluationTask | LeftOut]:
        return builtin_tasks(documents(), seed)


def builtin_tasks(documents: Sequence[str], seed: int) -> list[EvaluationTask | LeftOut]:
    """`last_word` and `next_sentence` from `documents`, without examples; left out if the documents have no item."""
    paragraphs = [_paragraphs(document) for document in documents]
    makers = {"last_word": (last_words(paragraphs), 0.0), "next_sentence": (next_sentences(paragraphs, seed), 0.25)}
    return [
        EvaluationTask(label=label, items=items, shots=0, delimiter=" ", baseline=baseline)
        if items
        else LeftOut(label, f"it needs {NEEDS[label]}, which the held-out documents, {len(documents)}, do not have")
        for label, (items, baseline) in makers.items()
    ]


def last_words(paragraphs: Sequence[Sequence[str]]) -> list[Item]:
    """One item per paragraph that ends in a word of three letters or more: complete the paragraph by that word."""
    found: list[Item] = []
    for text in (text for document in paragraphs for text in document):
        parts = _LAST_WORD.fullmatch(text)
        if parts and len(text.split()) in PARAGRAPH_WORDS:
            found.append(LanguageModelling(parts[1], parts[2]))
    return found


def next_sentences(paragraphs: Sequence[Sequence[str]], seed: int) -> list[Item]:
    """One item per document with two consecutive sentences: the next sentence, among three from other documents.

    The wrong sentences and the position of the right one are drawn by (seed, document).
    """
    runs = [[_sentences(text) for text in document] for document in paragraphs]
    pools = [[sentence for run in document for sentence in run] for document in runs]
    filled = [i for i, pool in enumerate(pools) if pool]
    found: list[Item] = []
    for i, document in enumerate(runs):
        pairs = [(run[:at], run[at]) for run in document for at in range(1, len(run))]
        others = [other for other in filled if other != i]
        if not pairs or len(others) < CHOICES - 1:
            continue
        draw = generator(seed, "next_sentence", i)
        before, right = pairs[draw.integers(len(pairs))]
        chosen = draw.choice(others, CHOICES - 1, replace=False).tolist()
        wrong = [pools[other][draw.integers(len(pools[other]))] for other in chosen]
        if right in wrong:
            continue
        gold = int(draw.integers(CHOICES))
        found.append(MultipleChoice(" ".join(before), (*wrong[:gold], right, *wrong[gold:]), gold))
    return found


def _paragraphs(document: str) -> list[str]:
    """Paragraphs with single spaces; indented ones are skipped, as code or tables."""
    parts = [part for part in re.split(r"\n\s*\n", document) if part[:1].strip()]
    return [" ".join(part.split()) for part in parts]


def _sentences(paragraph: str) -> list[str]:
    """The first sentences of a paragraph, up to one that is too short, too long or does not end."""
    found: list[str] = []
    for sentence in _SENTENCE_END.split(paragraph):
        if len(sentence.split()) not in SENTENCE_WORDS or sentence[-1] not in ".!?":
            break
        found.append(sentence)
    return found
