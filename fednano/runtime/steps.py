"""What becomes of each inner step that is told of."""

from collections.abc import Callable

from fednano.coordination.store import CoordinationStore
from fednano.report.sinks import Sink
from fednano.training.replicas import Replicas


def showing(
    sink: Sink, store: CoordinationStore, replicas: Replicas
) -> Callable[[str, int, int, int, float, int], None]:
    """Shows a step and then heeds a request to stop."""

    def told(client: str, round_index: int, step: int, steps: int, loss: float, tokens: int) -> None:
        sink.step(client, round_index, step, steps, loss, tokens)
        replicas.heed(store)

    return told
