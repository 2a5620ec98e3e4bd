"""A run that was played through on the virtual clock without tensors, and what its clients' time was spent on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fednano.bench.goodput.spans import TimeSpan, joined, seconds, within, without
from fednano.config.compose import compose_config
from fednano.coordination.memory import MemoryStore
from fednano.core.clock import VirtualClock
from fednano.core.events import Event, LeaseReleased, RoundMerged, UpdateFolded, UpdateRefused, WorkDispatched
from fednano.core.progress import Progress
from fednano.experiment.experiment import Experiment
from fednano.runtime.beginning import message_bytes
from fednano.runtime.parts import Parts
from fednano.runtime.play_through import play
from fednano.volatility.membership import Membership

LOSSES = ("waiting", "transfers", "crashes", "refused", "unmerged")
LOST_AS = {"crash": "crashes", "refused": "refused"}  # by the reason for which a lease was released


@dataclass(frozen=True, kw_only=True)
class Played:
    """Figures of a run. Shares are of the tokens that the clients could have trained while they were up.

    Args:
        parameters: of the model.
        hours: on the virtual clock.
        tokens: merged into the global model.
        merges: outer steps taken.
        goodput: the tokens merged, as a share.
        computing: share of the clients' time up in which they computed, whatever became of it.
        losses: the other shares. waiting: for a merge, or for work. transfers: during which nothing was computed.
            crashes: work that was lost in one. refused: work that came too late, or that the server did not want.
            unmerged: work in progress at the end of the run, and that of skipped rounds.
    """

    parameters: int
    hours: float
    tokens: int
    merges: int
    goodput: float
    computing: float
    losses: dict[str, float]


def played(overrides: Sequence[str], step_s: Sequence[float], progress: Progress) -> Played:
    """Play a run through whose clients take these times for a step, in turn. Raises ValueError for bad overrides."""
    experiment = Experiment(compose_config(["runtime.compute=analytic", *overrides]))
    parts = experiment.parts(experiment.prepare(progress), MemoryStore())
    speeds = tuple(parts.tokens_per_step / seconds for seconds in step_s)
    parts = replace(parts, hardware=replace(parts.hardware, tokens_per_s=speeds))
    clock, events = VirtualClock(), list[Event]()
    tokens = play(parts, message_bytes(parts), clock, events.append).tokens
    return account(parts, events, clock.now(), tokens)


def account(parts: Parts, events: Sequence[Event], ends: float, tokens: int) -> Played:
    """The figures of a run that ended at `ends`, in seconds, and merged `tokens`."""
    names = parts.settings.names
    membership = Membership.draw(parts.volatility, names, parts.settings.seed)
    rates = {name: parts.hardware.speed(i) for i, name in enumerate(names)}
    down_s = {name: site.down_s for name, site in parts.sites(message_bytes(parts)).items()}
    merges = [event for event in events if isinstance(event, RoundMerged)]
    merged = {lease for event in merges for lease in event.leases}
    spent = {name: Spent(down_s[name]) for name in names}
    for name, of_client in _by_client(events).items():
        spent[name].read(of_client, merged, ends)
    possible = sum(membership.full_seconds(name, ends) * rates[name] for name in names)
    up = {name: [(w.start, min(w.stop, ends)) for w in membership.windows(name, ends)] for name in names}
    whole = sum(seconds(up[name]) * rates[name] for name in names)
    shares = defaultdict[str, float](float)
    for name in names:
        for cause, spans in spent[name].shares(up[name]).items():
            shares[cause] += seconds(spans) * rates[name] / whole
    computing = sum(seconds(within(spent[name].computed(), up[name])) for name in names)
    return Played(
        parameters=parts.parameters(),
        hours=ends / 3600,
        tokens=tokens,
        merges=len(merges),
        goodput=tokens / possible if possible else 0.0,
        computing=computing / sum(seconds(up[name]) for name in names),
        losses={cause: shares[cause] for cause in LOSSES},
    )


ClientEvent = WorkDispatched | UpdateFolded | UpdateRefused | LeaseReleased


def _by_client(events: Sequence[Event]) -> dict[str, list[ClientEvent]]:
    found: dict[str, list[ClientEvent]] = defaultdict(list)
    for event in events:
        if isinstance(event, ClientEvent):
            found[event.client].append(event)
    return found


class Spent:
    """What a client's time was spent on, of which each moment counts once: for the first of the causes that has it."""

    def __init__(self, down_s: float) -> None:
        self._down_s = down_s
        self._spans: dict[str, list[TimeSpan]] = {cause: [] for cause in ("merged", *LOSSES)}

    def read(self, events: Sequence[ClientEvent], merged: set[int], ends: float) -> None:
        """Read the client's own events; `merged` are the leases of all merges."""
        sent: dict[int, float] = {}
        late: dict[int, tuple[float, float]] = {}  # work that goes on although its lease has expired
        for event in events:
            match event:
                case WorkDispatched():
                    sent[event.lease] = event.t
                case UpdateFolded():
                    self._spans["merged" if event.lease in merged else "unmerged"] += event.trained
                    begun = sent.pop(event.lease, event.busy_from)
                    self._spans["transfers"] += [(begun, event.busy_from), (event.busy_until, event.t)]
                case UpdateRefused():
                    begun, _ = late.pop(event.lease, (sent.pop(event.lease, event.t), event.t))
                    self._lose("refused", begun, event.t)
                case LeaseReleased() if event.lease in sent:
                    begun = sent.pop(event.lease)
                    if event.reason == "expired":
                        late[event.lease] = (begun, event.t)
                    else:
                        self._lose(LOST_AS.get(event.reason, "unmerged"), begun, event.t)
        for begun, until in late.values():
            self._lose("refused", begun, until)
        for begun in sent.values():
            self._lose("unmerged", begun, ends)

    def _lose(self, cause: str, begun: float, until: float) -> None:
        """Count work for which no update was accepted. When it was computed is not known, but for its download."""
        computes = min(begun + self._down_s, until)
        self._spans["transfers"].append((begun, computes))
        self._spans[cause].append((computes, until))

    def computed(self) -> list[TimeSpan]:
        """When the client computed, or is held to have."""
        return joined(span for cause, spans in self._spans.items() if cause != "transfers" for span in spans)

    def shares(self, up: Sequence[TimeSpan]) -> dict[str, list[TimeSpan]]:
        """The client's time `up`, all of it, by cause."""
        left, found = list(up), dict[str, list[TimeSpan]]()
        for cause in ("merged", "unmerged", "crashes", "refused", "transfers"):
            spans = joined(self._spans[cause])
            found[cause] = within(spans, left)
            left = without(left, spans)
        return {**found, "waiting": left}
