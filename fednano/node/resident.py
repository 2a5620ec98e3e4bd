"""The resident trainer of a node: it does tasks from a socket, one at a time, with model and compiled step warm."""

import secrets
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from flwr.app import ConfigRecord, RecordDict
from msgspec.structs import replace

from fednano.coordination.store import NO_LEASE, Heartbeat, Post, StopRequestedError
from fednano.core.clock import Clock, pause
from fednano.core.inner_step import InnerStep
from fednano.core.marks import mark
from fednano.core.tensors import State
from fednano.flower import records, wire
from fednano.flower.client_app import answer
from fednano.flower.wire import WireMessage
from fednano.node.warmup import warm_up
from fednano.report import units
from fednano.runtime.beginning import local_trainer
from fednano.runtime.parts import Parts
from fednano.strategy.streaming import Streaming
from fednano.training.overlap import Onward
from fednano.training.worker import ClientWorker, Result, Task

SEND_S = 60.0  # timeout of passing an answer to the relay, which only copies it
LINGER_S = 10.0  # a SuperNode sends an answer within a few seconds
POLL_S = 0.2


class RefusedError(Exception):
    """A task was not begun or not finished; the text says why."""


class AbandonedError(Exception):
    """The relay that passed on the task is gone, so nothing waits for its result."""


@dataclass(frozen=True)
class NodeJob:
    """A task and the connection that its answer goes to."""

    connection: socket.socket
    content: RecordDict


class Resident:
    """Does the tasks that come over the socket at `path` until it is asked to leave.

    It refuses a task whose lease is no longer held before the first step. Later it does not check the lease again: the
    server decides about the update, and refuses one of a lost lease with an event. A trainer that leaves submits after
    its current step. If the relay has died, the trainer stops after its current step, since nothing can take the
    result. If a task grants overlapped steps, the trainer takes them until the next task comes.

    Args:
        name: the node's name, as the server knows it.
        parts: the run's parts.
        post: the node's side of the coordination store.
        clock: the node's clock, shared with `post`.
        path: the socket, in a folder that only this user can access.
        say: shows a line.
        renewable: whether it leaves when the server announces another run.
    """

    def __init__(
        self,
        *,
        name: str,
        parts: Parts,
        post: Post,
        clock: Clock,
        path: Path,
        say: Callable[[str], None],
        renewable: bool = False,
    ) -> None:
        self.incarnation = secrets.token_hex(8)
        self._name = name
        self._parts = parts
        self._post = post
        self._clock = clock
        self._path = path
        self._say = say
        self._renewable = renewable
        self._trainer = local_trainer(parts, parts.tokens_per_step)
        self._jobs: SimpleQueue[NodeJob | None] = SimpleQueue()
        self._leaving = False
        self._ready = False
        self._step_s = 0.0
        self._submitted: tuple[float, Task] | None = None  # the last submitted task, and when
        self._onward: Onward | None = None  # the overlapped steps that it may take since then
        self._error: BaseException | None = None  # of the listening thread

    @property
    def ready(self) -> bool:
        """Whether it is warm and accepts tasks."""
        return self._ready

    def leave(self) -> None:
        """Submit after the current step, and end. Safe in a signal handler."""
        self._leaving = True
        self._jobs.put(None)

    def serve(self) -> None:
        """Do tasks until `leave`. Raises NameTakenError for a name in use, ValueError for an unsafe folder."""
        with closing(wire.listen(self._path)) as listener:
            self._heartbeat()
            Thread(target=self._listen, args=(listener,), name="fednano-listen", daemon=True).start()
            self._step_s = warm_up(self._trainer, self._parts)
            self._ready = True
            self._heartbeat()
            self._say(f"ready, {self._step_s:.3f} s a step")
            while not self._leaving and (job := self._jobs.get()):
                with job.connection:
                    self._do(job)
                self._go_on()
            if self._error:
                raise RuntimeError("the node's socket failed") from self._error
            self._heartbeat()
            self._linger()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends `_listen`, which closing alone does not on Linux
        self._path.unlink(missing_ok=True)

    def work(self, task: Task, weights: State, job: NodeJob) -> tuple[Result, State]:
        """Train the task of a job. Busy times are relative to the call, since the server cannot know this node's clock.

        Raises RefusedError, AbandonedError or StopRequestedError.
        """
        came = self._clock.now()
        stepped = False
        if not self._post.holds(task.lease, task.token):
            raise RefusedError(f"lease {task.lease} is no longer held by {task.client}")
        self._heartbeat(task.lease)

        def on_step(step: InnerStep) -> None:
            nonlocal stepped
            stepped = True
            mark("step", step.client, round=step.round, step=step.step)
            self._post.tell_step(step)
            self._post.check_stop()
            if _gone(job.connection):
                raise AbandonedError

        worker = ClientWorker(
            client=task.client,
            trainer=self._trainer,
            source=self._parts.source,
            pools=self._parts.pools.rows,
            shape=self._parts.shape,
            packing=self._parts.packing,
            tokens_per_s=self._parts.tokens_per_step / self._step_s,
            clock=self._clock,
            may_step=lambda step_s: not self._leaving,
            on_step=on_step,
            # On a real clock, time has passed before the first step; without a step, the transfer would be wasted.
            asked=lambda lease, now: stepped and self._post.asked(lease, now),
            onward=self._onward,
            part=self._parts.strategy.client,
            streaming=Streaming.of(self._parts.strategy),
        )
        try:
            result, delta = worker.work(task, weights)
        except (AbandonedError, StopRequestedError):
            worker.crashed()  # steps that will never be merged must not stay in the optimizer
            raise
        finally:
            self._onward = worker.onward
        self._submitted = self._clock.now(), task
        if result.done.steps:
            self._step_s = result.done.train_s / result.done.steps
        begun, ended, ahead = result.busy_from - came, result.busy_until - came, tuple(t - came for t in result.ahead)
        return replace(result, busy_from=begun, busy_until=ended, ahead=ahead), delta

    def _go_on(self) -> None:
        """Take overlapped steps until the next task comes, if they can still belong to it."""
        onward = self._onward
        if onward is None or onward.head:
            return
        ahead = onward.advance

        def may_step(step_s: float) -> bool:
            return not self._leaving and self._jobs.empty() and self._post.may_hold(ahead.lease, ahead.token)

        def after_step(step: int, loss: float) -> None:
            self._post.tell_step(
                InnerStep(
                    client=self._name,
                    round=onward.round,
                    step=step,
                    steps=ahead.steps,
                    loss=loss,
                    tokens=self._parts.tokens_per_step,
                )
            )
            self._post.check_stop()

        try:
            head = onward.go(self._trainer, self._clock, may_step, after_step)
        except StopRequestedError:
            self._onward = None
            self._trainer.forget(self._name)
        else:
            self._say(f"round {onward.round}: {units.plural(head.done.steps, 'step')} ahead")

    def _do(self, job: NodeJob) -> None:
        """Answer a job. An error of this process is reported to the relay before it is raised."""
        mark("came", self._name)
        try:
            try:
                codecs, memory = self._parts.codecs, self._trainer.memory
                content = answer(job.content, lambda task, weights: self.work(task, weights, job), codecs, memory)
                self._reply(job, WireMessage(wire.RESULT, content))
            except AbandonedError:
                self._say("the task's relay died; its work is dropped")
            except StopRequestedError:
                self._reply(job, wire.refusal(f"{self._name} was asked to stop"))
            except (RefusedError, KeyError, ValueError) as error:
                self._reply(job, wire.refusal(f"{self._name} refuses the task: {error}"))
            except Exception as error:
                self._reply(job, wire.refusal(f"the trainer of {self._name} failed: {error!r}"))
                raise
        finally:
            self._heartbeat()

    def _reply(self, job: NodeJob, parcel: WireMessage) -> None:
        job.connection.settimeout(SEND_S)
        try:
            wire.send(job.connection, parcel)
        except OSError as error:
            self._onward = None  # no task will continue from it
            self._say(f"the task's relay is gone ({error}); its answer is dropped")
        else:
            self._say(_described(parcel))

    def _linger(self) -> None:
        """Stay while a submitted update may be on its way; the server ends its lease once it has merged the update."""
        if self._submitted:
            at, task = self._submitted
            while self._clock.now() < at + LINGER_S and self._post.holds(task.lease, task.token):
                pause(POLL_S)

    def _heartbeat(self, lease: int = NO_LEASE) -> None:
        ready = self._ready and not self._leaving
        self._post.heartbeat(
            Heartbeat(
                name=self._name,
                incarnation=self.incarnation,
                ready=ready,
                leaving=self._leaving,
                step_s=self._step_s,
                lease=lease,
            )
        )

    def _listen(self, listener: socket.socket) -> None:
        try:
            while True:
                connection, _ = listener.accept()
                self._greet(connection)
        except OSError:
            return  # closed: the trainer ends
        except BaseException as error:
            self._error = error
            self.leave()

    def _greet(self, connection: socket.socket) -> None:
        """Read the message on a connection: a task waits for its turn, anything else is answered at once."""
        connection.settimeout(SEND_S)
        try:
            parcel = wire.receive(connection)
            if parcel.kind == wire.TRAIN and not self._leaving:
                connection.setblocking(False)
                self._jobs.put(NodeJob(connection, parcel.content))
                return
            wire.send(connection, self._greeting(parcel.kind))
        except ValueError as error:
            with suppress(OSError):
                wire.send(connection, wire.refusal(str(error)))
        except OSError:
            pass  # it went away, or only checked whether a trainer listens
        connection.close()

    def _greeting(self, kind: str) -> WireMessage:
        if kind == wire.HELLO:
            node = ConfigRecord({"name": self._name, "incarnation": self.incarnation})
            return WireMessage(wire.HELLO, RecordDict({wire.NODE: node}))
        if kind == wire.RENEW:
            if self._renewable:
                self.leave()
            return WireMessage(wire.RENEW)
        if kind == wire.TRAIN:
            return wire.refusal(f"{self._name} is leaving")
        return wire.refusal(f"a message of kind {kind!r} is unknown; use one version of fednano on both sides")


def _gone(connection: socket.socket) -> bool:
    """Whether the other side of a connection that does not block has closed it."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _described(parcel: WireMessage) -> str:
    if parcel.kind != wire.RESULT:
        return wire.reason_of(parcel.content)
    result = records.unpack_result(parcel.content)
    drained = ", drained" if result.done.drained else ""
    loss = f", loss {result.done.loss:.4f}" if result.done.steps else ""
    return f"round {result.round}: {units.plural(result.done.steps, 'step')}{loss}{drained}"
