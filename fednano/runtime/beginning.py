"""Starting state of a run, new or resumed: weights, optimizer states, ledger and trainer."""

import torch

from fednano.core import tensors
from fednano.core.randomness import named_seed
from fednano.core.tensors import State
from fednano.data.ledger import Ledger
from fednano.federation.transport import MessageBytes
from fednano.flower.packed import LOSSLESS
from fednano.model.gpt import GPT
from fednano.model.shapes import blueprint
from fednano.optim.inner import blank_state
from fednano.runtime.parts import Parts
from fednano.strategy.base import ServerState
from fednano.strategy.streaming import Fragments, Streaming
from fednano.training.checkpoint import Snapshot
from fednano.training.local import LocalTrainer
from fednano.training.replicas import Replicas


def untrained(parts: Parts) -> State:
    """The weights of the untrained global model, the same for equal seeds."""
    model = GPT(parts.gpt)
    model.init_weights(torch.Generator().manual_seed(named_seed(parts.settings.seed, "weights")))
    return tensors.clone(model.state_dict())


def blank_inner(parts: Parts) -> State:
    """The inner optimizer's state before the first step if clients average theirs; otherwise empty."""
    return blank_state(parts.optim.build(GPT(parts.gpt))) if parts.optim.state == "average" else {}


def message_bytes(parts: Parts) -> MessageBytes:
    """Bytes of a message with the whole model and any averaged optimizer state: exact, or an upper bound.

    An update of one fragment is as large as the largest one at most.
    """
    shapes = tensors.shapes(blueprint(parts.gpt).state_dict())
    inner = LOSSLESS.size(tensors.shapes(blank_inner(parts)))
    both = parts.codecs.download, parts.codecs.update
    for codec in both:
        if (size := codec.size(shapes)) < 0:
            raise ValueError(f"size of codec={codec.name} must be >= 0 bytes, got {size}; correct its method size")
    down, up = (codec.size(shapes) + inner for codec in both)
    if (streaming := Streaming.of(parts.strategy)) is None:
        return MessageBytes(down=down, up=up)
    split = Fragments.split(shapes, streaming.fragments)
    sizes = [split.of(shapes, index) for index in range(streaming.fragments)]
    each = tuple((parts.codecs.download.size(part), parts.codecs.update.size(part)) for part in sizes)
    return MessageBytes(down=down, up=max(size for _, size in each), fragments=each)


def first_state(parts: Parts, resume: Snapshot | None) -> ServerState:
    """The federation's state at the start of the run or at the checkpoint."""
    return resume.state if resume else ServerState(weights=untrained(parts), inner=blank_inner(parts))


def first_ledger(parts: Parts, resume: Snapshot | None = None) -> Ledger:
    """The checkpoint's ledger, or a new one in which all rows are free."""
    return Ledger.from_record(resume.ledger) if resume else Ledger([len(rows) for rows in parts.pools.rows])


def local_trainer(
    parts: Parts,
    batch_tokens: int,
    replicas: Replicas | None = None,
    split_rows: bool = True,
    resume: Snapshot | None = None,
) -> LocalTrainer:
    """A trainer with one model, and an optimizer for each client that trains in this process.

    A step takes `batch_tokens` tokens.
    """
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
    """Raise ValueError unless the checkpoint belongs to this model and this data."""
    expected = {name: tensor.shape for name, tensor in blueprint(parts.gpt).state_dict().items()}
    # The analytic runtime has no weights.
    weights = snapshot.state.weights
    if weights and {name: tensor.shape for name, tensor in weights.items()} != expected:
        raise ValueError(
            f"{snapshot.saved.name} must hold the model of config.yaml (model.depth={parts.gpt.layers}), got another; "
            "restore config.yaml or start a new run"
        )
    rows = [pool["size"] for pool in snapshot.ledger["pools"]]
    if rows != [len(rows) for rows in parts.pools.rows]:
        raise ValueError(
            f"data must be the rows that {snapshot.saved.name} was trained on, got others ({sum(rows)} rows then); "
            "restore the data"
        )
