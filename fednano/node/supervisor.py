"""The supervisor of a node's processes: starts them, restarts them when they die, and ends them with itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from fednano.config.errors import BAD_INPUT, REFUSAL
from fednano.core.clock import wall
from fednano.core.interrupts import asked_to_end
from fednano.process.child import Child
from fednano.process.restarts import RestartPolicy, Restarts, Verdict
from fednano.report import units

POLICY = RestartPolicy(first_s=1.0, longest_s=30.0, sound_s=60.0, refusals=frozenset({BAD_INPUT}))


@dataclass
class _Supervised:
    child: Child
    restarts: Restarts
    runs: bool = False


class Supervisor:
    """Keeps programs running until it is asked to end by SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        programs: the programs, in the order in which they are ended.
        say: shows a line.
        policy: the restart policy.
    """

    def __init__(self, programs: Sequence[Child], say: Callable[[str], None], policy: RestartPolicy = POLICY) -> None:
        self._supervised = [_Supervised(child, Restarts(policy, wall)) for child in programs]
        self._say = say
        self._news: SimpleQueue[tuple[_Supervised, int] | None] = (
            SimpleQueue()
        )  # (what ended, exit code); None: end all

    def run(self) -> int:
        """Run until a signal comes or a program refuses its input; returns the exit code."""
        with asked_to_end(lambda: self._news.put(None)) as asked:
            try:
                while (code := self._turn()) == 0:
                    pass
            except _AskedError:
                code = asked.code
            finally:
                self._end()
        return code

    def _turn(self) -> int:
        """Start what is due and wait for the next event; returns BAD_INPUT if a program refused its input, else 0."""
        self._start([one for one in self._supervised if not one.runs and one.restarts.due <= wall()])
        due = [one.restarts.due for one in self._supervised if not one.runs]
        try:
            news = self._news.get(timeout=max(0.0, min(due) - wall()) if due else None)
        except Empty:
            return 0
        if news is None:
            raise _AskedError
        return self._ended(*news)

    def _start(self, due: Sequence[_Supervised]) -> None:
        for one in due:
            one.child.start()
            one.runs = True
        for one in due:
            Thread(target=self._watch, args=(one,), daemon=True).start()
            self._say(f"{one.child.name} started, process {one.child.pid}")

    def _watch(self, one: _Supervised) -> None:
        self._news.put((one, one.child.wait()))

    def _ended(self, one: _Supervised, code: int) -> int:
        one.runs = False
        child = one.child
        child.stop()
        verdict = one.restarts.died(code)
        if verdict is Verdict.REFUSED:
            self._say(f"{child.name} refused its input{_cause(child)}; the node ends")
            return BAD_INPUT
        self._say(f"{child.name} {child.how()}{_cause(child)}; restart in {units.duration(one.restarts.pause_s)}")
        return 0

    def _end(self) -> None:
        for one in self._supervised:
            if not one.runs:
                continue
            child = one.child
            if child.stop():
                self._say(f"{child.name} ended")
            else:
                self._say(f"{child.name} did not end within {units.duration(child.grace_s)}; killed")


class _AskedError(Exception):
    """The supervisor was asked to end."""


def _cause(child: Child) -> str:
    """In brackets, the last line of the log if it says why the input was refused, else the path of the log."""
    if child.log is None:
        return ""
    last = child.tail().rpartition("\n")[2]
    return f" ({last.removeprefix(REFUSAL) if last.startswith(REFUSAL) else f'see {child.log}'})"
