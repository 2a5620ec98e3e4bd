"""Synthetic event log: deterministic, and shaped like those of a real volatile run."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace
from support.inner_steps import step_of

from fednano.core.events import (
    CheckpointSaved,
    ClientDown,
    ClientUp,
    Evaluated,
    Event,
    LeaseGranted,
    LeaseReleased,
    RoundMerged,
    RoundSkipped,
    RoundStarted,
    RunEnded,
    RunStarted,
    UpdateFolded,
    UpdateRefused,
    WorkDispatched,
)
from fednano.core.inner_step import InnerStep

CLIENTS = ("site-0", "site-1", "site-2", "site-3")
STEPS = 25
TOKENS_PER_STEP = 1024
ROW_TOKENS = 512  # whole rows in a step
ROUND_S = 60.0
MODEL_BYTES = 35_000_000


@dataclass(kw_only=True)
class _Events:
    """State of the generator: who is up, what is trained."""

    rounds: int
    clients: tuple[str, ...]
    rng: random.Random
    events: list[Event] = field(default_factory=list)
    up: set[str] = field(default_factory=set)
    lease: int = 0
    granted: dict[int, LeaseGranted] = field(default_factory=dict)  # by lease
    version: int = 0
    total: int = 0
    row: int = 0
    free: list[tuple[int, int, int]] = field(default_factory=list)  # spans given back, ascending

    def emit(self, event: Event) -> None:
        self.events.append(event)


def loss_at(tokens: int) -> float:
    """A plausible training loss (nats per token) after so many tokens."""
    return 3.2 + 5.1 * math.exp(-tokens / 260_000)


def volatile_run(
    rounds: int = 20, clients: tuple[str, ...] = CLIENTS, seed: int = 0, status: str = "completed"
) -> list[Event]:
    """An event log of `rounds` rounds (from 0) of about 60 s over clients that come and go.

    Each round one thing happens, by turns: nothing; a client crashes and comes back; one drains; one joins
    in the middle of the round; an update is refused as stale. Every tenth round is skipped.
    """
    event_log = _Events(rounds=rounds, clients=clients, rng=random.Random(seed))
    event_log.emit(
        RunStarted(
            t=0.0,
            runtime="virtual",
            strategy="diloco",
            volatility="markov",
            clients=clients,
            parameters=8_781_828,
            rounds=rounds,
            local_steps=STEPS,
            tokens_per_step=TOKENS_PER_STEP,
            tokens_planned=rounds * len(clients) * STEPS * TOKENS_PER_STEP,
            seed=seed,
            train_rows=20_000,
        )
    )
    for client in clients:
        event_log.up.add(client)
        event_log.emit(ClientUp(t=0.0, client=client))
    event_log.emit(_evaluated(event_log, 0.0, 0))
    for index in range(1, rounds + 1):
        _round(event_log, index)
    end = ROUND_S * rounds + 1.0
    event_log.emit(RunEnded(t=end, status=status, rounds=rounds, tokens_total=event_log.total))
    return event_log.events


def _evaluated(event_log: _Events, t: float, ended: int) -> Evaluated:
    val_loss = loss_at(event_log.total) + 0.05
    return Evaluated(
        t=t,
        round=ended,
        version=event_log.version,
        tokens_total=event_log.total,
        val_loss=val_loss,
        val_bpb=val_loss / math.log(2) / 3.9,
        wall_s=0.8,
    )


def _round(event_log: _Events, index: int) -> None:
    start = ROUND_S * (index - 1)
    kind = ("plain", "crash", "drain", "join", "refuse")[index % 5]
    skipped = index % 10 == 0
    victim = event_log.clients[index % len(event_log.clients)]
    for client in event_log.clients:
        if client not in event_log.up and (kind != "join" or skipped):
            event_log.up.add(client)
            event_log.emit(ClientUp(t=start + 1.0, client=client))
    invited = tuple(c for c in event_log.clients if c in event_log.up)
    event_log.emit(RoundStarted(t=start + 1.0, round=index - 1, version=event_log.version, clients=invited))
    work = {client: _dispatch(event_log, index, client, start + 1.0) for client in invited}
    later = [c for c in event_log.clients if c not in event_log.up]
    for client in later:
        event_log.up.add(client)
        event_log.emit(ClientUp(t=start + 20.0, client=client))
        work[client] = _dispatch(event_log, index, client, start + 20.0)
    folded = []
    for client, granted in work.items():
        left = client == victim and kind in ("crash", "drain")
        if (client == victim and kind == "crash") or (skipped and client != invited[0]):
            _crash(event_log, index, granted, start + 25.0 + event_log.rng.random())
        elif client == victim and kind == "refuse":
            event_log.emit(_refused(index, granted, start + 55.0))
            _release(event_log, index, granted, start + 55.0, "refused")
        else:
            steps = 11 if left else 14 if client in later else STEPS
            folded.append(_fold(event_log, index, granted, granted.t, steps, drained=steps < STEPS))
            if left:
                event_log.up.discard(client)
                event_log.emit(ClientDown(t=start + 30.0, client=client, exit="drain"))
    if skipped:
        for granted in (work[u.client] for u in folded):
            _release(event_log, index, granted, start + 58.0, "skipped")
        event_log.emit(RoundSkipped(t=start + 58.0, round=index - 1, updates=len(folded), reason="quorum"))
        return
    _merge(event_log, index, folded, start + 58.0)


def _dispatch(event_log: _Events, index: int, client: str, t: float) -> LeaseGranted:
    rows = STEPS * TOKENS_PER_STEP // ROW_TOKENS + 1
    event_log.lease += 1
    # What was given back goes first, as the ledger does it.
    spans = (*event_log.free, (event_log.row, 0, event_log.row + rows))
    event_log.free.clear()
    granted = LeaseGranted(
        t=t,
        round=index - 1,
        client=client,
        lease=event_log.lease,
        pool=0,
        spans=spans,
        expires=t + 120.0,
    )
    event_log.row += rows
    event_log.granted[granted.lease] = granted
    event_log.emit(granted)
    event_log.emit(
        WorkDispatched(
            t=t,
            round=index - 1,
            client=client,
            lease=event_log.lease,
            version=event_log.version,
            steps=STEPS,
            bytes=MODEL_BYTES,
        )
    )
    return granted


def _fold(
    event_log: _Events, index: int, granted: LeaseGranted, since: float, steps: int, drained: bool
) -> UpdateFolded:
    tokens = steps * TOKENS_PER_STEP
    busy_from = since + 2.0
    row, token = _cursor(granted.spans, tokens)
    update = UpdateFolded(
        t=busy_from + steps * 1.4 + 3.0,
        round=index - 1,
        client=granted.client,
        lease=granted.lease,
        version=event_log.version,
        steps=steps,
        tokens=tokens,
        row=row,
        token=token,
        weight=float(tokens),
        norm=0.4 + 0.1 * event_log.rng.random(),
        train_loss=loss_at(event_log.total) + 0.15 * (event_log.rng.random() - 0.5),
        drained=drained,
        bytes=MODEL_BYTES // 2,
        busy_from=busy_from,
        busy_until=busy_from + steps * 1.4,
        wall_train_s=steps * 0.05,
    )
    event_log.emit(update)
    return update


def _cursor(spans: tuple[tuple[int, int, int], ...], tokens: int) -> tuple[int, int]:
    """Where a lease is trained up to after so many tokens."""
    for row, token, stop in spans:
        if tokens < (stop - row) * ROW_TOKENS - token:
            return row + (token + tokens) // ROW_TOKENS, (token + tokens) % ROW_TOKENS
        tokens -= (stop - row) * ROW_TOKENS - token
    raise AssertionError("the lease is too short")


def _crash(event_log: _Events, index: int, granted: LeaseGranted, t: float) -> None:
    event_log.up.discard(granted.client)
    event_log.emit(ClientDown(t=t, client=granted.client, exit="crash"))
    _release(event_log, index, granted, t, "crash")


def _refused(index: int, granted: LeaseGranted, t: float) -> UpdateRefused:
    return UpdateRefused(t=t, round=index - 1, client=granted.client, lease=granted.lease, reason="stale", bytes=0)


def _release(event_log: _Events, index: int, granted: LeaseGranted, t: float, reason: str) -> None:
    event_log.emit(LeaseReleased(t=t, round=index - 1, client=granted.client, lease=granted.lease, reason=reason))
    event_log.free = sorted([*event_log.free, *granted.spans])


def _merge(event_log: _Events, index: int, folded: list[UpdateFolded], t: float) -> None:
    tokens = sum(u.tokens for u in folded)
    event_log.version += 1
    event_log.total += tokens
    for update in folded:
        event_log.free += [
            (max(row, update.row), token if row > update.row else update.token, stop)
            for row, token, stop in event_log.granted[update.lease].spans
            if stop > update.row
        ]
    event_log.free.sort()
    event_log.emit(
        RoundMerged(
            t=t,
            round=index - 1,
            version=event_log.version,
            leases=tuple(u.lease for u in folded),
            steps=sum(u.steps for u in folded),
            tokens=tokens,
            tokens_total=event_log.total,
            norm=0.31,
            train_loss=sum(u.train_loss * u.tokens for u in folded) / tokens,
            lr_scale=1.0,
            wall_s=6.2,
            wall_train_s=5.1,
        )
    )
    if index % 2 == 0 or index == event_log.rounds:
        event_log.emit(_evaluated(event_log, t + 0.5, index))
    event_log.emit(
        CheckpointSaved(t=t + 0.6, round=index, version=event_log.version, name=f"version_{event_log.version:06d}")
    )


def centralized_run(rounds: int = 10) -> list[Event]:
    """The baseline: no clients, no leases, rounds that merge."""
    shared = [e for e in volatile_run(rounds) if isinstance(e, RunStarted | RoundMerged | Evaluated | RunEnded)]
    alone = {"runtime": "centralized", "strategy": "central", "volatility": "none", "clients": ()}
    return [
        replace(e, **alone) if isinstance(e, RunStarted) else replace(e, leases=()) if isinstance(e, RoundMerged) else e
        for e in shared
    ]


def summary_of(events: list[Event]) -> dict[str, object]:
    """A `summary.json` that agrees with the event log."""
    first = next(e for e in events if isinstance(e, RunStarted))
    merged = [e for e in events if isinstance(e, RoundMerged)]
    evaluated = [e for e in events if isinstance(e, Evaluated)]
    ended = [e for e in events if isinstance(e, RunEnded)]
    tokens = sum(e.tokens for e in merged)
    rows = sum(e.tokens // ROW_TOKENS for e in merged)
    wall = sum(e.wall_s for e in merged) + sum(e.wall_s for e in evaluated)
    return {
        "status": ended[-1].status if ended else "interrupted",
        "runtime": first.runtime,
        "strategy": first.strategy,
        "parameters": first.parameters,
        "clients": len(first.clients),
        "rounds": len(merged),
        "inner_steps": sum(e.steps for e in merged),
        "tokens": tokens,
        "val_bpb_initial": evaluated[0].val_bpb if evaluated else None,
        "val_bpb": evaluated[-1].val_bpb if evaluated else None,
        "train_loss": merged[-1].train_loss if merged else None,
        "wall_s": wall,
        "train_s": sum(e.wall_train_s for e in merged),
        "data_s": 0.0,
        "virtual_s": max(e.t for e in events),
        "tokens_per_s": tokens / wall if wall else None,
        "goodput": 0.731 if first.clients else None,
        "rows": {"total": 20_000, "done": rows, "leased": 0, "free": 20_000 - rows, "lost": 0, "doubled": 0},
        "bytes": {
            "up": sum(e.bytes for e in events if isinstance(e, UpdateFolded)),
            "down": sum(e.bytes for e in events if isinstance(e, WorkDispatched)),
        },
        "energy_kwh": None,
        "co2_g": None,
        "peak_rss_mb": 1834.5,
        "weights_sha256": "5f" * 32,
        "tape_sha256": None,
        "seed": first.seed,
        "versions": {"fednano": "0.1.0", "torch": "2.15.0", "flwr": "1.42.0", "python": "3.12.3"},
    }


def steps_of(events: list[Event]) -> Iterator[InnerStep]:
    """The inner steps behind the folded updates."""
    for e in events:
        if isinstance(e, UpdateFolded):
            for k in range(1, e.steps + 1):
                yield step_of(e.client, e.round, k, STEPS, e.train_loss, TOKENS_PER_STEP)
