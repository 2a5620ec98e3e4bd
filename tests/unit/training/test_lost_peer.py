"""What is said of a rank that ended: one line, since the cause lies in that rank's own output."""

import pytest

from fednano.core.failures import explained
from fednano.training.replicas import PeerLostError, Replicas


def test_a_lost_rank_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*given: object) -> None:
        raise RuntimeError("Connection reset\nby peer")

    monkeypatch.setattr("torch.distributed.all_gather_object", lost)
    with pytest.raises(PeerLostError) as caught:
        Replicas(0, 2).gather(1)
    assert explained(caught.value) == (
        "another rank ended or does not answer (Connection reset by peer); see its output for the cause"
    )
