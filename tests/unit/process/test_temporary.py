"""Temporary folders of runs, and what becomes of those whose run was killed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fednano.process.temporary import temporary_folder

HOLDS = """
import sys
from fednano.process.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "secret").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not that of the machine, where others' runs may be under way."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def other_process() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that uses a folder until its input ends, and the folder."""
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())


def test_the_next_run_removes_what_a_killed_one_left() -> None:
    with other_process() as (process, left):
        process.kill()
        process.wait()
    assert (left / "secret").exists()
    with temporary_folder() as folder:
        assert folder.is_dir()
        assert not left.exists()


def test_what_is_in_use_stays() -> None:
    with other_process() as (process, used):
        with temporary_folder(), temporary_folder():
            assert (used / "secret").exists()
        process.communicate("")
        assert not used.exists()


def test_nothing_else_is_removed(own_temporary: Path) -> None:
    elsewhere = own_temporary / "elsewhere"
    elsewhere.mkdir()
    (own_temporary / "fednano_link").symlink_to(elsewhere)
    (own_temporary / "fednano_file").touch()
    (own_temporary / "fednanoother").mkdir()
    (own_temporary / "fednano_my_notes").mkdir()
    with temporary_folder():
        pass
    assert {path.name for path in own_temporary.iterdir()} == {
        "elsewhere",
        "fednano_file",
        "fednano_link",
        "fednano_my_notes",
        "fednanoother",
    }


def test_a_folder_is_removed_whatever_happens(own_temporary: Path) -> None:
    with pytest.raises(OSError, match="disk full"), temporary_folder() as folder:
        (folder / "half").touch()
        raise OSError("disk full")
    assert list(own_temporary.iterdir()) == []
