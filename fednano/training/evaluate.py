"""Validation loss and bits per byte on the held-out documents."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch

from fednano.core.tensors import State
from fednano.data.loader import IGNORE, Tokens
from fednano.model.gpt import GPT
from fednano.training.hardware import Hardware

Check = Callable[[], None]
"""Called between batches; raises to stop the run."""


def require_row(eval_tokens: int, sequence_len: int) -> None:
    """Raise ValueError if `eval_tokens` is less than one sequence."""
    if eval_tokens < sequence_len:
        raise ValueError(
            f"eval_tokens must be >= model.sequence_len={sequence_len}, one sequence, got {eval_tokens}; "
            f"use {sequence_len} or more"
        )


class Validation:
    """Fixed batches of held-out tokens, cut once.

    Documents are joined, each after a BOS, and cut into rows of T tokens. Special tokens count towards neither loss
    nor bytes.

    Args:
        documents: each as BOS and ids, int64.
        token_bytes: UTF-8 bytes of every token id, 0 for special ones.
        shape: (B, T).
        max_tokens: number of tokens to use, from the start; all if there are fewer.

    Raises:
        ValueError: the documents or `max_tokens` make up less than one row of T tokens.
    """

    def __init__(
        self, documents: Iterable[Tokens], token_bytes: npt.NDArray[np.integer], shape: tuple[int, int], max_tokens: int
    ) -> None:
        B, T = shape
        require_row(max_tokens, T)
        pieces: list[Tokens] = []
        length = 0
        for document in documents:
            if length > max_tokens:
                break
            pieces.append(document)
            length += len(document)
        stream = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
        rows = min(len(stream) - 1, max_tokens) // T
        if rows < 1:
            raise ValueError(
                f"the validation shard must hold at least model.sequence_len={T} tokens, got {len(stream)}; "
                "use a shorter sequence or more data"
            )
        tokens = stream[: rows * T].reshape(rows, T)
        targets = stream[1 : rows * T + 1].reshape(rows, T)
        lengths = token_bytes[targets]
        targets = np.where(lengths > 0, targets, IGNORE)
        self.bytes = int(lengths.sum())
        self.tokens = int((lengths > 0).sum())
        self._batches = [(tokens[i : i + B], targets[i : i + B]) for i in range(0, rows, B)]

    def measure(self, model: GPT, device: torch.device, hardware: Hardware, check: Check) -> tuple[float, float]:
        """(nats per token, bits per byte); `check` is called before each batch and may raise to stop the run."""
        model.eval()
        nats = 0.0
        with torch.no_grad(), hardware.autocast():
            for tokens, targets in self._batches:
                check()
                counted = int((targets != IGNORE).sum())
                loss = model(torch.from_numpy(tokens).to(device), torch.from_numpy(targets).to(device))
                nats += float(loss) * counted
        return nats / self.tokens, nats / math.log(2) / self.bytes


class Evaluator:
    """Measures global weights with a model of its own: weights → (nats per token, bits per byte)."""

    def __init__(self, model: GPT, hardware: Hardware, validation: Validation, check: Check) -> None:
        self._device = torch.device(hardware.device)
        self._model = model.to(self._device)
        self._hardware = hardware
        self._validation = validation
        self._check = check

    def __call__(self, weights: State) -> tuple[float, float]:
        self._model.load_state_dict(weights)
        return self._validation.measure(self._model, self._device, self._hardware, self._check)
