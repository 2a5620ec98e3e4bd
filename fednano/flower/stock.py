"""Flower's own FedAvg over the replies of a round, to measure what it needs."""

import math
from collections.abc import Iterable

from flwr.app import ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from fednano.core.tensors import State
from fednano.flower.compat.messages import LocalMessage, adopt_identity


def stock_fedavg(models: Iterable[State]) -> ArrayRecord:
    """The mean of the clients' models. Their replies are held until the last one has come, as Flower does."""
    adopt_identity()
    replies: list[Message] = []
    for client, model in enumerate(models, start=2):
        content = RecordDict({"arrays": ArrayRecord(model), "metrics": MetricRecord({"num-examples": 1})})
        replies.append(LocalMessage(content, Metadata(1, "", client, 1, "", "1", 0.0, math.inf, "train")))
    arrays, _ = FedAvg().aggregate_train(1, replies)
    assert arrays is not None
    return arrays
