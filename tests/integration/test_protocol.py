"""The round loop and the virtual grid, with Flower's own apps and small hand-made clients instead of training."""

import math

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace
from support.toy_federation import LINK, TOKENS, FakeWorker, H, federate

from fednano.core.clock import VirtualClock
from fednano.core.events import (
    ClientDown,
    ClientUp,
    LeaseReleased,
    RoundMerged,
    RoundSkipped,
    RoundStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.core.tensors import State
from fednano.data.ledger import Grant, Span
from fednano.flower.compat.messages import LocalMessage
from fednano.flower.records import Unpacked
from fednano.flower.virtual_grid import VirtualGrid, VirtualNode
from fednano.training.worker import Result, Task
from fednano.volatility.availability import Availability, Window
from fednano.volatility.membership import Membership
from fednano.volatility.network import Network
from fednano.volatility.presence import Presence


def changed(result: Result, **fields) -> Result:
    """The result with other figures for the work done."""
    return replace(result, done=replace(result.done, **fields))


def always() -> list[Window]:
    return [Window(0, math.inf, "drain")]


def test_a_message_within_the_process_says_what_flowers_own_says() -> None:
    grid = VirtualGrid(app=ClientApp(), nodes=[], clock=VirtualClock(), network=LINK, size=lambda content: 0)
    content = Unpacked(
        Task(client="a", round=0, version=0, lease=0, grant=Grant(0, ()), steps=1, tokens_total=0, peers=1, horizon=1)
    )
    made = grid.create_message(content, "train", 7, "3")
    flowers = Message(content, 7, "train", group_id="3")
    assert isinstance(made, LocalMessage)
    for message in (made, flowers):
        message.metadata.__dict__["_message_id"] = "5"
    # What names Flower's own processes and its wall clock is left out.
    unsaid = {"_created_at", "_src_task_id", "_dst_task_id"}
    pairs = [(made, flowers), (LocalMessage.reply(content, made), Message(content, reply_to=flowers))]
    for ours, theirs in pairs:
        assert ours.content is content
        assert not ours.has_error()
        ours_said, said = ({k: v for k, v in vars(m.metadata).items() if k not in unsaid} for m in (ours, theirs))
        assert ours_said == {**said, "_ttl": pytest.approx(said["_ttl"], abs=60)}


def test_everyone_up_takes_all_steps() -> None:
    run = federate([always()] * 3, rounds=2)
    assert [u.steps for u in run.of(UpdateFolded)] == [H] * 6
    assert run.federation.state.weights["w"].item() == -2 * H
    assert [m.t for m in run.of(RoundMerged)] == [H + 0.5, 2 * (H + 0.5)]
    assert run.federation.state.version == 2


def test_a_window_that_ends_is_drained_in_time() -> None:
    run = federate([always(), [Window(0, 5.3, "drain")]])
    first, second = run.of(UpdateFolded)
    assert (first.client, first.steps, first.drained) == ("c1", 4, True)
    assert (second.client, second.steps, second.drained) == ("c0", H, False)
    assert [(e.client, e.exit) for e in run.of(ClientDown)] == [("c1", "drain")]
    # 4 steps of 40 tokens and 10 steps of 40: the mean is weighted by tokens.
    assert run.federation.state.weights["w"].item() == pytest.approx(-(4 * 4 + 10 * 10) / 14)


def test_a_crash_frees_the_rows_for_others() -> None:
    run = federate([[Window(0, math.inf, "drain")], [Window(0, 5.3, "crash"), Window(6, math.inf, "drain")]], rounds=2)
    assert run.workers["c1"].crashes == 1
    assert [(e.client, e.reason) for e in run.of(LeaseReleased)] == [("c1", "crash")]
    assert [(e.client, e.exit) for e in run.of(ClientDown)] == [("c1", "crash")]
    lost, *later = [e for e in run.events if type(e).__name__ == "LeaseGranted" and e.client == "c1"]
    # The first rows that it is given afterwards are those that it lost.
    assert later[0].spans[0][:2] == lost.spans[0][:2]


def test_a_download_is_cut_by_a_client_that_goes_and_comes_back() -> None:
    """Sent at 0 s, it would arrive at 0.25 s, when the client is up again."""
    run = federate([[Window(0, 0.1, "drain"), Window(0.2, math.inf, "drain")]])
    assert run.workers["c0"].crashes == 1
    assert [(e.t, e.exit) for e in run.of(ClientDown)] == [(0.1, "crash")]
    assert [e.reason for e in run.of(LeaseReleased)] == ["crash"]


def test_an_upload_is_cut_by_a_client_that_goes() -> None:
    """Without notice it trains until there is no time left to submit: 10 steps from 0.25 s on, 0.25 s to send."""
    late = federate([[Window(0, 10.4, "drain", notice_s=0.2), Window(11, math.inf, "drain")]])
    assert late.workers["c0"].crashes == 1
    assert [(e.t, e.exit) for e in late.of(ClientDown)] == [(10.4, "crash")]
    warned = federate([[Window(0, 10.4, "drain", notice_s=2), Window(11, math.inf, "drain")]])
    assert [(u.steps, u.drained) for u in warned.of(UpdateFolded)] == [(9, True)]


def test_late_transfers_take_virtual_time() -> None:
    clock, own = VirtualClock(), VirtualClock()
    network = Network(name="late", up_mbit_s=8, down_mbit_s=8, latency_s=0.25, jitter_s=2.0)
    presence = Presence(Membership({"a": Availability(iter(always()))}), "a", own, 0.0)

    app = ClientApp()
    app.train()(lambda message, context: Message(message.content, reply_to=message))
    node = VirtualNode("a", own, presence, lambda: None)
    grid = VirtualGrid(app=app, nodes=[node], clock=clock, network=network, size=lambda content: 1_000_000, seed=4)
    message = grid.create_message(RecordDict(), "train", next(iter(grid.get_node_ids())), "0")
    assert len(list(grid.send_and_receive([message]))) == 1
    late = network.late_s(0, 4, repr(0.0), "down") + network.late_s(0, 4, repr(0.0), "up")
    assert clock.now() == pytest.approx(2 * 1.25 + late)
    assert late > 0


def test_a_late_joiner_gets_what_still_fits() -> None:
    run = federate([always(), [Window(4, math.inf, "drain")]])
    assert [(e.client, e.steps) for e in run.of(WorkDispatched)] == [("c0", H), ("c1", 6)]
    assert [m.t for m in run.of(RoundMerged)] == [H + 0.5]
    assert len(run.of(RoundMerged)[0].leases) == 2


def test_who_comes_back_in_the_same_round_works_again() -> None:
    run = federate([always(), [Window(0, 3, "drain"), Window(4, math.inf, "drain")]])
    assert [(u.client, u.steps) for u in run.of(UpdateFolded)] == [("c1", 2), ("c0", H), ("c1", 6)]


def test_a_round_waits_for_the_first_client() -> None:
    run = federate([[Window(7, math.inf, "drain")]])
    assert [e.t for e in run.of(ClientUp)] == [7]
    assert run.of(RoundMerged)[0].t == 7 + H + 0.5


def test_no_round_is_spent_on_clients_that_are_about_to_leave() -> None:
    """After the drain at 5 s the client is up until 5.9 s, but no client can begin a round before 20 s."""
    run = federate([[Window(0, 5.9, "drain"), Window(20, math.inf, "drain")]], rounds=2)
    assert [(e.t, len(e.clients)) for e in run.events if isinstance(e, RoundStarted)] == [(0, 1), (20, 1)]
    assert [u.steps for u in run.of(UpdateFolded)] == [5, H]


def test_below_quorum_nothing_changes() -> None:
    run = federate([always(), [Window(0, 0.4, "crash")]], quorum=2)
    assert run.of(RoundMerged) == []
    assert [e.updates for e in run.of(RoundSkipped)] == [1]
    assert run.federation.state.weights["w"].item() == 0.0
    assert run.federation.ledger.counts()["done"] == 0


def test_nobody_ever_is_an_error() -> None:
    with pytest.raises(ValueError, match="no client is ever up after 3 s; change volatility"):
        federate([[Window(0, 3, "crash")]], rounds=3)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda task, result, delta: (result, {"w": torch.tensor([math.nan])}), "non_finite"),
        (lambda task, result, delta: (result, {"w": torch.tensor([math.inf])}), "non_finite"),
        (lambda task, result, delta: (replace(result, version=9), delta), "stale"),
        (lambda task, result, delta: (replace(result, round=9), delta), "stale"),
        (lambda task, result, delta: (replace(result, lease=0), delta), "stale"),
        (lambda task, result, delta: (replace(result, token="0"), delta), "forged"),
        (lambda task, result, delta: (replace(result, token=""), delta), "forged"),
        (lambda task, result, delta: (replace(result, task_client="c0"), delta), "stale"),
        (lambda task, result, delta: (result, {"v": delta["w"]}), "malformed"),
        (lambda task, result, delta: (result, {"w": torch.zeros(2)}), "malformed"),
        (lambda task, result, delta: (changed(result, cursor=(10**6, 0)), delta), "malformed"),
        (lambda task, result, delta: (changed(result, left=(Span(10**6, 0, 10**6 + 1),)), delta), "malformed"),
        (
            lambda task, result, delta: (changed(result, left=(Span(task.grant.spans[0].row, -1, 1),)), delta),
            "malformed",
        ),
        (lambda task, result, delta: (changed(result, tokens=7), delta), "malformed"),
        (lambda task, result, delta: (replace(result, ahead=(0.0,)), delta), "malformed"),
        (lambda task, result, delta: (replace(result, ahead=(0.0, math.nan)), delta), "malformed"),
        (lambda task, result, delta: (replace(result, ahead=(0.0, result.busy_until)), delta), "malformed"),
        (lambda task, result, delta: (changed(result, steps=H + 1, tokens=(H + 1) * TOKENS), delta), "malformed"),
    ],
)
def test_bad_updates_are_refused_and_their_rows_freed(spoil, reason: str) -> None:
    only_second = lambda task, result, delta: spoil(task, result, delta) if task.client == "c1" else (result, delta)  # noqa: E731
    run = federate([always(), always()], spoil=only_second)
    assert [(e.client, e.reason) for e in run.of(UpdateRefused)] == [("c1", reason)]
    assert [(e.client, e.reason) for e in run.of(LeaseReleased)] == [("c1", "refused")]
    assert run.federation.state.weights["w"].item() == -H


def test_a_live_server_refuses_the_reply_of_a_client_that_it_took_for_dead() -> None:
    seen = [always(), [Window(0, 5.3, "crash"), Window(6, math.inf, "drain")]]
    run = federate([always(), always()], rounds=3, seen=seen)
    assert [(e.client, e.reason) for e in run.of(LeaseReleased)] == [("c1", "crash")]
    assert [(e.client, e.reason) for e in run.of(UpdateRefused)] == [("c1", "expired")]
    # It is back at 6 s and is given what still fits into the round, once it is done with the old.
    assert [u.client for u in run.of(UpdateFolded)] == ["c0", "c1", "c0", "c1", "c0", "c1"]


def test_a_reply_after_the_round_closed_is_refused() -> None:
    def dawdle(task: Task, result: Result, delta: State) -> tuple[Result, State]:
        if task.client == "c1" and task.round == 0:
            workers["c1"].clock.charge(8.0)
        return result, delta

    workers: dict[str, FakeWorker] = {}
    original = FakeWorker.__init__

    def remember(self, clock, presence, *args, **kwargs) -> None:
        original(self, clock, presence, *args, **kwargs)
        workers[presence._client] = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeWorker, "__init__", remember)
        run = federate([always(), always()], rounds=2, slack=1.2, spoil=dawdle)
    assert [(e.client, e.reason) for e in run.of(LeaseReleased)] == [("c1", "expired")]
    assert [(e.client, e.reason) for e in run.of(UpdateRefused)] == [("c1", "expired")]
    assert [len(m.leases) for m in run.of(RoundMerged)] == [1, 2]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_churn_keeps_every_row(data: st.DataObject) -> None:
    """`federate` audits the event log: no lease overlaps another, nothing is trained twice, and the ledger agrees."""

    def windows() -> list[Window]:
        t, result = data.draw(st.floats(0, 8)), []
        for _ in range(data.draw(st.integers(0, 5))):
            stop = t + data.draw(st.floats(0.1, 15))
            result.append(Window(t, stop, data.draw(st.sampled_from(["drain", "crash"]))))
            t = stop + data.draw(st.floats(0.05, 6))
        return [*result, Window(t + 1, math.inf, "drain")]

    clients = data.draw(st.integers(1, 5))
    federate([windows() for _ in range(clients)], rounds=4, quorum=data.draw(st.integers(1, clients)), rows=37)


def test_send_and_receive_waits_in_virtual_time() -> None:
    clock, own = VirtualClock(), VirtualClock()
    membership = Membership({"a": Availability(iter(always()))})
    presence = Presence(membership, "a", own, 0.0)

    def echo(message: Message, context: Context) -> Message:
        own.charge(3.0)
        return Message(message.content, reply_to=message)

    app = ClientApp()
    app.train()(echo)
    grid = VirtualGrid(
        app=app,
        nodes=[VirtualNode("a", own, presence, lambda: None)],
        clock=clock,
        network=LINK,
        size=lambda content: 0,
    )
    message = lambda: grid.create_message(RecordDict(), "train", next(iter(grid.get_node_ids())), "0")  # noqa: E731
    assert list(grid.send_and_receive([message()], timeout=1.0)) == []
    assert clock.now() == 1.0
    assert len(list(grid.send_and_receive([message()]))) == 1
    # The second message waits until the client is done with the first, 3.25 s after its start.
    assert clock.now() == pytest.approx(0.25 + 3.0 + 0.25 + 3.0 + 0.25)


def test_a_grid_that_does_not_tell_what_arrived_is_asked_for_each() -> None:
    windows = [[Window(0, 12.3, "drain"), Window(14, math.inf, "drain")], always(), always(), [Window(3, 9, "crash")]]
    expected = federate(windows, rounds=3).events
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fednano.flower.transport.Notifying", int)  # which no grid is
        found = federate(windows, rounds=3).events
    timeless = lambda events: [{k: v for k, v in asdict(e).items() if not k.startswith("wall_")} for e in events]  # noqa: E731
    assert timeless(found) == timeless(expected)
