"""Files appear whole or not at all, by either of the two functions that write them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fednano.core.files import write_atomically, write_whole

Write = Callable[[Path, str], None]
either = pytest.mark.parametrize(
    "write", [write_atomically, lambda path, text: write_whole(path, text.encode())], ids=["atomically", "whole"]
)


@either
def test_a_file_and_its_folder_are_made_and_replaced(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for text in ("a longer first é", "×"):
        write(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [found.name for found in path.parent.iterdir()] == ["file"]


@either
def test_it_is_as_readable_as_any_new_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@either
@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_alone(
    write: Write, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "file"
    write(path, "old")
    monkeypatch.setattr(*((os, "fsync", fail) if broken == "fsync" else (Path, "replace", fail)))
    with pytest.raises(OSError, match="disk full"):
        write(path, "new")
    assert [found.read_text() for found in tmp_path.iterdir()] == ["old"]
