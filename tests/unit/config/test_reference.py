"""The reference of configuration keys: read from YAML comments, signatures and docstrings."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from support.paths import CONF

from fednano.config.checks import check_value, settings_of
from fednano.config.reference.explained import explained
from fednano.config.reference.keys import ChoiceReference, choice_of, groups_of, limits_of, root_keys
from fednano.config.reference.written import WrittenValue, read_choice
from fednano.config.targets import imported
from fednano.core.ranges import Range
from fednano.runtime.parts import RunSettings

GROUPS = groups_of(CONF)
_LABEL = re.compile(r"(?:^|[;.] )(\w+): ")


@dataclass(frozen=True, kw_only=True)
class Base:
    """What has a size.

    Args:
        size: in metres,
            from end to end.
    """

    size: float


@dataclass(frozen=True, kw_only=True)
class Boat(Base):
    """Floats.

    Args:
        crew: see `Seats`.
        guests: see `Seats`.
        size: in feet.

    Raises:
        ValueError: it sinks.
    """

    crew: int
    guests: int


@dataclass
class Seats:
    """Where people sit.

    Args:
        crew: who works.
        guests: who does not.
    """

    crew: int
    guests: int


@pytest.fixture(scope="module")
def choices() -> list[ChoiceReference]:
    return [choice_of([CONF], group, name) for group, names in GROUPS.items() for name in names]


def test_every_key_says_what_it_means(choices: list[ChoiceReference]) -> None:
    """A key without a meaning needs a comment in its YAML file, or a line in the `Args:` of its class."""
    keys = [(choice.group, choice.name, key) for choice in choices for key in choice.keys]
    assert len(keys) > 500
    assert [f"{group}={name}: {key.name}" for group, name, key in keys if len(key.meaning) < 8] == []
    own = [each for each in keys if not each[0].startswith("hydra/")]  # a plug-in's class is of its package
    assert [f"{group}={name}: {key.name}" for group, name, key in own if not key.kind] == []


def test_every_choice_says_what_it_is(choices: list[ChoiceReference]) -> None:
    assert [f"{choice.group}={choice.name}" for choice in choices if len(choice.summary) < 20] == []


@pytest.mark.parametrize("file", ["config", "evaluate", "node", "prepare", "sample"])
def test_every_key_outside_the_groups_says_what_it_means(file: str) -> None:
    keys = root_keys(read_choice(CONF / f"{file}.yaml"), {}, explained(RunSettings))
    assert [key.name for key in keys if not key.meaning] == []


def test_docstrings_describe_settings_that_exist(choices: list[ChoiceReference]) -> None:
    for target, group in {choice.target: choice.group for choice in choices if choice.target}.items():
        cls = imported(target, group)
        assert set(explained(cls)) <= set(settings_of(cls, target, group)[0].parameters), target


def test_a_choice_has_the_keys_of_its_file_and_of_its_class() -> None:
    keys = {key.name: key for key in choice_of([CONF], "hardware", "cuda").keys}
    assert keys["hardware.compile"].default == "true"
    assert (keys["hardware.workers"].default, keys["hardware.workers"].kind) == (None, "a whole number")
    assert keys["hardware.dtype"].kind == "auto, float32 or bfloat16"
    assert "hardware._target_" not in keys


def test_a_choice_shows_what_it_takes_over_and_what_it_chooses_elsewhere() -> None:
    choice = choice_of([CONF], "strategy", "dp_fedavg")
    keys = {key.name: key for key in choice.keys}
    assert choice.begins_with == "fedavg"
    assert choice.others == {"guard": WrittenValue("none", "since updates are clipped anyway")}
    assert (keys["strategy.dp"].default, keys["strategy.dp"].part_of) == ("gaussian", "strategy/dp")
    assert keys["strategy.dp"].meaning == "client-level differential privacy"
    assert keys["strategy.slack"].default == "1.5"
    assert [key.name for key in choice.keys].count("strategy.outer") == 1


def test_a_choice_that_is_nothing_has_no_keys() -> None:
    assert choice_of([CONF], "strategy/dp", "none").keys == ()


def test_nested_classes_have_their_keys_too() -> None:
    keys = {key.name: key for key in choice_of([CONF], "optim", "nanochat").keys}
    assert keys["optim.schedule.warmdown"].default == "0.65"
    assert keys["optim.schedule.warmdown"].kind == "a number"
    assert "optim.schedule" not in keys


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "# A choice\n# of one's own.\n# Code: mine/own.py\n"
        "defaults:\n  - parent\n  - part: one # what it is for\n  - override /codec@_global_.codec: topk # as it is\n"
        "  - /volatility@parts.power: solar\n  - _self_\n\n"
        "rate: 1.0e-5 # of learning # steps\n# list: of two,\n# no more\nlist:\n  - a\n  - b # not this\n"
        "inner: # all of it\n  deep: [1, 2.50] # numbers\nlink: 'a # b'\nhydra:\n  run: 1\n"
    )
    read = read_choice(tmp_path / "own.yaml")
    assert read.summary == "A choice of one's own."
    assert read.parents == ["parent"]
    assert read.parts == {"part": WrittenValue("one", "what it is for")}
    assert read.others == {
        "codec": WrittenValue("topk", "as it is"),
        "volatility@parts.power": WrittenValue("solar", ""),
    }
    assert read.keys == {
        "rate": WrittenValue("1.0e-5", "of learning # steps"),
        "list": WrittenValue("[a, b]", "of two, no more"),
        "inner.deep": WrittenValue("[1, 2.50]", "numbers"),
        "inner": WrittenValue("", "all of it"),
        "link": WrittenValue("'a # b'", ""),
    }


def test_docstrings_are_read_from_bases_and_from_classes_they_name() -> None:
    assert explained(Base) == {"size": "in metres, from end to end."}
    assert explained(Boat) == {"size": "in feet.", "crew": "who works.", "guests": "who does not."}


@pytest.mark.parametrize(
    ("hint", "limits"),
    [
        (float, ""),
        (Annotated[float, Range(gt=0, le=1)], "> 0, ≤ 1"),
        (Annotated[int, Range(ge=1, le=100_000)] | None, "≥ 1, ≤ 100,000"),
        (list[Annotated[float, Range(ge=0, le=math.inf)]], "≥ 0"),
        (str | None, ""),
    ],
)
def test_limits_are_those_of_the_annotation(hint: object, limits: str) -> None:
    assert limits_of(hint) == limits


def test_a_docstring_and_the_comment_of_a_file_say_nothing_twice(choices: list[ChoiceReference]) -> None:
    """A label such as `null:` stands once in the meaning that joins both."""
    labels = [(key.name, _LABEL.findall(key.meaning)) for choice in choices for key in choice.keys]
    assert [(name, found) for name, found in labels if len(set(found)) < len(found)] == []


@pytest.mark.parametrize(
    ("hint", "value", "remedy"),
    [
        (int, "four", "write part.key=4, for example"),
        (Annotated[float, Range(ge=0, le=1)], "x", "write part.key=0.5, for example"),
        (int, 3.0, "write 3"),
        (bool, "x", "write true or false"),
        (str, 3, "quote it as part.key='\"3\"'"),
        (tuple[float, ...], "a", "write part.key=[4,8], for example"),
        (list[str], 3, "write part.key=[A,B], for example"),
        (dict[str, float], "a", "write part.key={NAME: VALUE}"),
        (Literal["a", "b"], "c", "choose one of them"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_one_that_fits(hint: Any, value: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf"part\.key must be .*; {re.escape(remedy)}$"):
        check_value("part.key", value, hint)
