"""Training from files: the same merges as from their texts, and one line for each that cannot be read."""

import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.tokenizers import real_text, trained

from fednano.tokenizer import SPECIAL_TOKENS, Tokenizer

VOCAB_SIZE = 256 + 400 + len(SPECIAL_TOKENS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts of both sorts: some a file each, some in parquet with nulls, small row groups and a column of numbers."""
    folder = tmp_path_factory.mktemp("files")
    texts = real_text(24)
    for at, text in enumerate(texts[:8]):
        (folder / f"{at}{('.txt', '.md', '.py', '')[at % 4]}").write_bytes(text.encode())
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary()):
        rows = [text.encode() for text in texts[8:]][len(list(folder.glob("*.parquet"))) :: 4]
        column = pa.array([None, *rows, None], kind)
        table = pa.table({"n": pa.array(range(len(column))), "body": column})
        pq.write_table(table, folder / f"{kind}.parquet", row_group_size=2)
    (folder / "empty.txt").touch()
    return folder


@pytest.mark.parametrize("mapped_bytes", [1, 10_000, 1 << 22])
def test_files_give_the_merges_of_their_texts(folder, monkeypatch, mapped_bytes):
    monkeypatch.setattr("fednano.tokenizer.files.MAPPED_BYTES", mapped_bytes)
    paths = list(folder.iterdir())
    expected = trained(real_text(24), 400)
    for seed in range(3):
        random.Random(seed).shuffle(paths)
        from_files = Tokenizer.train_files(map(str, paths), VOCAB_SIZE, column="body", threads=1 + seed, meta={"n": 1})
        assert (from_files.sha256, from_files.meta) == (expected.sha256, {"n": 1})


def test_one_file_needs_no_list(folder):
    options = {"pattern": "gpt4", "special_tokens": ("<|bos|>", "<|x|>"), "threads": 2}
    expected = Tokenizer.train(real_text(1), VOCAB_SIZE, **options)
    for path in (folder / "0.txt", str(folder / "0.txt")):
        assert Tokenizer.train_files(path, VOCAB_SIZE, **options).sha256 == expected.sha256


def test_files_need_not_be_utf8(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe\xff\xfe\x00")
    assert Tokenizer.train_files(tmp_path / "a.bin", 262).merges.tolist() == [[0xFF, 0xFE]]


def test_progress_knows_the_bytes_in_all(folder):
    paths = sorted(folder.glob("*.txt"))
    seen = []
    Tokenizer.train_files(paths, VOCAB_SIZE, progress=lambda *event: seen.append(event))
    total = sum(path.stat().st_size for path in paths)
    counted = [event for event in seen if event[0] == "bytes"]
    assert counted[-1] == ("bytes", total, total)
    assert [event[1] for event in counted] == sorted({event[1] for event in counted})
    seen.clear()
    Tokenizer.train_files(
        folder / "string.parquet", VOCAB_SIZE, column="body", progress=lambda *event: seen.append(event)
    )
    counted = [event for event in seen if event[0] == "bytes"]
    texts = sum(len(text.encode()) for text in real_text(24)[8::4])
    # The column's own bookkeeping counts as well.
    assert 0.95 * counted[-1][2] < counted[-1][1] == texts <= counted[-1][2]


def test_a_repetitive_column_is_no_more_than_all(tmp_path):
    pq.write_table(pa.table({"text": ["the same words"] * 5000}), tmp_path / "same.parquet")
    seen = []
    Tokenizer.train_files(tmp_path / "same.parquet", 264, progress=lambda *event: seen.append(event))
    assert all(done <= total for _, done, total in seen)


def test_what_cannot_be_read_is_named_before_anything_is_read(folder, tmp_path, monkeypatch):
    numbers = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"text": [1], "body": ["a"]}), numbers)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 no more")
    os.mkfifo(tmp_path / "pipe.txt")
    monkeypatch.setattr("fednano.tokenizer.files._read", lambda files, column: pytest.fail("it was read"))
    for path, column, error, message in [
        ("absent.txt", "text", FileNotFoundError, r"absent\.txt, which does not exist; name existing files"),
        (folder, "text", ValueError, r"paths names the folder .*; name its files"),
        (tmp_path / "pipe.txt", "text", ValueError, r"pipe\.txt, which cannot be read; change"),
        (folder / "string.parquet", "text", ValueError, r"column=text is not in .*; it has: n, body"),
        (numbers, "text", ValueError, r"column=text holds int64 in .*; name a column of strings"),
        (broken, "text", ValueError, r"broken\.parquet is not an intact parquet file \(.*\); create it again"),
    ]:
        with pytest.raises(error, match=message) as refused:
            Tokenizer.train_files([folder / "0.txt", path], VOCAB_SIZE, column=column)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="paths is empty; name at least one file"):
        Tokenizer.train_files([], VOCAB_SIZE)


def test_damage_behind_an_intact_footer_is_named(folder, tmp_path):
    data = bytearray((folder / "string.parquet").read_bytes())
    data[4:2000] = bytes(1996)
    (tmp_path / "holed.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"holed\.parquet is not an intact parquet file"):
        Tokenizer.train_files(tmp_path / "holed.parquet", VOCAB_SIZE, column="body")


def test_files_without_text_are_refused(folder, tmp_path):
    pq.write_table(pa.table({"text": pa.array([None, ""], pa.string())}), tmp_path / "nulls.parquet")
    with pytest.raises(ValueError, match="the corpus holds no text"):
        Tokenizer.train_files([folder / "empty.txt", tmp_path / "nulls.parquet"], VOCAB_SIZE)
    with pytest.raises(ValueError, match=r'tokenizer.pattern="gpt5" is not known'):
        Tokenizer.train_files(folder / "0.txt", VOCAB_SIZE, pattern="gpt5")
