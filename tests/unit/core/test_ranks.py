"""Ranks from the environment: all of torchrun's variables, or none."""

import os

import pytest

from fednano.config.errors import guarded
from fednano.core.ranks import check_ranks, local_rank, rank, world

WHOLE = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)


def test_there_is_one_rank_without_torchrun() -> None:
    check_ranks()
    assert (rank(), local_rank(), world()) == (0, 0, 1)


def test_all_variables_together_are_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    check_ranks()
    assert (rank(), local_rank(), world()) == (3, 1, 4)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"WORLD_SIZE": None}, "WORLD_SIZE must be set, since RANK=3 is; unset RANK, LOCAL_RANK, or start"),
        ({"RANK": None, "LOCAL_RANK": None}, "RANK must be set, since WORLD_SIZE=4 is; unset WORLD_SIZE, or"),
        ({"LOCAL_RANK": None}, "LOCAL_RANK must be set, since RANK=3 is; "),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number >= 1, got nothing; unset RANK, LOCAL_RANK, WORLD_SIZE"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number >= 1, got 0; "),
        ({"RANK": "-1"}, "RANK must be a whole number >= 0, got -1; "),
        ({"RANK": "\u0663"}, "RANK must be a whole number >= 0, got \u0663; "),
        ({"RANK": "4"}, "RANK must be < WORLD_SIZE=4, got 4; "),
        ({"LOCAL_RANK": "9"}, "LOCAL_RANK must be < WORLD_SIZE=4, got 9; "),
        ({"RANK": "0"}, "LOCAL_RANK must be <= RANK=0, got 1; "),
        ({"MASTER_PORT": None}, "MASTER_PORT must be set with WORLD_SIZE=4; "),
    ],
)
def test_variables_that_do_not_agree_are_refused_before_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changed: dict[str, str | None], says: str
) -> None:
    given = {name: value for name, value in {**WHOLE, **changed}.items() if value is not None}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert guarded(lambda: pytest.fail("the command ran")) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"fednano: {says}")
    assert len(said.err.splitlines()) == 1
    assert {name: os.environ[name] for name in given} == given
