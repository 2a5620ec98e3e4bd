"""Goodput of planners and kinds of rounds under churn, on the virtual clock without tensors."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.table import Table

from fednano.codec.pair import CodecPair
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import VirtualClock
from fednano.core.events import ClientDown, Event, LeaseReleased, RoundMerged, RunEnded, UpdateFolded, WorkDispatched
from fednano.data.ledger import Ledger
from fednano.data.loader import STREAM, TextSource
from fednano.federation.loop import Federation
from fednano.federation.plan import Plan, Site
from fednano.federation.planner import Aware, Blind, Oracle, Planner
from fednano.federation.round_length import Rounds
from fednano.flower.client_app import make_client_app
from fednano.flower.transport import FlowerTransport
from fednano.flower.virtual_grid import SERVER_NODE_ID, VirtualGrid, VirtualNode
from fednano.report.terminal.printer import printer
from fednano.strategy.base import ServerState, Strategy
from fednano.strategy.outer.sgd import SGD
from fednano.strategy.streaming import Streaming
from fednano.strategy.synchronous import Synchronous
from fednano.training.analytic import AnalyticTrainer
from fednano.training.recorder import Recorder, RunProgress, unsaved
from fednano.training.worker import ClientWorker
from fednano.volatility.membership import Membership
from fednano.volatility.network import Network
from fednano.volatility.presence import Presence
from fednano.volatility.profiles import Markov

SHAPE = (1, 4)  # of a batch; a row holds four tokens, so a step takes one row
TOKENS = SHAPE[0] * SHAPE[1]
PLANNERS: dict[str, Planner] = {"blind": Blind(), "aware": Aware(), "oracle": Oracle()}
NO_TEXT = TextSource(lambda rows: [], lambda texts: ([], []), 0)  # type: ignore[arg-type, return-value]


@dataclass(kw_only=True)
class Play:
    """The protocol, played over `membership` with clients that train nothing but take time.

    Args:
        membership: when clients are up.
        rounds: number of rounds.
        local_steps: H.
        step_s: seconds of an inner step; several values are dealt to the clients in turn.
        transfer_s: seconds of each transfer.
        length: the length of rounds.
        planner: what the server knows about the ends of windows.
        quorum: updates that a merge needs.
        slack: factor on a round's planned seconds.
        rows: number of rows in the only pool.
        grid: carries the messages.
        strategy: merges; None: FedAvg with this `local_steps`, `quorum` and `slack`.
    """

    membership: Membership
    rounds: int
    local_steps: int
    step_s: Sequence[float] = (1.0,)
    transfer_s: float = 0.25
    length: Rounds = field(default_factory=Rounds)
    planner: Planner = field(default_factory=Blind)
    quorum: int = 1
    slack: float = 1.5
    rows: int = 10**7
    grid: type[VirtualGrid] = VirtualGrid
    strategy: Strategy | None = None
    events: list[Event] = field(default_factory=list)

    def run(self) -> Federation:
        """Play all rounds; fills `events`."""
        names, clock, store = self.membership.clients, VirtualClock(), MemoryStore()
        sites = {
            name: Site(
                node_id=SERVER_NODE_ID + 1 + i,
                pool=0,
                step_s=self._step_s(i),
                down_s=self.transfer_s,
                up_s=self.transfer_s,
            )
            for i, name in enumerate(names)
        }
        measured = lambda weights: (0.0, 0.0)  # noqa: E731
        recorder = Recorder(
            eval_every=self.rounds,
            checkpoint_every=self.rounds,
            evaluate=measured,
            mark=unsaved,
            emit=self.events.append,
            clock=clock,
            progress=RunProgress(),
        )
        strategy: Any = self.strategy or Synchronous(
            name="play", outer=SGD(1.0), local_steps=self.local_steps, quorum=self.quorum, slack=self.slack
        )
        federation = Federation(
            strategy=strategy,
            state=ServerState(),
            plan=Plan(
                rounds=self.rounds,
                tokens_per_step=TOKENS,
                horizon=1,
                lr_scale=lambda *_: 1.0,
                rows_for=lambda _, n: n // TOKENS + 1,
                length=self.length,
                planner=self.planner,
            ),
            sites=sites,
            ledger=Ledger([self.rows]),
            store=store,
            membership=self.membership,
            clock=clock,
            recorder=recorder,
        )
        federation.run(FlowerTransport(self._grid(names, clock, store), CodecPair(), trains=False))
        self.events.append(
            RunEnded(t=clock.now(), status="completed", rounds=self.rounds, tokens_total=recorder.progress.tokens)
        )
        return federation

    def _sure_until(self, client: str, t: float) -> float:
        return self.membership.steady_until(client, t) - self.transfer_s

    def _step_s(self, index: int) -> float:
        return self.step_s[index % len(self.step_s)]

    def _grid(self, names: Sequence[str], clock: VirtualClock, store: MemoryStore) -> VirtualGrid:
        workers, nodes = {}, []
        for i, name in enumerate(names):
            own = VirtualClock()
            presence = Presence(self.membership, name, own, self.transfer_s)
            workers[name] = ClientWorker(
                client=name,
                trainer=AnalyticTrainer(TOKENS, TOKENS, self._sure_until),
                source=NO_TEXT,
                pools=[range(self.rows)],
                shape=SHAPE,
                packing=STREAM,
                tokens_per_s=TOKENS / self._step_s(i),
                clock=own,
                may_step=presence.may_step,
                on_step=lambda *_: None,
                speed=partial(self.membership.speed, name),
                asked=store.drain_requested,
                might_step=presence.might_step,
                streaming=Streaming.of(self.strategy),
            )
            nodes.append(VirtualNode(name, own, presence, workers[name].crashed))
        app = make_client_app(lambda context: workers[str(context.node_config["name"])], CodecPair())
        link = Network(name="link", up_mbit_s=1.0, down_mbit_s=1.0, latency_s=self.transfer_s)
        return self.grid(app=app, nodes=nodes, clock=clock, network=link, size=lambda content: 0)

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def goodput(play: Play) -> dict[str, float]:
    """Shares of the clients' time up: merged work, lost work, transfers, waiting.

    Waiting is the remainder: for other clients at the end of a round, for the next round after joining, or before
    leaving.
    """
    ends = play.events[-1].t
    up = sum(play.membership.up_seconds(client, ends) for client in play.membership.clients)
    merged = {lease for e in play.events if isinstance(e, RoundMerged) for lease in e.leases}
    folded = [e for e in play.events if isinstance(e, UpdateFolded)]
    sent = {e.lease: e.t for e in play.events if isinstance(e, WorkDispatched)}
    given_up = [e for e in play.events if isinstance(e, LeaseReleased) and e.reason not in ("end", "unused")]
    lost = sum(e.t - sent[e.lease] for e in given_up)
    work = sum(e.trained_s for e in folded if e.lease in merged)
    transfers = 2 * play.transfer_s * len(merged)
    waiting = up - work - lost - transfers
    figures = {"goodput": work, "lost": lost, "transfers": transfers, "waiting": waiting}
    shares = {name: seconds / up for name, seconds in figures.items()}
    shares["boundaries"] = shares["transfers"] + shares["waiting"]
    return {**shares, "crashes": sum(isinstance(e, ClientDown) and e.exit == "crash" for e in play.events)}


def measure(chosen: argparse.Namespace) -> list[dict[str, object]]:
    """A row of figures per way of leaving and planner, all with the same seed."""
    names = [f"client_{i}" for i in range(chosen.clients)]
    length = Rounds(elastic=chosen.elastic)
    rounds = round(chosen.hours * 3600 / (chosen.local_steps * chosen.step_s + 2 * chosen.transfer_s))
    rows: list[dict[str, object]] = []
    for leaves in ("drain", "crash"):
        for name, planner in PLANNERS.items():
            profile = Markov(exit=leaves, mean_up_s=chosen.up_s, mean_down_s=chosen.down_s)
            play = Play(
                membership=Membership.draw(profile, names, chosen.seed),
                rounds=rounds,
                local_steps=chosen.local_steps,
                step_s=(chosen.step_s,),
                transfer_s=chosen.transfer_s,
                length=length,
                planner=planner,
            )
            play.run()
            rows.append({"exit": leaves, "planner": name, **goodput(play), "hours": play.events[-1].t / 3600})
    return rows


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fednano.bench planners",
        description="Compare the goodput of planners while clients come and go, on the virtual clock without tensors.",
    )
    parser.add_argument("--clients", type=int, default=8, help="number of clients")
    parser.add_argument("--up-s", type=float, default=3600.0, help="mean seconds that a client is up")
    parser.add_argument("--down-s", type=float, default=3600.0, help="mean seconds that a client is down")
    parser.add_argument("--local-steps", type=int, default=90, help="inner steps per round")
    parser.add_argument("--step-s", type=float, default=1.0, help="seconds of an inner step")
    parser.add_argument("--transfer-s", type=float, default=0.5, help="seconds of each transfer")
    parser.add_argument("--hours", type=float, default=48.0, help="approximate hours of virtual time")
    parser.add_argument("--elastic", action="store_true", help="a client that is up alone trains without rounds")
    parser.add_argument("--seed", type=int, default=0, help="of the times up and down")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    chosen = parser.parse_args(arguments)
    rows = measure(chosen)
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(
        title=f"shares of the time up, {chosen.clients} clients, H {chosen.local_steps} of {chosen.step_s:g} s"
    )
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("exit", "planner") else "right")
    for row in rows:
        table.add_row(*(_shown(name, value) for name, value in row.items()))
    printer().print(table)


def _shown(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if name == "hours" else f"{value:.1%}"
    return str(value)
