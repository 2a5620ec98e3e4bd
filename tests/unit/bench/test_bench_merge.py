"""The bench of merging on a small update."""

import json

import pytest

from fednano.bench import merge
from fednano.bench.__main__ import main


def test_every_codec_is_merged_and_memory_is_measured(capsys) -> None:
    assert main(["merge", "--entries", "300000", "--repeats", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["speed"].keys() == {"add_", "in memory", *merge.CODECS}
    assert all(figures["add_s"] > 0 for figures in found["speed"].values())
    assert found["memory"].keys() == set(merge.SERVERS)
    held = found["memory"]["Flower's FedAvg"]
    assert held["32"] - held["2"] > 20 * 4 * 300_000, "Flower holds every reply"


def test_the_tables_fit_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    slow = {"add_s": 1.2345, "norm_s": 0.5}
    speeds = {"add_": {"add_s": 0.5}, **dict.fromkeys(merge.CODECS, slow)}
    monkeypatch.setattr(merge, "speeds", lambda *_: speeds)
    monkeypatch.setattr(merge, "memory", lambda *_: {"fednano": {"2": 5 * 10**8, "32": 6 * 10**8}})
    assert main(["merge"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 and "…" not in line for line in lines)
    (row,) = [line for line in lines if "int8" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["int8", "1,234.5", "2.47", "500.0", "1.00"]
    (row,) = [line for line in lines if "fednano" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["fednano", "5.00", "6.00", "1.20"]


@pytest.mark.parametrize(("words", "says"), [(("--entries", "5"), "--entries"), (("--repeats", "0"), "--repeats")])
def test_sizes_without_sense_are_refused(words: tuple[str, ...], says: str, capsys) -> None:
    assert main(["merge", *words]) == 2
    assert f"{says} must be >=" in capsys.readouterr().err
