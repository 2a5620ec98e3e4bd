"""The protocol's bench: what a reply that no honest client sends costs the server."""

import json

import pytest

from fednano.bench.__main__ import main
from fednano.flower.strangers import FULL

VERDICTS = {
    "honest": "accepted",
    "every entry is NaN": "non_finite",
    "loss infinite": "non_finite",
    "every entry is 1e30": "outlying",
    "times of 1e308": "implausible",
    "error very long": "error",
}


def test_no_reply_takes_more_memory_than_the_model_unless_it_is_as_large(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fednano.bench.protocol import hostile

    class Smaller(hostile.Strangers):
        def __init__(self, *given: object) -> None:
            super().__init__(*given, many=20_000, long=1 << 20)  # type: ignore[arg-type]

    monkeypatch.setattr(hostile, "Strangers", Smaller)
    monkeypatch.setattr(hostile, "VOCABULARY", 64)
    assert main(["protocol", "--case", "hostile", "--depth", "1", "--repeats", "1", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert len(costs) > 30
    for cost in costs:
        assert cost["verdict"] == VERDICTS.get(cost["name"], "malformed"), cost
        assert cost["full"] == (cost["name"] in FULL)
        if not cost["full"]:
            assert cost["traced_bytes"] < cost["model_bytes"] / 4, cost


def test_a_table_says_what_a_reply_may_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fednano.bench.protocol import hostile

    def few(self: hostile.Strangers) -> list[str]:
        return ["honest", "times of 1e308"]

    monkeypatch.setattr(hostile.Strangers, "names", property(few))
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["protocol", "--case", "hostile", "--depth", "1", "--repeats", "1"]) == 0
    shown = capsys.readouterr().out
    assert "honest *" in shown
    assert "implausible" in shown
    assert main(["protocol", "--case", "hostile", "--repeats", "0"]) == 2
    assert "--repeats must be >= 1, got 0; use 1 or more" in capsys.readouterr().err
