"""The round loop over the clients that are up.

The loop is the same on a virtual clock and on a real one. It wakes when a reply arrives, when a client comes or goes
and when the round closes. It accumulates updates as they arrive, gives late joiners the work that still fits into the
round, and frees the rows of lost clients.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fednano.coordination.store import CoordinationStore
from fednano.core.clock import Clock, wall
from fednano.core.events import ClientUp, RoundStarted, WorkDispatched
from fednano.data.ledger import Ledger
from fednano.data.tally import Tally
from fednano.federation.fragments.slices import Accumulators, Slices
from fednano.federation.intake import Intake
from fednano.federation.leases import Granted, Leases
from fednano.federation.merging import Merging
from fednano.federation.pending import Pending
from fednano.federation.plan import Given, Plan, Round, Site
from fednano.federation.replies import Replies
from fednano.federation.roster import Roster
from fednano.federation.round_length import fastest
from fednano.federation.transport import Transport
from fednano.optim.inner import is_count
from fednano.strategy.base import ServerState, Strategy
from fednano.strategy.mean import WeightedMean
from fednano.training.recorder import Recorder
from fednano.training.worker import Task
from fednano.volatility.membership import Members


class Federation:
    """The state of one federated run and the loop that moves it.

    At each wake-up it visits only the clients that have come, gone or answered, so the cost per client does not grow
    with the number of clients. A state without weights runs the protocol without training: no norms, no losses.

    A `live` federation knows less than one on a virtual clock. A client that is gone may only be unreachable, so its
    reply is still awaited, and then refused. A live run cannot be resumed bit for bit, so a reply on its way does not
    delay a checkpoint.
    """

    def __init__(
        self,
        *,
        strategy: Strategy,
        state: ServerState,
        plan: Plan,
        sites: dict[str, Site],
        ledger: Ledger,
        store: CoordinationStore,
        membership: Members,
        clock: Clock,
        recorder: Recorder,
        live: bool = False,
        tally: Tally | None = None,
    ) -> None:
        self.state = state
        self.ledger = ledger
        self._strategy = strategy
        self._plan = plan
        self._sites = sites
        self._store = store
        self._membership = membership
        self._clock = clock
        self._recorder = recorder
        self._live = live
        self._emit = recorder.emit
        # Clients of a live run may have lost what they held.
        self._slices = Slices.of(strategy, state, {} if live else recorder.progress.holdings)
        self._leases = Leases(
            store=store,
            ledger=ledger,
            plan=plan,
            sites=sites,
            clock=clock,
            emit=recorder.emit,
            freed=self._slices.forget,
        )
        self._progress = recorder.progress
        self._roster = Roster(membership)
        self._pending = Pending()
        self._last: Round | None = None
        intake = Intake(
            strategy=strategy,
            plan=plan,
            ledger=ledger,
            clock=clock,
            progress=recorder.progress,
            slices=self._slices,
            tally=tally,
        )
        self._pacing = intake.pacing
        self._replies = Replies(
            intake=intake,
            pending=self._pending,
            roster=self._roster,
            leases=self._leases,
            store=store,
            clock=clock,
            emit=recorder.emit,
        )
        self._merging = Merging(
            strategy=strategy,
            slices=self._slices,
            plan=plan,
            leases=self._leases,
            clock=clock,
            progress=recorder.progress,
            emit=recorder.emit,
        )

    def resume(self, up: tuple[str, ...], leaving: tuple[str, ...]) -> None:
        """Resume where the clients in `up` were up and those in `leaving` had drained."""
        self._roster.restore(up, leaving)

    def run(self, transport: Transport) -> None:
        """Run all rounds. Raises StopRequestedError on a stop request; the state is then that of the last merge."""
        self._note_changes()
        self._recorder.begin(self.state, self.ledger, self._roster.everyone)
        self._merging.since = wall()
        for index in self._progress.left(self._plan.rounds):
            self._note_changes()  # clients come and go while a live server evaluates
            self._replies.expire(self._pending.give_up_older(self._pacing.oldest(self.state.version)))
            self._await_someone(transport)
            self._round(transport, index)
            self._progress.rounds = index + 1
            if last := self._recorder.ended(self._plan.rounds, self._plan.budget):
                self.abandon()  # leases granted ahead for a round that never begins, and work that outlives the last
            quiet = self._live or (self._pending.quiet and not self._leases.any_ahead)
            if quiet and self._slices.holdings:
                self._progress.holdings = self._slices.holdings.record()
            self._recorder.after_round(
                self.state,
                self.ledger,
                last=last,
                up=self._roster.everyone,
                leaving=self._roster.leaving,
                quiet=quiet,
            )

    def abandon(self) -> None:
        """Free the rows of all work in progress, when the run stops in the middle of a round."""
        self._leases.release_all()
        self._pending.forget_wanted()

    # One round

    def _round(self, transport: Transport, index: int) -> None:
        now = self._clock.now()
        self.state = replace(self.state, tokens=self._progress.tokens, horizon=self._plan.horizon)
        round_ = self._opened(index, now)
        there = () if round_.carries else self._roster.everyone
        self._emit(RoundStarted(t=now, round=index, version=self.state.version, clients=there))
        transport.publish(self.state.weights, self.state.version)
        if round_.alone:
            self._leases.drop_for(index)  # in single-client mode it needs more rows than one round has
        self._dispatch(transport, round_, now)
        if not round_.carries:
            self._leases.drop_for(index)
        if self._pending.carried:
            self._replies.collect(transport, round_, self.state)  # what came with the updates of the last merge
            round_.begin_grace(now)
            self._dispatch(transport, round_, now)
        while self._goes_on(round_):
            self._clock.wait(min(self._membership.next_change(self._clock.now()), round_.closes))
            self._replies.collect(transport, round_, self.state)
            round_.begin_grace(self._clock.now())
            self._note_changes(round_)
            self._dispatch(transport, round_, self._clock.now())
        if round_.passes_on:
            self._pending.carry(round_)
        else:
            self._replies.expire(self._pending.give_up())
        if round_.settles:
            self._leases.drop_all()
        self.state = self._merging.close(round_, self.state)
        self._last = round_

    def _opened(self, index: int, now: float) -> Round:
        """A round that begins now, with the work of earlier ones that is still wanted."""
        idle = self._roster.idle(self._roster.everyone)
        self._roster.set_free(idle)
        able = self._able(idle)
        length = self._duration([*able, *self._pending.clients()])
        dynamic = self._plan.length.local_steps == "dynamic"
        paced = self._roster.everyone if self._pacing.carries and dynamic else able
        # On a virtual clock, a client whose reply is late would join without an arrival event.
        alone = self._plan.length.elastic and len(able) == 1 and (self._live or not self._pending.late)
        if alone:
            length *= self._plan.length.alone
        if settles := self._settles(index):
            length *= 2 if self._plan.length.overlap else 1  # clients that train on have another task to do
        round_ = Round(
            index=index,
            started=now,
            ends=now + length,
            closes=now + self._strategy.slack * length,
            accumulators=Accumulators.of(self._strategy, self.state, self._slices),
            inner=WeightedMean(self.state.inner, is_count),
            fastest_s=fastest(self._sites[client] for client in paced),
            alone=alone,
            adopts=alone and self._plan.length.alone_merge == "adopt",
            overlaps=not alone and self._overlaps(index),
            quorum=self._strategy.quorum,
            grace=self._slices.grace(self._pacing.grace, self._strategy.local_steps),
            carries=self._pacing.carries,
            settles=settles,
        )
        if self._last and self._last.accumulated:
            round_.take_over(self._last)
        for work in self._pending.carried.values():
            round_.planned[work.lease.id], round_.given[work.lease.id] = work.steps, work.given
        return round_

    def _goes_on(self, round_: Round) -> bool:
        """Whether the round is still open and there is something to wait for."""
        return self._clock.now() < round_.closes and self._pending.wanted

    def _settles(self, index: int) -> bool:
        """Whether a round leaves no work to later ones: the last, and one with a checkpoint, which holds none.

        A live run cannot resume bit for bit, so its checkpoints need not wait.
        """
        next_ = index + 1
        return self._pacing.carries and (next_ >= self._plan.rounds or (not self._live and self._recorder.due(next_)))

    def _overlaps(self, index: int) -> bool:
        """Whether clients take overlapped steps of the next round; not across a checkpoint."""
        next_ = index + 1
        return self._plan.length.overlap > 0 and next_ < self._plan.rounds and not self._recorder.due(next_)

    def _dispatch(self, transport: Transport, round_: Round, now: float) -> None:
        """Dispatch a task to every idle client that has time for at least one step before the round ends."""
        for client in self._roster.take_free():
            if client in round_.served or now >= round_.closes:
                continue
            H, window_s = self._strategy.local_steps, self._window_s(client, now)
            steps, seconds = self._plan.work(self._sites[client], round_, now, H, window_s)
            if steps < 1:
                # A client without time now has none later in the round, but more tokens may come to be missing.
                if self._plan.length.until == "tokens":
                    self._roster.keep_free(client)
                continue
            round_.served.add(client)
            granted, steps = self._leases.grant(client, round_, steps, H)
            task, lease = self._task(granted, round_, steps, seconds), granted.lease
            parcel = transport.pack(task)
            round_.planned[lease.id] = steps
            round_.given[lease.id] = Given(
                granted=granted.at,
                sent=now,
                wall=granted.wall,
                version=task.version,
                fragment=task.stream.due if task.stream else 0,
            )
            if round_.alone:
                # A virtual clock computes the whole task at once, so it needs the next arrival in advance.
                self._store.request_drain(lease.id, self._membership.next_arrival(now, besides=client))
            self._progress.bytes_down += parcel.size
            self._emit(
                WorkDispatched(
                    t=self._clock.now(),
                    round=round_.index,
                    client=client,
                    lease=lease.id,
                    version=self.state.version,
                    steps=steps,
                    bytes=parcel.size,
                )
            )
            message_id = transport.send(parcel, self._sites[client].node_id, str(round_.index))
            self._pending.current[message_id] = lease
            self._roster.asked(client, message_id)

    def _window_s(self, client: str, now: float) -> float:
        """Seconds that a client can train from now and still submit, according to the planner."""
        return self._sites[client].window_s(self._plan.planner.known_end(self._membership, client, now) - now)

    def _task(self, granted: Granted, round_: Round, steps: int, seconds: float) -> Task:
        lease = granted.lease
        H = self._strategy.local_steps
        ahead = self._leases.grant_ahead(lease.client, round_, H) if round_.overlaps else None
        version, total = self.state.version, self._progress.tokens
        horizon, inner, peers = self._plan.horizon, self.state.inner, self._roster.peers
        return Task(
            client=lease.client,
            round=lease.round,
            version=version,
            lease=lease.id,
            grant=granted.rows,
            steps=steps,
            tokens_total=total,
            peers=peers,
            horizon=horizon,
            inner=inner,
            seconds=seconds,
            token=lease.token,
            whole=round_.adopts,
            ahead=ahead,
            stream=self._slices.task(lease.client, lease.round, not round_.carries, self.state),
        )

    # Membership

    def _able(self, idle: Iterable[str]) -> list[str]:
        """The idle clients that have time for a step and both transfers before they leave, according to the planner."""
        now = self._clock.now()
        return [client for client in idle if self._window_s(client, now) >= self._sites[client].step_s]

    def _duration(self, clients: Sequence[str]) -> float:
        """Planned seconds of a round with these clients."""
        sites = [self._sites[client] for client in clients]
        return self._plan.length.duration(sites, self._strategy.local_steps, self._plan.tokens_per_step)

    def _end_alone(self, round_: Round) -> None:
        """End single-client mode when another client arrives: its client is asked to submit before any other begins."""
        now = self._clock.now()
        for lease in self._pending.current.values():
            self._store.request_drain(lease.id, now)
        round_.ends = now
        round_.closes = min(round_.closes, now + self._strategy.slack * self._duration(self._roster.everyone))
        round_.alone = False

    def _await_someone(self, transport: Transport) -> None:
        """Wait until a round can begin."""
        while not self._pending.carried and not self._able(self._roster.idle(self._roster.everyone)):
            change = self._membership.next_change(self._clock.now())
            if change == math.inf and not self._pending.late:
                raise ValueError(f"no client is ever up after {self._clock.now():g} s; change volatility or clients")
            self._clock.wait(change)
            self._replies.collect(transport, None, self.state)
            self._note_changes()

    def _note_changes(self, round_: Round | None = None) -> None:
        """Record arrivals and departures; the lease of a client that left without submitting is released."""
        now = self._clock.now()
        came, went = self._roster.changes(now)
        for client in went:
            self._replies.left(client, round_, self._live)
        for client in came:
            self._emit(ClientUp(t=now, client=client))
        if came and round_ and round_.alone:
            self._end_alone(round_)
