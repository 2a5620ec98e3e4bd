"""The codecs' bench on a small update."""

import json

import pytest

from fednano.bench import codec
from fednano.bench.__main__ import main


def test_every_codec_is_encoded_and_decoded_beside_a_copy(capsys) -> None:
    assert main(["codec", "--entries", "20000", "--repeats", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"copy", *codec.CODECS}
    assert found["copy"]["encode"] > 0
    assert all(found[name]["encode"] > 0 and found[name]["decode"] > 0 for name in codec.CODECS)
    assert found["fp32"]["bytes_per_entry"] == 4 and found["fp32"]["error"] == 0
    assert found["int8"]["bytes_per_entry"] == pytest.approx(1 + 4 / 256, rel=1e-3)
    assert found["int8"]["error"] < found["int4"]["error"] < found["int2"]["error"] < found["topk fp32"]["error"] < 1


def test_the_table_fits_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    slow = {"encode": 123.0, "decode": 12345.0, "bytes_per_entry": 0.5, "error": 0.254}
    monkeypatch.setattr(codec, "measure", lambda *_: {"copy": {"encode": 12300.0}, **dict.fromkeys(codec.CODECS, slow)})
    assert main(["codec"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 and "…" not in line for line in lines)
    (row,) = [line for line in lines if "int4 stochastic" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "int4 stochastic", "123", "100.0", "12,345", "1.0", "0.500", "25 %",
    ]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), [(("--entries", "5"), "--entries"), (("--repeats", "0"), "--repeats")])
def test_sizes_without_sense_are_refused(words: tuple[str, ...], says: str, capsys) -> None:
    assert main(["codec", *words]) == 2
    assert f"{says} must be >=" in capsys.readouterr().err
