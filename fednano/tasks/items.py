"""Items of in-context tasks, of the three kinds of DCLM's CORE, and the texts that a model judges.

Source: Li et al. 2024 (DataComp-LM), section 3.5 and appendix G.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fednano.core.randomness import generator

JOIN = "\n\n"  # between examples


@dataclass(frozen=True)
class ItemTexts:
    """The complete texts of one item; `gold` is the index of the right one.

    `stem` is the text without its continuation if the model must write that itself, else None.
    """

    complete: tuple[str, ...]
    gold: int
    stem: str | None = None


@dataclass(frozen=True)
class MultipleChoice:
    """One context with several continuations."""

    query: str
    choices: tuple[str, ...]
    gold: int

    def example(self, delimiter: str) -> str:
        return f"{self.query}{delimiter}{self.choices[self.gold]}"

    def texts(self, before: str, delimiter: str) -> ItemTexts:
        return ItemTexts(tuple(f"{before}{self.query}{delimiter}{choice}" for choice in self.choices), self.gold)


@dataclass(frozen=True)
class Schema:
    """Several contexts with one continuation."""

    context_options: tuple[str, ...]
    gold: int
    continuation: str

    def example(self, delimiter: str) -> str:
        return f"{self.context_options[self.gold]}{delimiter}{self.continuation}"

    def texts(self, before: str, delimiter: str) -> ItemTexts:
        options = self.context_options
        return ItemTexts(tuple(f"{before}{option}{delimiter}{self.continuation}" for option in options), self.gold)


@dataclass(frozen=True)
class LanguageModelling:
    """One context; the model must write its continuation word for word."""

    context: str
    continuation: str

    def example(self, delimiter: str) -> str:
        return f"{self.context.strip()}{delimiter}{self.continuation}"

    def texts(self, before: str, delimiter: str) -> ItemTexts:
        # Blanks at the end of the stem would be separate tokens, which the complete text does not have.
        stem = f"{before}{self.context.strip()}{delimiter}".rstrip()
        return ItemTexts((f"{before}{self.example(delimiter)}",), 0, stem)


Item = MultipleChoice | Schema | LanguageModelling


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """Items of one kind.

    Args:
        label: name of the task.
        items: at least one.
        shots: number of examples before each item.
        delimiter: between a context and its continuation.
        baseline: accuracy of guessing, 0 … 1.

    Raises:
        ValueError: too few items for the shots, or a baseline that leaves nothing to gain.
    """

    label: str
    items: Sequence[Item]
    shots: int
    delimiter: str
    baseline: float

    def __post_init__(self) -> None:
        if not 0 <= self.shots < len(self.items):
            raise ValueError(
                f"num_fewshot of task {self.label} must be >= 0 and < {len(self.items)}, its number of items, got "
                f"{self.shots}; lower num_fewshot"
            )
        if not 0 <= self.baseline < 1:
            raise ValueError(f"the baseline of task {self.label} must be >= 0 and < 1, got {self.baseline}; correct it")

    def texts(self, index: int, seed: int) -> ItemTexts:
        """Item `index` after its examples, which are drawn from all others by (seed, label, index)."""
        others = generator(seed, "few-shot", self.label, index).choice(len(self.items) - 1, self.shots, replace=False)
        examples = [self.items[other + (other >= index)].example(self.delimiter) for other in others.tolist()]
        return self.items[index].texts("".join(example + JOIN for example in examples), self.delimiter)

    def chosen(self, most: int, seed: int) -> list[int]:
        """The indices of all items, or of `most` items drawn by (seed, label)."""
        if len(self.items) <= most:
            return list(range(len(self.items)))
        drawn = generator(seed, "items", self.label).choice(len(self.items), most, replace=False)
        found: list[int] = sorted(drawn.tolist())
        return found

    def centred(self, accuracy: float) -> float:
        """Accuracy rescaled: 0 for guessing, 1 if all are right."""
        return (accuracy - self.baseline) / (1 - self.baseline)
