"""A corpus on disk: what is written comes back, whole and in order, and damage is seen."""

import json
import multiprocessing
import os
import pickle
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.damage import flip

from fednano.core.files import made_once
from fednano.core.progress import Silent
from fednano.data import verified
from fednano.data.manifest import MANIFEST, ShardFile
from fednano.data.shards import Corpus, _Lru, _OpenShard
from fednano.data.verified import require_digest
from fednano.data.writer import Document, write_corpus


def documents(n: int) -> list[Document]:
    return [(f"Document {i} says é × {i * i}.\n" * (1 + i % 5), f"source{i % 3}") for i in range(n)]


def written(folder: Path, given: list[Document], **settings: object) -> Corpus:
    folder.mkdir()
    return write_corpus(folder, "toy", {}, iter(given), origin="data.path=toy", **settings)  # type: ignore[arg-type]


def all_texts(corpus: Corpus, split: str) -> list[str]:
    return [text for group in corpus.iter_texts(split) for text in group.to_pylist()]  # type: ignore[arg-type]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    given = documents(5000)
    corpus = written(tmp_path / "c", given, shard_bytes=60_000, validation_fraction=0.05)
    train, validation = all_texts(corpus, "train"), all_texts(corpus, "validation")
    assert len(corpus.manifest.of("train")) > 3
    assert sorted(train + validation) == sorted(text for text, _ in given)
    assert train != sorted(train), "the rows are shuffled"
    assert 150 < len(validation) < 350
    assert (corpus.train_rows, corpus.validation_rows) == (len(train), len(validation))
    assert corpus.train_bytes == sum(len(text.encode()) for text in train)
    assert corpus.validation_bytes == sum(len(text.encode()) for text in validation)
    assert corpus.source_names == ("source0", "source1", "source2")
    source_of = dict(given)
    assert [corpus.source_names[code] for code in corpus.sources()] == [source_of[text] for text in train]
    counted = Counter(source_of[text] for text in train)
    assert {name: count.rows for name, count in corpus.manifest.sources.items()} == counted
    assert sum(count.text_bytes for count in corpus.manifest.sources.values()) == corpus.train_bytes


def test_rows_are_read_by_global_id_in_the_order_asked_for(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", documents(4000), shard_bytes=100_000)
    train = all_texts(corpus, "train")
    scattered = np.random.default_rng(0).integers(0, corpus.train_rows, 500)
    assert corpus.texts(scattered).to_pylist() == [train[row] for row in scattered]
    assert corpus.texts(range(990, 1010)).to_pylist() == train[990:1010]
    assert corpus.texts(range(corpus.train_rows)).to_pylist() == train
    assert corpus.texts([]).to_pylist() == []
    for outside in ([-1], [corpus.train_rows]):
        with pytest.raises(IndexError, match="rows must lie in"):
            corpus.texts(outside)


def test_sequential_reading_decodes_a_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = written(tmp_path / "c", documents(3000))
    read = _OpenShard.read
    reads: list[int] = []

    def counted(shard: _OpenShard, group: int) -> object:
        reads.append(group)
        return read(shard, group)

    monkeypatch.setattr(_OpenShard, "read", counted)
    for row in range(0, corpus.train_rows, 10):
        corpus.texts([row])
    assert reads == [0, 1, 2]


def test_what_was_used_last_is_kept() -> None:
    made: list[str] = []
    held: _Lru[str] = _Lru(2)
    for key in "abacab":
        assert held.get(key, lambda key=key: made.append(key) or key) == key  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]


def test_duplicates_are_dropped_and_blank_documents_too(tmp_path: Path) -> None:
    given = documents(100)
    corpus = written(tmp_path / "c", [*given, *((text, "later") for text, _ in given), ("", "x"), (" \n", "x")])
    assert corpus.train_rows + corpus.validation_rows == 100
    assert "later" not in corpus.source_names and "x" not in corpus.source_names


def test_neither_stream_order_nor_memory_changes_the_files(tmp_path: Path) -> None:
    given = documents(3000)
    one = written(tmp_path / "one", given)
    other = written(tmp_path / "other", given[::-1], memory_bytes=10_000)
    assert one.sha256 == other.sha256
    assert (one.folder / MANIFEST).read_bytes() == (other.folder / MANIFEST).read_bytes()
    assert sorted(path.name for path in other.folder.iterdir()) == [
        ".verified.json",
        MANIFEST,
        "train_00000.parquet",
        "validation.parquet",
    ]


def test_a_document_never_changes_sides(tmp_path: Path) -> None:
    few = written(tmp_path / "few", documents(1000), validation_fraction=0.1)
    many = written(tmp_path / "many", documents(3000), validation_fraction=0.1, seed=7)
    assert set(all_texts(few, "validation")) <= set(all_texts(many, "validation"))
    assert set(all_texts(few, "train")) <= set(all_texts(many, "train"))


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_two_documents_are_enough_for_both_sides(tmp_path: Path, fraction: float) -> None:
    corpus = written(tmp_path / "c", documents(2), validation_fraction=fraction)
    assert (corpus.train_rows, corpus.validation_rows) == (1, 1)


@pytest.mark.parametrize(
    ("given", "found"), [([], "no document"), ([(" ", "x")], "no document"), (documents(1) * 2, "only one")]
)
def test_too_little_text_names_its_origin(tmp_path: Path, given: list[Document], found: str) -> None:
    with pytest.raises(ValueError, match=f"^data.path=toy must hold two .*, got {found}.*; ") as error:
        written(tmp_path / "c", given)
    assert "\n" not in str(error.value)


def test_damage_is_seen(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", documents(500))
    corpus.verify()
    opened = Corpus.open(corpus.folder)
    shard = corpus.folder / "train_00000.parquet"
    held = bytearray(shard.read_bytes())
    held[100] ^= 1
    shard.write_bytes(held)
    for again in (opened.verify, lambda: Corpus.open(corpus.folder)):
        with pytest.raises(ValueError, match=r"train_00000.parquet is damaged: it has sha256=.*; delete .*/c to make"):
            again()
    shard.write_bytes(held[:-1])
    with pytest.raises(ValueError, match=r"train_00000.parquet has .* bytes, but its manifest says"):
        Corpus.open(corpus.folder)
    shard.unlink()
    with pytest.raises(ValueError, match=r"train_00000.parquet does not exist"):
        Corpus.open(corpus.folder)


def test_a_manifest_that_is_missing_foreign_or_edited_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not exist, so .* is not a corpus"):
        Corpus.open(tmp_path)
    corpus = written(tmp_path / "c", documents(50))
    path = corpus.folder / MANIFEST
    held = json.loads(path.read_text())
    for key, value, says in (
        ("format", 99, "must have format 2, got 99"),
        ("corpus_sha256", "0", "its checksum does not match its content"),
        ("files", 3, "its checksum does not match its content"),
    ):
        path.write_text(json.dumps(held | {key: value}))
        with pytest.raises(ValueError, match=says):
            Corpus.open(corpus.folder)


def test_a_failure_leaves_nothing_and_a_stale_part_is_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "c"

    def fail(partial: Path) -> None:
        (partial / "half").touch()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        made_once(folder, "ready", fail, Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["c.lock"]
    (tmp_path / ".c.123.tmp").mkdir()
    (tmp_path / ".c.123.tmp" / "stale").touch()
    made_once(folder, "ready", lambda partial: (partial / "ready").touch(), Silent())
    assert [path.name for path in folder.iterdir()] == ["ready"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "c.lock"]
    made_once(folder, "ready", fail, Silent())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").touch()
    with pytest.raises(ValueError, match="exists without a ready; "):
        made_once(tmp_path, "ready", lambda partial: None, Silent())
    assert (tmp_path / "thesis").exists()


def make_slowly(folder: Path, log: Path) -> None:
    """Run by two processes at once: each says when it builds."""

    def make(partial: Path) -> None:
        with log.open("a") as file:
            file.write("made\n")
        write_corpus(partial, "toy", {}, documents(3000), origin="toy")

    made_once(folder, MANIFEST, make, Silent())


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=make_slowly, args=(tmp_path / "c", tmp_path / "log")) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    assert (tmp_path / "log").read_text() == "made\n"
    Corpus.open(tmp_path / "c").verify()


def test_a_file_is_verified_once_in_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = written(tmp_path / "c", documents(3000), shard_bytes=60_000)
    names = [file.name for file in corpus.manifest.files]
    read: list[str] = []

    def counted(folder: Path, file: ShardFile, advance: Callable[[int], None]) -> None:
        read.append(file.name)
        require_digest(folder, file, advance)

    def read_on_opening() -> list[str]:
        read.clear()
        Corpus.open(corpus.folder)
        return list(read)

    monkeypatch.setattr(verified, "require_digest", counted)
    assert read_on_opening() == []
    (corpus.folder / names[1]).touch()
    assert read_on_opening() == [names[1]]
    record = corpus.folder / ".verified.json"
    for damage in (record.unlink, lambda: flip(record), lambda: record.write_text("{")):
        damage()
        assert read_on_opening() == names
        assert read_on_opening() == []
    pickle.loads(pickle.dumps(corpus))
    assert read == []


def test_a_change_with_the_old_times_is_seen(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", documents(100))
    shard = corpus.folder / "validation.parquet"
    times = shard.stat().st_atime_ns, shard.stat().st_mtime_ns
    flip(shard)
    os.utime(shard, ns=times)
    with pytest.raises(ValueError, match=r"validation.parquet is damaged"):
        Corpus.open(corpus.folder)


def test_what_was_verified_in_a_folder_that_cannot_be_written_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    corpus = written(tmp_path / "c", documents(100))
    (corpus.folder / ".verified.json").unlink()
    (corpus.folder / ".verified.json").mkdir()  # nothing can be written there, not even by root
    Corpus.open(corpus.folder)
    monkeypatch.setattr(verified, "require_digest", lambda *_: pytest.fail("it is verified already"))
    Corpus.open(corpus.folder)
    monkeypatch.undo()
    assert [path.name for path in corpus.folder.glob("*.tmp")] == []


def test_several_at_once_leave_a_whole_record(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", documents(2000), shard_bytes=20_000)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            (corpus.folder / ".verified.json").unlink()
            for opened in pool.map(Corpus.open, [corpus.folder] * 8):
                assert opened.sha256 == corpus.sha256
            assert set(verified._recorded(corpus.folder)) == {file.name for file in corpus.manifest.files}


def test_no_bit_of_a_manifest_flips_unseen(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", documents(50))
    path = corpus.folder / MANIFEST
    for at in range(0, path.stat().st_size, 5):
        flip(path, at, at % 8)
        with pytest.raises(ValueError, match=r"manifest.json .*; delete .* to make it again"):
            Corpus.open(corpus.folder)
        flip(path, at, at % 8)
    assert Corpus.open(corpus.folder).manifest == corpus.manifest


def test_a_manifest_of_an_earlier_version_is_read_unless_its_totals_contradict_it(tmp_path: Path) -> None:
    corpus = written(tmp_path / "c", documents(50))
    path = corpus.folder / MANIFEST
    held = json.loads(path.read_text()) | {"format": 1}
    del held["checksum"]
    path.write_text(json.dumps(held))
    assert Corpus.open(corpus.folder).manifest == corpus.manifest
    held["files"][-1]["text_bytes"] += 1
    path.write_text(json.dumps(held))
    with pytest.raises(ValueError, match="its files do not add up to its totals"):
        Corpus.open(corpus.folder)
