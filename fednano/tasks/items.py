"""Items of in-context tasks, of the three kinds of DCLM's CORE, and the texts that a model judges.

Source: Li et al. 2024 (DataComp-LM), section 3.5 and appendix G.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


class TooFewItemsError(ValueError):
    """A task has too few items to be scored; `label` names it."""

    def __init__(self, label: str, text: str) -> None:
        super().__init__(text)
        self.label = label


@dataclass(frozen=True)
class LeftOut:
    """A task that cannot be scored, and why; it stands in its place among the others."""

    label: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """Items of one kind.

    Args:
        label: name of the task.
        items: at least one.
        shots: number of examples before each item.
        delimiter: between a context and its continuation.
        baseline: accuracy of guessing, 0 … 1.
        variant: how many tasks before this one have the same items and other shots.

    Raises:
        TooFewItemsError: no items, or too few for the shots.
        ValueError: a baseline that leaves nothing to gain.
    """

    label: str
    items: Sequence[Item]
    shots: int
    delimiter: str
    baseline: float
    variant: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.shots < len(self.items):
            raise TooFewItemsError(
                self.label,
                f"num_fewshot of task {self.label} must be >= 0 and < {len(self.items)}, its number of items, got "
                f"{self.shots}; lower num_fewshot",
            )
        if not 0 <= self.baseline < 1:
            raise ValueError(f"the baseline of task {self.label} must be >= 0 and < 1, got {self.baseline}; correct it")

    def texts(self, index: int, examples: Sequence[int]) -> ItemTexts:
        """Item `index` after the items `examples`, both given by their indices."""
        before = "".join(self.items[example].example(self.delimiter) + JOIN for example in examples)
        return self.items[index].texts(before, self.delimiter)

    def centred(self, accuracy: float) -> float:
        """Accuracy rescaled: 0 for guessing, 1 if all are right."""
        return (accuracy - self.baseline) / (1 - self.baseline)
