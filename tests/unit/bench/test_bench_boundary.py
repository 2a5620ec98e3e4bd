"""The bench of what passes between two rounds, on marks made by hand."""

from pathlib import Path

import pytest

from fednano.bench.boundary import boundaries
from fednano.core.marks import VARIABLE, mark, read_marks

# Seconds behind the last step of a round of two, one second each; b's update comes last.
UP = {
    "a": {"answered": 0.0, "sending": 0.1, "asking": 0.2, "sent": 0.3, "pulled": 0.5},
    "b": {"answered": 0.1, "sending": 0.3, "sent": 0.8, "asking": 0.9, "pulled": 1.4},
}
DOWN = {
    "a": {"pushing": 1.6, "pushed": 2.0, "receiving": 1.9, "received": 2.5, "relayed": 2.6, "came": 2.7},
    "b": {"pushing": 2.0, "pushed": 2.2, "receiving": 2.4, "received": 2.9, "relayed": 3.0, "came": 3.1},
}
FIRST = {"a": 3.8, "b": 4.3}  # when the first step of the next round is done


def noted() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for client in "ab":
        for end in (10.0, 20.0):
            passed = {what: end + s for what, s in {**UP[client], **DOWN[client]}.items()}
            found += [{"t": t, "what": what, "client": client} for what, t in passed.items()]
        steps = {0: (9.0, 10.0), 1: (10.0 + FIRST[client], 20.0), 2: (20.0 + FIRST[client], 21.0 + FIRST[client])}
        found += [{"t": t, "what": "step", "client": client, "round": r} for r, ts in steps.items() for t in ts]
    return sorted(found, key=lambda each: float(str(each["t"])))


def test_a_boundary_is_the_sum_of_its_parts() -> None:
    (found,) = boundaries(noted())
    # Up as b: 0.1 + 0.2 + 0.5 + 0.1 + 0.5, merge 0.2, down as b: 0.4 for a's task, 0.2, 0.2, 0.5, 0.1, 0.1, 0.2.
    assert found == {
        "serialization": pytest.approx(0.1 + 0.1 + 0.2),
        "transport": pytest.approx(0.2 + 0.5 + 0.5 + 0.4 + 0.2 + 0.5 + 0.1),
        "poll": pytest.approx(0.1 + 0.2),
        "merge": pytest.approx(0.2),
        "whole": pytest.approx(3.3),
    }


def test_marks_are_made_where_a_file_is_named_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    mark("came", "a")
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(VARIABLE, str(tmp_path / "marks"))
    mark("came", "a")
    mark("step", "a", round=1, step=2)
    first, second = read_marks(tmp_path / "marks")
    assert (first["what"], second["round"], second["step"]) == ("came", 1, 2) and first["t"] <= second["t"]
