"""Chaos: the volatility profile enacted on live nodes, which are started, drained, killed, paused and cut off.

The schedule is a pure function of the profile and the seed; carrying it out is a thin shell over `NodeControl`.
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
FIRST_S = 3600.0  # seconds of the profile scheduled at first; the horizon then doubles each time


@dataclass(frozen=True)
class NodeAction:
    """An action on a client's node at `at`, in seconds of the profile.

    `drain` asks the node to submit and leave; `reclaim` kills it if it is still there when its window ends. `value` is
    the share of its speed that it is slowed to.
    """

    at: float
    client: str
    kind: ActionKind
    value: float = 1.0


class NodeControl(Protocol):
    """Control over the nodes of a live federation, by client. No call waits for the node."""

    def start(self, client: str) -> None:
        """Start a node that does not run."""

    def terminate(self, client: str) -> None:
        """SIGTERM: the node submits after its current step, and ends."""

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
        """Make the node run at a share of its speed."""

    def alive(self, client: str) -> bool:
        """Whether any process of the node exists."""


def check_crashes(shares: Mapping[str, float], key: str = "runtime.crashes") -> None:
    """Raise ValueError unless `shares` gives valid shares of the kinds of crash."""
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
    """All actions within [0, until), in order.

    A client leaves a window that ends in a drain `submit_s` before its end, or when its end becomes known if that is
    later. The kind of each crash is drawn by the shares in `crashes`; a node that was paused or cut off comes back in
    the state in which it was left.

    Args:
        membership: the clients' windows and speeds.
        until: end of the schedule; like all times here, in seconds of the profile.
        seed: seed of the draws.
        crashes: share of each kind of crash.
        submit_s: seconds that submitting takes.
    """
    actions: list[NodeAction] = []
    for client in membership.clients:
        actions += _comings_and_goings(client, membership.windows(client, until), seed, crashes, submit_s)
        actions += _speeds(client, membership, until)
    # The sort is stable: actions of one client at the same time keep their order.
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
    """The kind of crash at the end of a client's window; a pure function of its arguments."""
    left = float(generator(seed, client, window, "crash").random()) * sum(crashes.values())
    kinds = [kind for kind in get_args(Crash) if crashes.get(kind, 0.0) > 0.0]
    for kind in kinds[:-1]:
        left -= crashes[kind]
        if left < 0.0:
            return kind  # type: ignore[no-any-return]
    return kinds[-1]  # type: ignore[no-any-return]


def _speeds(client: str, membership: Membership, until: float) -> Iterator[NodeAction]:
    """Changes of a node's speed. A node cannot be made faster than it is, so factors above 1 count as 1."""
    t, share = 0.0, 1.0
    while t < until:
        now = min(1.0, membership.speed(client, t))
        if now != share:
            yield NodeAction(t, client, "slow", now)
        t, share = membership.next_speed(client, t), now


class Chaos:
    """Enacts a profile on nodes as time passes.

    Args:
        membership: the profile's windows and speeds.
        control: acts on the nodes.
        tell: called with an event for each action.
        speedup: seconds of the profile per real second.
        seed: seed of the draws.
        crashes: share of each kind of crash.
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
        """Whether the client's node should run, possibly paused; if it is dead, chaos did not kill it."""
        return client in self._expected

    def enact(self, t: float) -> None:
        """Carry out all actions due at `t`, in real seconds since the run began. `t` must not decrease."""
        now = t * self._speedup
        while self._scheduled <= now:
            self._schedule_on()
        while self._due and self._due[0].at <= now:
            self._do(self._due.popleft(), t)

    def skip(self, t: float) -> None:
        """Begin at `t`: bring every node into its state at that time, as its last due action implies."""
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
                    return  # it left in time
                control.kill(client)
            case "kill":
                self._expected.discard(client)
                control.kill(client)
            case "slow":
                control.slow(client, action.value)
            case "pause":
                control.pause(client)
            case "cut":
                self._expected.discard(client)  # a node that is still starting ends if it finds no server
                control.cut(client)
            case "resume" | "mend":
                getattr(control, action.kind)(client)
                self._expected.add(client)
                # It ended while it was cut off, or with the process that ran the run before it was resumed.
                if not control.alive(client):
                    control.start(client)
        self._tell(ChaosEnacted(t=t, client=client, action=action.kind, value=action.value))
