"""What a run begins with, anew or at a checkpoint: weights, optimizer states, free rows, a trainer."""

import torch

from fednano.core import tensors
from fednano.core.randomness import named_seed
from fednano.core.tensors import State
from fednano.data.ledger import Ledger
from fednano.federation.transport import MessageBytes
from fednano.flower.records import LOSSLESS
from fednano.model.gpt import GPT
from fednano.model.shapes import blueprint
from fednano.optim.inner import blank_state
from fednano.runtime.parts import Parts
from fednano.strategy.base import ServerState
from fednano.training.checkpoint import Snapshot
from fednano.training.local import LocalTrainer
from fednano.training.replicas import Replicas


def untrained(parts: Parts) -> State:
    """The weights of the untrained global model, the same for equal seeds."""
    model = GPT(parts.gpt)
    model.init_weights(torch.Generator().manual_seed(named_seed(parts.settings.seed, "weights")))
    return tensors.clone(model.state_dict())


def blank_inner(parts: Parts) -> State:
    """The inner optimizer's state before a first step, where clients average theirs; else nothing."""
    return blank_state(parts.optim.build(GPT(parts.gpt))) if parts.optim.state == "average" else {}


def message_bytes(parts: Parts) -> MessageBytes:
    """Bytes that travel for a whole model and the optimizer's state beside it: exactly, or at most."""
    shapes = tensors.shapes(blueprint(parts.gpt).state_dict())
    inner = LOSSLESS.size(tensors.shapes(blank_inner(parts)), "down")
    return MessageBytes(down=LOSSLESS.size(shapes, "down") + inner, up=parts.codec.size(shapes, "up") + inner)


def first_state(parts: Parts, resume: Snapshot | None) -> ServerState:
    """The federation's state as the run begins, or as it was at the checkpoint."""
    return resume.state if resume else ServerState(untrained(parts), {}, inner=blank_inner(parts))


def first_ledger(parts: Parts, resume: Snapshot | None = None) -> Ledger:
    """The checkpoint's ledger, or one of which all rows are free."""
    return Ledger.from_record(resume.ledger) if resume else Ledger([len(rows) for rows in parts.pools.rows])


def local_trainer(
    parts: Parts,
    batch_tokens: int,
    replicas: Replicas | None = None,
    split_rows: bool = True,
    resume: Snapshot | None = None,
) -> LocalTrainer:
    """A model of this process and the optimizers of whoever trains in it, for steps of `batch_tokens` tokens."""
    trainer = LocalTrainer(
        model=GPT(parts.gpt),
        optim=parts.optim,
        hardware=parts.hardware,
        batch_tokens=batch_tokens,
        replicas=replicas,
        split_rows=split_rows,
    )
    if resume:
        trainer.restore(resume.inner, resume.train_s, resume.data_s)
    return trainer


def check_resume(parts: Parts, snapshot: Snapshot) -> None:
    """Raise ValueError unless the checkpoint is of this model and this data."""
    expected = {name: tensor.shape for name, tensor in blueprint(parts.gpt).state_dict().items()}
    # The analytic runtime has no weights.
    weights = snapshot.state.weights
    if weights and {name: tensor.shape for name, tensor in weights.items()} != expected:
        raise ValueError(
            f"{snapshot.saved.name} holds another model than model.depth={parts.gpt.layers} of config.yaml makes; "
            "restore config.yaml or start anew"
        )
    rows = [pool["size"] for pool in snapshot.ledger["pools"]]
    if rows != [len(rows) for rows in parts.pools.rows]:
        raise ValueError(f"data: {snapshot.saved.name} was trained on {sum(rows)} other rows; restore the data")
