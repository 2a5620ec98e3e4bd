"""Folders of the user's own: every document once, its source right, every mistake named."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fednano.core.progress import Silent
from fednano.data.local import ParquetFolder, TextFolder, pieces
from fednano.data.partition import Iid
from fednano.data.shards import Corpus


def text_data(tmp_path: Path, **changed: object) -> TextFolder:
    made = TextFolder(
        root=str(tmp_path / "root"),
        path=str(tmp_path / "own"),
        pattern="**/*.txt",
        separator=None,
        document_chars=16384,
        validation_fraction=0.02,
        partition=Iid(),
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def parquet_data(tmp_path: Path, **changed: object) -> ParquetFolder:
    made = ParquetFolder(
        root=str(tmp_path / "root"),
        path=str(tmp_path / "own"),
        pattern="**/*.parquet",
        text_column="text",
        source_column=None,
        validation_fraction=0.02,
        partition=Iid(),
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_parquet(path: Path, columns: dict[str, list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=7)


def contents(corpus: Corpus) -> set[tuple[str, str]]:
    """(source, text) of all rows, those held out included."""
    found = set()
    for file in corpus.manifest.files:
        found |= {(row["source"], row["text"]) for row in pq.read_table(corpus.folder / file.name).to_pylist()}
    return found


def test_a_text_file_is_a_document_of_its_folder_or_stem(tmp_path: Path) -> None:
    write(tmp_path / "own/poems/deep/one.txt", "A poem.\r\nTwo lines.")
    write(tmp_path / "own/poems/two.txt", "\ufeffAnother poem.")
    write(tmp_path / "own/letter.txt", "A letter.")
    write(tmp_path / "own/letter.md", "No text file.")
    assert contents(text_data(tmp_path).ensure(Silent())) == {
        ("poems", "A poem.\nTwo lines."),
        ("poems", "Another poem."),
        ("letter", "A letter."),
    }


def test_one_large_file_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "own/book.txt", "".join(f"Paragraph {i} of the book.\n\n" for i in range(1000)))
    corpus = text_data(tmp_path, document_chars=500).ensure(Silent())
    assert corpus.train_rows + corpus.validation_rows > 50
    assert all(text.startswith("Paragraph") and text.endswith("book.\n\n") for _, text in contents(corpus))


def test_a_separator_parts_documents(tmp_path: Path) -> None:
    write(tmp_path / "own/all.txt", "one<|endoftext|>two\n\ntwo<|endoftext|>three<|endoftext|>")
    corpus = text_data(tmp_path, separator="<|endoftext|>").ensure(Silent())
    assert {text for _, text in contents(corpus)} == {"one", "two\n\ntwo", "three"}


@given(
    text=st.text("ab \n", max_size=300),
    size=st.integers(1, 40),
    limit=st.one_of(st.none(), st.integers(1, 50)),
    separator=st.sampled_from([None, "\n\n", "ab"]),
)
def test_pieces_depend_on_the_text_alone_and_lose_nothing(
    text: str, size: int, limit: int | None, separator: str | None
) -> None:
    chunks = (text[at : at + size] for at in range(0, len(text), size))
    found = list(pieces(chunks, separator, limit))
    assert found == list(pieces(iter([text]), separator, limit))
    assert "".join(found) == (text if separator is None else text.replace(separator, ""))
    assert limit is None or all(len(piece) <= limit for piece in found)


def test_pieces_end_at_blank_lines_then_lines(tmp_path: Path) -> None:
    assert list(pieces(iter(["aa\nbb\n\ncc\ndd"]), None, 9)) == ["aa\nbb\n\n", "cc\ndd"]
    assert list(pieces(iter(["aa\nbb\ncc"]), None, 7)) == ["aa\nbb\n", "cc"]
    assert list(pieces(iter(["aaaaaaa"]), None, 3)) == ["aaa", "aaa", "a"]


def test_parquet_rows_keep_their_source(tmp_path: Path) -> None:
    write_parquet(tmp_path / "own/web/a.parquet", {"text": [f"web {i}" for i in range(20)], "id": list(range(20))})
    write_parquet(tmp_path / "own/b.parquet", {"text": ["top", None, "  "], "id": [1, 2, 3]})
    found = contents(parquet_data(tmp_path).ensure(Silent()))
    assert found == {("web", f"web {i}") for i in range(20)} | {("own", "top")}


def test_parquet_sources_and_texts_from_named_columns(tmp_path: Path) -> None:
    columns = {"body": pa.array(["x", "y", "z"], pa.large_string()), "kind": ["a", None, "b"]}
    write_parquet(tmp_path / "own/part/a.parquet", columns)
    corpus = parquet_data(tmp_path, text_column="body", source_column="kind").ensure(Silent())
    assert contents(corpus) == {("a", "x"), ("part", "y"), ("b", "z")}


def test_a_changed_folder_makes_another_corpus(tmp_path: Path) -> None:
    write(tmp_path / "own/a.txt", "first")
    write(tmp_path / "own/b.txt", "second")
    first = text_data(tmp_path).ensure(Silent())
    assert text_data(tmp_path).ensure(Silent()).folder == first.folder
    write(tmp_path / "own/b.txt", "sec0nd")
    os.utime(tmp_path / "own/b.txt", ns=(0, 12345))
    changed = text_data(tmp_path).ensure(Silent())
    assert changed.folder != first.folder
    assert ("b", "sec0nd") in contents(changed)
    assert text_data(tmp_path, document_chars=9).ensure(Silent()).folder != changed.folder


@pytest.mark.parametrize("make", [text_data, parquet_data])
def test_a_corpus_outlives_the_folder_it_was_made_of(tmp_path: Path, make: type[TextFolder]) -> None:
    write(tmp_path / "own/a.txt", "first")
    write(tmp_path / "own/b.txt", "second")
    write_parquet(tmp_path / "own/a.parquet", {"text": ["first", "second"]})
    first = make(tmp_path).ensure(Silent())
    (tmp_path / "own").rename(tmp_path / "gone")
    make(tmp_path).check()
    assert make(tmp_path).ensure(Silent()).folder == first.folder
    other = make(tmp_path, validation_fraction=0.5)
    for act in (other.check, lambda: other.ensure(Silent())):
        with pytest.raises(ValueError, match=r"^data.path must be a folder that exists"):
            act()


def test_which_of_two_corpora_of_a_folder_that_is_gone_cannot_be_told(tmp_path: Path) -> None:
    write(tmp_path / "own/a.txt", "first")
    write(tmp_path / "own/b.txt", "second")
    first = text_data(tmp_path).ensure(Silent())
    os.utime(tmp_path / "own/b.txt", ns=(0, 12345))
    assert text_data(tmp_path).ensure(Silent()).folder != first.folder
    write(tmp_path / "own/c.txt", "third")
    (tmp_path / "own").rename(tmp_path / "gone")
    assert text_data(tmp_path).ensure(Silent()).sha256 == first.sha256, "two corpora of the same content are one"
    (tmp_path / "gone").rename(tmp_path / "own")
    text_data(tmp_path).ensure(Silent())
    (tmp_path / "own").rename(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"does not exist any more, and .* holds 2 corpora made of it") as error:
        text_data(tmp_path).check()
    one_line(error)


def test_a_corpus_made_of_a_relative_path_is_found_by_its_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own/a.txt", "first")
    write(tmp_path / "own/b.txt", "second")
    first = text_data(tmp_path, path="own").ensure(Silent())
    assert text_data(tmp_path).ensure(Silent()).folder == first.folder


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("make", [text_data, parquet_data])
def test_folders_that_hold_nothing_are_named(tmp_path: Path, make: type[TextFolder]) -> None:
    for act in (lambda: make(tmp_path).check(), lambda: make(tmp_path).ensure(Silent())):
        with pytest.raises(ValueError, match=r"^data.path must be a folder that exists, got .*own; ") as error:
            act()
        one_line(error)
    (tmp_path / "own").mkdir()
    with pytest.raises(ValueError, match=r"^data.path must hold files matching data.pattern=\*\*/\*\.\w+, got .*; "):
        make(tmp_path).check()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^data.path must be a folder, got .*; name its folder"):
        make(tmp_path, path=str(tmp_path / "file")).check()
    with pytest.raises(ValueError, match=r"^data.pattern must be a glob, got /x"):
        make(tmp_path, pattern="/x").check()
    assert not (tmp_path / "root").exists(), "nothing is written"


def test_wrong_columns_are_named_with_those_that_there_are(tmp_path: Path) -> None:
    write_parquet(tmp_path / "own/a.parquet", {"body": ["x"], "n": [1]})
    with pytest.raises(ValueError, match=r"^data.text_column must be a column of .*, got text; use one of body, n$"):
        parquet_data(tmp_path).check()
    with pytest.raises(ValueError, match=r"^data.source_column must be a column of .*, got kind; use one of body, n$"):
        parquet_data(tmp_path, text_column="body", source_column="kind").check()
    with pytest.raises(ValueError, match=r"^data.text_column must be a column of strings, got n of type int64 in "):
        parquet_data(tmp_path, text_column="n").check()


def test_files_of_another_kind_are_named_and_leave_nothing(tmp_path: Path) -> None:
    write(tmp_path / "own/a.parquet", "no parquet at all")
    with pytest.raises(ValueError, match=r"^data.path must hold Parquet files, got .*a.parquet .*; ") as error:
        parquet_data(tmp_path).check()
    one_line(error)
    write(tmp_path / "own/a.txt", "fine")
    (tmp_path / "own/b.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ValueError, match=r"^data.path must hold UTF-8 files, got .*b.txt .*; ") as error:
        text_data(tmp_path).ensure(Silent())
    one_line(error)
    assert [path.suffix for path in (tmp_path / "root").iterdir()] == [".lock"]


def test_text_with_a_byte_order_mark_is_read_in_its_encoding(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        write(tmp_path / "own/a.txt", "")
        (tmp_path / f"own/{encoding}.txt").write_bytes(f"Café in {encoding}.\r\nÉnd.".encode(encoding))
    (tmp_path / "own/be.txt").write_bytes(b"\xfe\xff" + "Big.".encode("utf-16-be"))
    found = contents(text_data(tmp_path).ensure(Silent()))
    assert found == {(e, f"Café in {e}.\nÉnd.") for e in ("utf-8-sig", "utf-16", "utf-32")} | {("be", "Big.")}


def test_text_that_is_none_is_refused_by_name_and_place(tmp_path: Path) -> None:
    write(tmp_path / "own/a.txt", "fine")
    (tmp_path / "own/b.txt").write_bytes(b"\xef\xbb\xbf" + b"x" * (1 << 20) + "é".encode() + b"caf\xe9 au lait")
    with pytest.raises(ValueError, match=r"got .*b\.txt \(.* at byte 1048584\); convert it"):
        text_data(tmp_path).ensure(Silent())
    (tmp_path / "own/b.txt").write_bytes("UTF-16 without a mark".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"got .*b\.txt, which is full of zero bytes as UTF-16 is .*; convert it"):
        text_data(tmp_path).ensure(Silent())
    write(tmp_path / "own/b.txt", "A stray \0 stays.")
    assert ("b", "A stray \0 stays.") in contents(text_data(tmp_path).ensure(Silent()))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "own/a.txt", "fine")
    data = text_data(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"^data.path must hold files that can be read, got .*a.txt \(Permission den"):
        list(data.documents(tmp_path / "own/a.txt"))


TEXTS = [f"Document {i}." for i in range(40)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array(TEXTS, pa.large_string()).dictionary_encode(),
        pa.chunked_array([pa.array(TEXTS[:20]).dictionary_encode(), pa.array(TEXTS[20:]).dictionary_encode()]),
    ],
    ids=lambda column: str(column.type).replace(" ", ""),
)
def test_text_columns_of_every_layout(tmp_path: Path, column: object) -> None:
    write_parquet(tmp_path / "own/a.parquet", {"text": column})  # type: ignore[dict-item]
    write_parquet(tmp_path / "own/empty.parquet", {"text": pa.nulls(3)})  # type: ignore[dict-item]
    data = parquet_data(tmp_path)
    data.check()
    assert contents(data.ensure(Silent())) == {("own", text) for text in TEXTS}


@pytest.mark.parametrize("kind", [pa.binary(), pa.list_(pa.string()), pa.struct([("text", pa.string())])])
def test_columns_of_other_things_are_refused_by_type(tmp_path: Path, kind: pa.DataType) -> None:
    write_parquet(tmp_path / "own/a.parquet", {"text": pa.nulls(3, kind)})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"must be a column of strings, got text of type (binary|list|struct)"):
        parquet_data(tmp_path).check()


def test_damage_inside_a_parquet_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "own/a.parquet"
    raw = [text.encode() for text in TEXTS]
    raw[7] = b"caf\xe9"
    array = pa.array(raw, pa.binary())
    write_parquet(file, {"text": pa.Array.from_buffers(pa.string(), len(array), array.buffers())})  # type: ignore[dict-item]
    with pytest.raises(
        ValueError, match=r"^data.path must hold whole Parquet files .*, got .*a.parquet .*write it again"
    ):
        parquet_data(tmp_path).ensure(Silent())
    write_parquet(file, {"text": TEXTS})  # type: ignore[dict-item]
    damaged = bytearray(file.read_bytes())
    damaged[20:120] = bytes(100)
    file.write_bytes(damaged)
    with pytest.raises(
        ValueError, match=r"^data.path must hold whole Parquet files .*, got .*a.parquet .*write it again"
    ):
        parquet_data(tmp_path).ensure(Silent())


def test_names_in_no_encoding_make_a_corpus_and_a_message(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    write(odd / os.fsdecode(b"po\xe8me") / "a.txt", "one")
    write(odd / os.fsdecode(b'b\xe9 "quoted"\n.txt'), "two")
    corpus = text_data(tmp_path, path=str(odd)).ensure(Silent())
    assert contents(corpus) == {(r"po\xe8me", "one"), ('b\\xe9 "quoted"\n', "two")}
    assert set(corpus.source_names) <= {r"po\xe8me", 'b\\xe9 "quoted"\n'}
    (odd / os.fsdecode(b"c\xe9\n.txt")).write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"caf\\xe9/c\\xe9\\n\.txt \(invalid start byte at byte 0\)") as error:
        text_data(tmp_path, path=str(odd)).ensure(Silent())
    one_line(error).encode()


def test_an_ordinary_folder_keeps_the_name_of_its_corpus(tmp_path: Path) -> None:
    """A new name would convert everybody's corpus again, and no old run could resume."""
    write(tmp_path / "own/b/one.txt", "first")
    write(tmp_path / "own/a.txt", "second")
    states = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in (
        tmp_path / "own/a.txt", tmp_path / "own/b/one.txt",
    )]  # fmt: skip
    settings = {
        "separator": None, "document_chars": 16384, "path": str(tmp_path / "own"), "pattern": "**/*.txt",
        "validation_fraction": 0.02,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps([settings, states], sort_keys=True).encode()).hexdigest()
    assert text_data(tmp_path).ensure(Silent()).folder.name == f"text-{digest[:12]}"


def test_what_is_left_out_is_said_once(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.pdf", "d.pdf", "e.docx", "LICENSE"):
        write(tmp_path / "own" / name, name)

    class Told(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def note(self, line: str) -> None:
            self.lines.append(line)

    told = Told()
    text_data(tmp_path).ensure(told)
    text_data(tmp_path).ensure(told)
    (line,) = told.lines
    assert line.endswith(
        "own: left out 4 files (.pdf 2, .docx 1, without suffix 1); data.pattern=**/*.txt names what is read"
    )


def test_an_empty_corpus_is_named(tmp_path: Path) -> None:
    write(tmp_path / "own/a.txt", " \n ")
    with pytest.raises(ValueError, match=r"^data.path=.*own must hold two .*, got no document with text in it"):
        text_data(tmp_path).ensure(Silent())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"path": ""}, "data.path must be a non-empty string, got ''; "),
        ({"separator": ""}, "data.separator must be a non-empty string, got ''; "),
        ({"document_chars": 0}, "data.document_chars must be a whole number >= 1, got 0; "),
        ({"validation_fraction": 1}, "data.validation_fraction must be > 0 and < 1, got 1; "),
    ],
)
def test_settings_are_checked(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        text_data(tmp_path, **changed)


def test_what_a_desktop_leaves_is_not_read(tmp_path: Path) -> None:
    for name in ("a.txt", "b/c.txt", ".own.txt"):
        write(tmp_path / "own" / name, f"the text of {name}")
    before = {text for _, text in contents(text_data(tmp_path, pattern="**/*").ensure(Silent()))}
    assert before == {"the text of a.txt", "the text of b/c.txt"}  # a hidden file is read if the pattern names it
    for name in ("._a.txt", "b/._c.txt", ".DS_Store", "b/Thumbs.db", ".nfs0001", "desktop.ini"):
        (tmp_path / "own" / name).write_bytes(b"\x00\xff not text")
    (tmp_path / "own" / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert {text for _, text in contents(text_data(tmp_path, pattern="**/*").ensure(Silent()))} == before
