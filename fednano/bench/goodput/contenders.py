"""What is compared: a strategy and overrides, written as one would on a command line."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fednano.config.compose import compose_config, conf_dir

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
        """As short as it can be said: without the groups of the keys that set how rounds go."""
        short = (word.removeprefix("strategy.").removeprefix("round.") for word in self.overrides)
        return " ".join([self.strategy, *short])

    @property
    def words(self) -> tuple[str, ...]:
        return (f"strategy={self.strategy}", *self.overrides)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Put the contender in front of what a ValueError says."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.label}: {error}") from error


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


def every(local_steps: int, *parts: Sequence[str]) -> str:
    """The override by which clients synchronise the whole model every `local_steps` steps, given all other overrides.

    A strategy whose rounds are of one of P fragments each has P rounds in them.
    """
    stream = compose_config(combined(*parts)).strategy.get("stream") or {}
    return f"strategy.local_steps={max(1, local_steps // stream.get('fragments', 1))}"


def combined(*parts: Sequence[str]) -> list[str]:
    """All overrides in order; of several for one key, the last."""
    by_key = {word.lstrip("+~").partition("=")[0]: word for part in parts for word in part}
    return list(by_key.values())


def _contender(line: str) -> Contender:
    strategy, *overrides = line.split()
    return Contender(strategy, tuple(overrides))
