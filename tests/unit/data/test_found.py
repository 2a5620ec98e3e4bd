"""Files of a folder: links, hidden files, special files, and what the message says of the others."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fednano.data.found import found_in


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(folder: Path, pattern: str = "**/*.txt") -> list[str]:
    return [str(file.relative_to(folder)) for file in found_in(str(folder), pattern).files]


def test_links_are_followed_each_folder_once(tmp_path: Path) -> None:
    own, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    make(own, "wiki/w.txt", "z/deep/z.txt")
    make(elsewhere, "b.txt", "more/m.txt")
    (own / "books").symlink_to(elsewhere)
    (own / "again").symlink_to(elsewhere)
    (own / "a").symlink_to(own / "z")  # its files keep the real folder as source
    (elsewhere / "back").symlink_to(own)
    (own / "loop").symlink_to(own / "wiki" / "..")
    (own / "up").symlink_to(tmp_path)
    (own / "gone.txt").symlink_to(tmp_path / "nowhere")
    (own / "one.txt").symlink_to(elsewhere / "b.txt")
    assert names(own) == ["again/b.txt", "again/more/m.txt", "one.txt", "wiki/w.txt", "z/deep/z.txt"]
    assert found_in(str(own), "**/*.txt").left_out == {"broken link": 1, "link to a folder around it": 3}


def test_a_folder_of_links_alone(tmp_path: Path) -> None:
    make(tmp_path / "real", "x/a.txt")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/x").symlink_to(tmp_path / "real/x")
    (tmp_path / "linked").symlink_to(tmp_path / "own")
    assert names(tmp_path / "own") == ["x/a.txt"]
    assert names(tmp_path / "linked") == ["x/a.txt"]


def test_clutter_is_passed_over_and_special_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    make(own, "a.txt", "._a.txt", ".DS_Store", "__MACOSX/a.txt", "Thumbs.db", ".git/x.txt", "b.TXT", "c.md", "d/e.md")
    os.mkfifo(own / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(own)  # a socket's path must be short
        server.bind("s.txt")
        found = found_in(str(own), "**/*.txt")
    assert [file.name for file in found.files] == ["a.txt"]
    assert found.others() == "5 files (.md 2, .TXT 1, named pipe 1, socket 1)"
    assert names(own, ".git/*.txt") == [".git/x.txt"]


def test_a_folder_without_a_match_says_what_it_holds(tmp_path: Path) -> None:
    make(tmp_path, "a.pdf", "b.pdf", "c.docx")
    with pytest.raises(ValueError, match=r"got .*, which holds 3 files \(\.pdf 2, \.docx 1\); change either one$"):
        found_in(str(tmp_path), "**/*.txt")


def test_a_pattern_may_name_several_suffixes(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b/c.md", "d.rst", "e.pdf")
    assert names(tmp_path, "**/*.{txt,md,rst}") == ["a.txt", "b/c.md", "d.rst"]
    assert names(tmp_path, "{a,d}.*") == ["a.txt", "d.rst"]


@pytest.mark.parametrize("pattern", ["/x", "../*.txt", "**.txt", "a/b**/c"])
def test_what_is_no_glob_is_refused(tmp_path: Path, pattern: str) -> None:
    make(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=r"^data.pattern must be a glob, got .*; set one like"):
        found_in(str(tmp_path), pattern)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    make(
        folder,
        *(f"{where}{name}" for where in ("", "a/", "a/b/", "b/", "b/a/a/") for name in ("a.txt", "b.txt", "a.md")),
    )
    return folder


@given(
    parts=st.lists(st.sampled_from(["**", "*", "a", "b", "?", "[!a]"]), max_size=4),
    last=st.sampled_from(["*.txt", "a.*", "?.md"]),
)
def test_an_ordinary_folder_is_read_as_by_the_standard_library(tree: Path, parts: list[str], last: str) -> None:
    pattern = "/".join([*parts, last])
    expected = sorted(file for file in set(tree.glob(pattern)) if file.is_file())
    try:
        assert found_in(str(tree), pattern).files == expected
    except ValueError:
        assert not expected
