"""The tokenizer's bench: what it compares, what it writes, and what it does about peers that fail."""

import hashlib
import json
import textwrap
from pathlib import Path

import pytest

from fednano.bench.__main__ import main
from fednano.bench.tokenizer import command, corpus, hostile, works
from fednano.bench.tokenizer.process import BenchWorker, ContenderError
from fednano.bench.tokenizer.results import ResultRow, results

SOURCE = Path(textwrap.__file__)


@pytest.fixture
def texts(tmp_path) -> Path:
    folder = tmp_path / "some texts"
    folder.mkdir()
    (folder / "a.txt").write_bytes(SOURCE.read_bytes())
    (folder / "b.txt").write_bytes("Grüße, 1234 \r\nWörter. <|bos|>".encode() * 50)
    (folder / "copy.txt").write_bytes(SOURCE.read_bytes())
    (folder / "binary.bin").write_bytes(b"\xff\xfe\x00")
    (folder / "empty.txt").write_bytes(b"")
    return folder


def ran(texts: Path, *arguments: str) -> dict:
    report = texts.parent / "report.json"
    small = ["--texts", str(texts), "--vocab-size", "400", "--repeats", "2", "--json", str(report)]
    command.main([*small, *arguments])
    return json.loads(report.read_text(encoding="utf-8"))


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    """Makes importable here and in workers what stands in for peers."""
    folder.mkdir()
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


# From end to end


def test_all_works_but_the_hostile_are_measured_for_all_that_is_installed(texts, capsys):
    report = ran(texts, "--work", "train,encode,threads,cold,decode", "--threads", "2")
    assert report["corpus"]["texts"] == 2
    assert report["corpus"]["bytes"] == report["corpus"]["bytes_encoded"] == SOURCE.stat().st_size + 32 * 50
    of = {(row["work"], row["contender"], row["pattern"], row["threads"]): row for row in report["results"]}
    assert {
        ("train", "fednano", "gpt4", 2),
        ("train", "tokenizers", "gpt4", 2),
        *(("encode", name, "gpt4", count) for name in ("fednano", "tiktoken", "tokenizers") for count in (1, 2)),
        *(("cold", name, "gpt4", 1) for name in ("fednano", "tiktoken", "tokenizers")),
        *(("decode", name, "gpt4", 1) for name in ("fednano", "tiktoken")),
    } <= of.keys()
    for (work, contender, pattern, threads), row in of.items():
        assert row["error"] is None
        assert len(row["measurements"]) == 2
        assert row["median_s"] > 0
        assert row["megabytes_per_s"] == pytest.approx(row["bytes"] / 1e6 / row["median_s"])
        assert row["ratio"] is not None
        compared = work in ("encode", "decode") and contender != "fednano" and row["baseline"] == pattern
        assert row["same_ids"] is (True if compared else None)
        assert (row["speedup"] is not None) == (work == "encode" and threads == 2)
        assert set(row["figures"]) == {
            "train": {"peak_bytes", "merges"},
            "cold": {"ready_s", "first_text_s", "process_s"},
        }.get(work, set())
    assert of["train", "fednano", "gpt4", 2]["figures"]["merges"] == 139
    assert of["train", "tokenizers", "gpt4", 2]["figures"]["merges"] == 139
    assert report["versions"]["tiktoken"]
    assert set(report["versions"]) | set(report["missing"]) == {"fednano", *(peer.library for peer in works.PEERS)}
    out = capsys.readouterr().out
    for library, remedy in report["missing"].items():
        assert f"{library} is not installed: {remedy}" in out


def test_hostile_input_is_measured_in_two_sizes(texts, monkeypatch):
    monkeypatch.setattr(works, "HOSTILE_BYTES", 2000)
    monkeypatch.setattr(hostile, "NAMES", ("letters ab", "random bytes"))
    rows = ran(texts, "--work", "hostile", "--repeats", "1")["results"]
    ours = [row for row in rows if row["contender"] == "fednano" and row["pattern"] == "gpt4"]
    assert [row["bytes"] for row in ours] == [2000, 4000] * 2
    assert [row["growth"] is not None for row in ours] == [False, True] * 2
    theirs = {row["input"]: row for row in rows if row["contender"] == "tiktoken"}
    assert "TypeError" in theirs["random bytes"]["error"]  # it takes no bytes
    assert all(row["same_ids"] for name, row in theirs.items() if name != "random bytes")


def test_a_broken_peer_is_reported_and_the_rest_goes_on(texts, tmp_path, monkeypatch, capsys):
    fake(
        tmp_path / "peers",
        monkeypatch,
        rustbpe="print('noise')\nraise OSError('no such\\n processor')",
        bpeasy="import os\nos.abort()",
        gigabpe="def train_bpe(files, vocab_size, pretokenizer, threads):\n    return {}, [0] * (vocab_size - 100)",
    )
    report = ran(texts, "--work", "train")
    of = {row["contender"]: row for row in report["results"] if row["pattern"] == "gpt4"}
    assert of["rustbpe"]["error"] == "OSError: no such processor"
    assert of["bpeasy"]["error"] == "ended with code -6"
    for name in ("rustbpe", "bpeasy"):
        assert (of[name]["median_s"], of[name]["ratio"], of[name]["measurements"]) == (None, None, [])
    assert of["fednano"]["error"] is of["tokenizers"]["error"] is None
    assert report["versions"]["gigabpe"] is None
    # Asked for as many merges as the others, on top of the bytes that occur.
    other = next(row for row in report["results"] if row["contender"] == "gigabpe")
    occurring = len({*SOURCE.read_bytes(), *"Grüße, 1234 \r\nWörter. <|bos|>".encode()})
    assert other["figures"]["merges"] == 139 + occurring - 100
    assert "rustbpe failed: OSError: no such processor" in capsys.readouterr().out


def test_a_worker_that_hangs_is_ended_and_stays_failed(tmp_path, monkeypatch):
    fake(tmp_path / "peers", monkeypatch, rustbpe="import threading\nthreading.Event().wait()")
    job = {"files": [], "alphabet": 0, "pattern": "gpt4", "merges": 1, "threads": 1}
    with BenchWorker("rustbpe", 1, timeout=1.5) as worker:
        for _ in range(2):
            with pytest.raises(ContenderError, match=r"no answer within 1\.5 s"):
                worker.ask("train", **job)


def test_a_folder_beside_the_command_is_no_peer(tmp_path, monkeypatch):
    (tmp_path / "bpeasier").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not works.installed("bpeasier")
    assert works.installed("tiktoken")


# The corpus


def test_texts_are_copied_up_to_a_size_and_the_first_are_encoded(texts, tmp_path, monkeypatch):
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(corpus, "ENCODED_BYTES", SOURCE.stat().st_size + 1)
    both = corpus.write(texts, 1.0, tmp_path / "copies")
    assert [Path(file).read_bytes() for file in both.files] == [
        (texts / name).read_bytes() for name in ("a.txt", "b.txt")
    ]
    assert (both.encoded, both.encoded_bytes) == (both.files[:1], SOURCE.stat().st_size)
    one = corpus.write(texts, 0.001, tmp_path / "copies")
    assert (len(one.files), one.alphabet) == (1, len(set(SOURCE.read_bytes())))


def test_python_sources_are_mixed_by_their_names(tmp_path, monkeypatch):
    library, packages = tmp_path / "lib", tmp_path / "lib" / "site-packages"
    names = [f"{letter}.py" for letter in "abcdef"]
    for folder in (library, packages / "installed"):
        folder.mkdir(parents=True)
        for name in [*names, "data.txt"]:
            (folder / name).touch()
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(library))
    monkeypatch.setattr("sys.path", [str(tmp_path), str(packages)])
    expected = [(name, library / name) for name in names]
    expected += [(f"installed/{name}", packages / "installed" / name) for name in names]
    expected.sort(key=lambda named: hashlib.sha256(named[0].encode()).digest())
    assert list(corpus.python_sources()) == [path for _, path in expected]


# Ratios


def row(contender: str, *seconds: float, **values) -> ResultRow:
    values = {"work": "encode", "pattern": "gpt4", "threads": 1, "bytes": 6_000_000, **values}
    return ResultRow(
        contender=contender, measurements=[{"seconds": each, "peak_bytes": each * 10} for each in seconds], **values
    )


def test_medians_and_ratios_by_hand():
    ours, theirs = results([row("fednano", 3.0, 1.0, 2.0, digest="x"), row("peer", 5.0, 9.0, digest="y")])
    assert (ours.median_s, ours.megabytes_per_s, ours.ratio, ours.same_ids) == (2.0, 3.0, 1.0, None)
    assert (theirs.median_s, theirs.ratio, theirs.baseline, theirs.same_ids) == (7.0, 3.5, "gpt4", False)
    assert theirs.figures == {"peak_bytes": 70.0}


def test_a_ratio_is_to_the_same_pattern_threads_and_input():
    rows = [
        row("fednano", 1.0),
        row("fednano", 2.0, pattern="gpt2", digest="x"),
        row("fednano", 4.0, threads=2),
        row("fednano", 5.0, input="spaces"),
        row("fednano", 15.0, input="spaces", bytes=12_000_000),
        row("peer", 8.0, pattern="gpt2", digest="x"),
        row("peer", 8.0, pattern="o200k", digest="x"),
        row("peer", 8.0, threads=2),
        row("peer", 8.0, threads=3),
    ]
    found = results(rows)
    assert [(result.ratio, result.baseline) for result in found[5:]] == [
        (4.0, "gpt2"),
        (8.0, "gpt4"),
        (2.0, "gpt4"),
        (None, None),
    ]
    assert [result.same_ids for result in found[5:]] == [True, None, None, None]
    assert [result.speedup for result in found] == [None, None, 0.25, *[None] * 6]
    assert [result.growth for result in found] == [*[None] * 4, 3.0, *[None] * 4]


def test_after_an_error_there_is_no_median_nor_ratio_to_it():
    broken = row("fednano", 1.0, error="out of memory")
    found = results([broken, row("peer", 2.0)])
    assert [(result.median_s, result.ratio) for result in found] == [(None, None), (2.0, None)]


# The command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--texts", "nowhere"], "--texts must be a folder, got nowhere; name a folder of text files"),
        (["--texts", "blank"], "--texts must hold text, got blank; name a folder of text files in UTF-8"),
        (["--work", "train,sleep"], "--work must be some of train,encode"),
        (["--repeats", "0"], "--repeats must be >= 1, got 0; use 1 or more"),
        (["--vocab-size", "261"], "--vocab-size must be >= 262, got 261; use 262 or more"),
        (["--megabytes", "nan"], "--megabytes must be > 0, got nan"),
        (["--timeout", "0"], r"--timeout must be > 0, got 0.0"),
        (["--json", "nowhere/report.json"], "--json must be in a folder that exists, got nowhere/report.json"),
    ],
)
def test_senseless_options_are_refused_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "blank").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["tokenizer", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
