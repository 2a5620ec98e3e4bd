"""The volatility profile, enacted on live nodes: they are started, asked to leave, killed, stopped and cut off.

What is to be done when is a pure function of the profile and the seed; doing it is a thin shell over `NodeControl`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from fednano.core.events import ChaosEnacted
from fednano.core.randomness import generator
from fednano.volatility.availability import Window
from fednano.volatility.membership import Membership

Crash = Literal["kill", "pause", "cut"]
ActionKind = Literal["start", "drain", "reclaim", "kill", "pause", "resume", "cut", "mend", "slow"]
RETURNS: dict[Crash, ActionKind] = {"kill": "start", "pause": "resume", "cut": "mend"}
FIRST_S = 3600.0  # of the profile; scheduled at first, then twice as far each time


@dataclass(frozen=True)
class NodeAction:
    """What is done to a client's node at `at`, seconds of the profile.

    `drain` asks it to submit and leave, `reclaim` takes away what is still there when its window ends. `value` is the
    share of its speed that it is slowed to.
    """

    at: float
    client: str
    kind: ActionKind
    value: float = 1.0


class NodeControl(Protocol):
    """What can be done to the nodes of a live federation, by client. No call waits for the node."""

    def start(self, client: str) -> None:
        """Start a node that does not run."""

    def terminate(self, client: str) -> None:
        """SIGTERM: the node submits after the step under way, and ends."""

    def kill(self, client: str) -> None:
        """SIGKILL to all processes of the node."""

    def pause(self, client: str) -> None:
        """SIGSTOP to all processes of the node."""

    def resume(self, client: str) -> None:
        """SIGCONT to all processes of the node."""

    def cut(self, client: str) -> None:
        """Reset the node's connections and refuse new ones."""

    def mend(self, client: str) -> None:
        """Let the node connect again."""

    def slow(self, client: str, share: float) -> None:
        """Let the node run at a share of its speed."""

    def alive(self, client: str) -> bool:
        """Whether any process of the node is there."""


def check_crashes(shares: Mapping[str, float], key: str = "runtime.crashes") -> None:
    """Raise ValueError unless `shares` says how often a crash is of each kind."""
    for kind, share in shares.items():
        if kind not in get_args(Crash):
            raise ValueError(f"{key} must name kinds of crashes, got {kind}; use {', '.join(get_args(Crash))}")
        if not 0.0 <= share < float("inf"):
            raise ValueError(f"{key}.{kind} must be finite and >= 0, got {share}; use 0 or more")
    if not sum(shares.values()) > 0.0:
        raise ValueError(f"{key} must have a share above 0, got {dict(shares)}; raise one")


def schedule(
    membership: Membership, until: float, seed: int, crashes: Mapping[str, float], submit_s: float
) -> list[NodeAction]:
    """All that is to be done within [0, until), in order.

    A window that ends in a drain is left `submit_s` before its end, or when its end becomes known if that is later. A
    crash is of a kind drawn by `crashes`, shares of all; who was stopped or cut off comes back as it was left.

    Args:
        membership: whose windows and speeds these are.
        until: seconds of the profile, as are all times.
        seed: names the draws.
        crashes: how often a crash is of each kind.
        submit_s: what submitting takes.
    """
    actions: list[NodeAction] = []
    for client in membership.clients:
        actions += _comings_and_goings(client, membership.windows(client, until), seed, crashes, submit_s)
        actions += _speeds(client, membership, until)
    # Sorting keeps the order of what one client has at one time.
    return sorted((a for a in actions if a.at < until), key=lambda a: (a.at, membership.rank(a.client)))


def _comings_and_goings(
    client: str, windows: Iterator[Window], seed: int, crashes: Mapping[str, float], submit_s: float
) -> Iterator[NodeAction]:
    comes: ActionKind = "start"
    for index, window in enumerate(windows):
        yield NodeAction(window.start, client, comes)
        if window.exit == "drain":
            yield NodeAction(max(window.start, window.stop - min(window.notice_s, submit_s)), client, "drain")
            yield NodeAction(window.stop, client, "reclaim")
            comes = "start"
        else:
            crash = drawn(crashes, seed, client, index)
            yield NodeAction(window.stop, client, crash)
            comes = RETURNS[crash]


def drawn(crashes: Mapping[str, float], seed: int, client: str, window: int) -> Crash:
    """The kind of crash that a client's window ends with. Equal arguments give equal kinds."""
    left = float(generator(seed, client, window, "crash").random()) * sum(crashes.values())
    kinds = [kind for kind in get_args(Crash) if crashes.get(kind, 0.0) > 0.0]
    for kind in kinds[:-1]:
        left -= crashes[kind]
        if left < 0.0:
            return kind  # type: ignore[no-any-return]
    return kinds[-1]  # type: ignore[no-any-return]


def _speeds(client: str, membership: Membership, until: float) -> Iterator[NodeAction]:
    """A node cannot be made faster than it is: factors above 1 count as 1."""
    t, share = 0.0, 1.0
    while t < until:
        now = min(1.0, membership.speed(client, t))
        if now != share:
            yield NodeAction(t, client, "slow", now)
        t, share = membership.next_speed(client, t), now


class Chaos:
    """Enacts a profile on nodes, as time passes.

    Args:
        membership: the profile's.
        control: reaches the nodes.
        tell: takes what was done.
        speedup: seconds of the profile in a real one.
        seed: names the draws.
        crashes: how often a crash is of each kind.
        submit_s: real seconds that submitting takes.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        control: NodeControl,
        tell: Callable[[ChaosEnacted], None],
        speedup: float,
        seed: int,
        crashes: Mapping[str, float],
        submit_s: float,
    ) -> None:
        self._membership = membership
        self._control = control
        self._tell = tell
        self._speedup = speedup
        self._seed = seed
        self._crashes = dict(crashes)
        self._submit_s = submit_s * speedup
        self._scheduled = 0.0
        self._due: deque[NodeAction] = deque()
        self._expected: set[str] = set()

    def expects(self, client: str) -> bool:
        """Whether the client's node is to run, be it stopped: then its death was none of ours."""
        return client in self._expected

    def enact(self, t: float) -> None:
        """Do all that is due at `t`, real seconds since the run began, in order. Times only go forward."""
        now = t * self._speedup
        while self._scheduled <= now:
            self._schedule_on()
        while self._due and self._due[0].at <= now:
            self._do(self._due.popleft(), t)

    def skip(self, t: float) -> None:
        """Begin at `t`: bring every node into the state that it has then, by the last that was due to it."""
        now = t * self._speedup
        while self._scheduled <= now:
            self._schedule_on()
        last: dict[tuple[str, bool], NodeAction] = {}
        while self._due and self._due[0].at < now:
            action = self._due.popleft()
            last[action.client, action.kind == "slow"] = action
        for action in last.values():
            if action.kind in ("start", "resume", "mend"):
                self._do(NodeAction(now, action.client, "start"), t)
            elif action.kind == "slow":
                self._do(action, t)

    def _schedule_on(self) -> None:
        begin, self._scheduled = self._scheduled, max(FIRST_S, 2.0 * self._scheduled)
        actions = schedule(self._membership, self._scheduled, self._seed, self._crashes, self._submit_s)
        self._due.extend(action for action in actions if action.at >= begin)

    def _do(self, action: NodeAction, t: float) -> None:
        control, client = self._control, action.client
        match action.kind:
            case "start":
                self._expected.add(client)
                control.start(client)
            case "drain":
                self._expected.discard(client)
                control.terminate(client)
            case "reclaim":
                if not control.alive(client):
                    return  # it has left in time
                control.kill(client)
            case "kill":
                self._expected.discard(client)
                control.kill(client)
            case "slow":
                control.slow(client, action.value)
            case "pause":
                control.pause(client)
            case "cut":
                self._expected.discard(client)  # one that is still starting ends where it finds no server
                control.cut(client)
            case "resume" | "mend":
                getattr(control, action.kind)(client)
                self._expected.add(client)
                # It ended while it was cut off, or with the runner of a run that is resumed.
                if not control.alive(client):
                    control.start(client)
        self._tell(ChaosEnacted(t=t, client=client, action=action.kind, value=action.value))
