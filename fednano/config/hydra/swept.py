"""Values to sweep over: which Hydra can list, and at which of those that a sweeper chooses later jobs are checked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeperConf
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep

from fednano.config.errors import ConfigError, shown


def chosen_late(hydra: Any) -> bool:
    """Whether a sweeper other than Hydra's own chooses the values of the jobs; `hydra` is Hydra's own node."""
    return bool(hydra.sweeper._target_ != BasicSweeperConf._target_)


def searched(params: Any) -> list[str]:
    """The overrides of a sweeper's `params`; none if the sweeper writes there something else."""
    if not isinstance(params, Mapping) or not all(isinstance(value, str | int | float) for value in params.values()):
        return []
    return [f"{key}={value}" for key, value in params.items()]


def check_swept(overrides: Sequence[Override]) -> None:
    """Refuse values to sweep over that cannot be listed, or of which there are none."""
    for override in overrides:
        if not override.is_sweep_override():
            continue
        key, value = override.get_key_element(), shown(str(override.input_line).partition("=")[2])
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"{key} must be a list of values with Hydra's own sweeper, got {value}; write it as {key}=A,B or "
                f"{key}=range(FIRST,END)"
            )
        if next(override.sweep_string_iterator(), None) is None:
            raise ConfigError(f"{key} must have at least one value to sweep over, got {value}; name one")


def with_values(override: Override) -> str:
    """An override whose values are shuffled or looked up, with the values that came of it; any other one as it is."""
    word, value = str(override.input_line), override.value()
    if not override.is_sweep_override() or not (isinstance(value, Glob) or getattr(value, "shuffle", False)):
        return word
    return f"{override.get_key_element()}={','.join(override.sweep_string_iterator())}"


def trials(overrides: Sequence[Override], is_group: Callable[[str], bool]) -> list[list[str]]:
    """The overrides of jobs that a sweeper may choose: the first values, the last, and each choice of a group.

    Args:
        overrides: of the sweep, parsed.
        is_group: whether a key is a group of choices.
    """
    values = [_values(override, is_group) or [str(override.input_line)] for override in overrides]
    first, last = [held[0] for held in values], [held[-1] for held in values]
    between = [
        [*first[:number], word, *first[number + 1 :]] for number, held in enumerate(values) for word in held[1:-1]
    ]
    return [first, *([last] if last != first else []), *between]


def _values(override: Override, is_group: Callable[[str], bool]) -> list[str]:
    """An override at the ends of its values, or with every choice of a group. Empty: it has no values to sweep over."""
    if not override.is_sweep_override():
        return []
    key, value = override.get_key_element(), override.value()
    ends: list[Any] = []
    if isinstance(value, IntervalSweep):
        ends = [value.start, value.end]
    elif isinstance(value, RangeSweep):  # which may be too long to be listed
        ends = [value.start, value.stop]
    if ends:
        is_whole = all(isinstance(end, int) for end in ends)
        return [f"{key}={end if is_whole else float(end)}" for end in ends]
    listed = [f"{key}={text}" for text in override.sweep_string_iterator()]
    return listed if is_group(override.key_or_group) else [*listed[:1], *listed[1:][-1:]]
