"""What is compared: a strategy and overrides, written as one would on a command line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fednano.config.compose import conf_dir

# Of both parts. Four rows of 512 tokens are a step, as in the measurements that `links` compares with.
COMMON = (
    *("model=d8", "model.sequence_len=512", "tokenizer.vocab_size=5504", "batch_size=4", "optim.state=keep"),
    *("eval_tokens=512", "eval_every=1000000", "checkpoint_every=1000000"),
)


@dataclass(frozen=True)
class Contender:
    """A choice of `strategy`, and further overrides of `python -m fednano.run`."""

    strategy: str
    overrides: tuple[str, ...]

    @property
    def label(self) -> str:
        """As short as it can be said."""
        return " ".join([self.strategy, *(word.removeprefix("strategy.") for word in self.overrides)])

    @property
    def words(self) -> tuple[str, ...]:
        return (f"strategy={self.strategy}", *self.overrides)


def parsed(option: str, given: str) -> list[Contender]:
    """The contenders of an option, between commas. Raises ValueError for a strategy that does not exist."""
    found = [_contender(line) for line in given.split(",") if line.strip()]
    for contender in found:
        if contender.strategy not in strategies():
            raise ValueError(
                f"{option} must name choices of strategy, got {contender.strategy}; use some of "
                + ", ".join(sorted(strategies()))
            )
    if not found:
        raise ValueError(f"{option} must name one strategy or more, got none; leave it out for all")
    return found


def existing(lines: Iterable[str]) -> list[Contender]:
    """The contenders among `lines` whose strategy exists."""
    return [contender for contender in map(_contender, lines) if contender.strategy in strategies()]


def strategies() -> set[str]:
    """All choices of `strategy`."""
    return {path.stem for path in (conf_dir() / "strategy").glob("*.yaml")}


def combined(*parts: Sequence[str]) -> list[str]:
    """All overrides in order; of several for one key, the last."""
    by_key = {word.lstrip("+~").partition("=")[0]: word for part in parts for word in part}
    return list(by_key.values())


def _contender(line: str) -> Contender:
    strategy, *overrides = line.split()
    return Contender(strategy, tuple(overrides))
