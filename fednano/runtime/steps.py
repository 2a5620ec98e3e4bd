"""The callback that handles each reported inner step."""

from fednano.coordination.store import CoordinationStore
from fednano.core.inner_step import InnerStep, OnStep
from fednano.report.sinks import Sink
from fednano.training.replicas import Replicas


def showing(sink: Sink, store: CoordinationStore, replicas: Replicas) -> OnStep:
    """A callback that shows a step, then checks for a request to stop."""

    def told(step: InnerStep) -> None:
        sink.step(step)
        replicas.heed(store)

    return told
