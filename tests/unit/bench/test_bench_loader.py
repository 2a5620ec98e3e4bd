"""The loader's bench on a tiny experiment."""

import json

from fednano.bench.__main__ import main


def test_every_packing_is_made_and_trained(tiny: list[str], capsys) -> None:
    assert main(["loader", *tiny, "--steps", "2", "--repeats", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"still", "stream", "best_fit"}
    assert all(figures["tokens_per_s"] > 0 and 0 <= figures["waiting"] < 1 for figures in found.values())
    assert found["stream"]["loaded_tokens_per_s"] > found["stream"]["tokens_per_s"]


def test_bad_overrides_are_refused(capsys) -> None:
    assert main(["loader", "packing.documents=0"]) == 2
    assert "packing" in capsys.readouterr().err
