"""Temporary folders of runs, and what becomes of those whose run was killed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fednano.process import temporary
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
def own_temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Not that of the machine, where others' runs may be under way; short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="fn_", dir="/tmp") as own:
        monkeypatch.setenv("TMPDIR", own)
        monkeypatch.setattr(tempfile, "tempdir", own)
        yield Path(own)


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


@pytest.mark.parametrize("name", ["x" * 60, "o'neil", "two words"])
def test_a_place_that_suits_no_socket_is_not_used(
    name: str, own_temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfit = own_temporary / name
    unfit.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(unfit))
    monkeypatch.setattr(temporary, "OTHERS", (str(own_temporary),))
    with temporary_folder() as folder:
        assert folder.parent == own_temporary
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_without_a_place_for_sockets_the_variable_is_named(
    own_temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(own_temporary / ("x" * 60)))
    monkeypatch.setattr(temporary, "OTHERS", ())
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(ValueError, match="TMPDIR must be <= 20 bytes"), temporary_folder():
        pass
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own_temporary))
    with temporary_folder() as folder:
        assert folder.parent == own_temporary


def test_a_session_of_ray_fits_into_the_longest_place() -> None:
    session = "session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"
    assert temporary.MOST_BYTES + len("/fednano_abcdefgh/") + len(session) <= temporary.SOCKET_BYTES
