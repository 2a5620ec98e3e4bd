"""Validation loss and bits per byte, by hand."""

import math

import numpy as np
import pytest
import torch

from fednano.model.arch import NANOCHAT, SEED
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.scaling import Depth, flops_per_token
from fednano.training.evaluate import Validation
from fednano.training.hardware import Hardware

CPU = Hardware(name="cpu", device="cpu", threads=1, dtype="float32", compile=False, tokens_per_s=(1.0,))
BOS = 9
LENGTHS = np.array([1, 2, 3, 1, 1, 1, 1, 1, 1, 0])  # bytes of the ids 0 … 9; the last is special


def uniform_model(sequence_len: int) -> GPT:
    """All logits are zero, so that every token costs ln 10 nats."""
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=sequence_len), SEED, 10))
    model.init_weights(torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(model.head.weight)
    return model


def test_bits_per_byte_leave_special_tokens_out() -> None:
    documents = [np.array([BOS, 0, 1, 2]), np.array([BOS, 2, 2, 0, 1])]
    validation = Validation(documents, LENGTHS, (2, 4), max_tokens=100)
    # Stream 9 0 1 2 9 2 2 0 1: two rows of four; the targets are 0 1 2 [9] 2 2 0 1.
    assert (validation.tokens, validation.bytes) == (7, 1 + 2 + 3 + 3 + 3 + 1 + 2)
    loss, bpb = validation.measure(uniform_model(4), torch.device("cpu"), CPU, lambda: None)
    assert loss == pytest.approx(math.log(10), rel=1e-6)
    assert bpb == pytest.approx(7 * math.log2(10) / 15, rel=1e-6)


def test_only_so_many_tokens_are_used() -> None:
    documents = [np.array([BOS, *range(9)]) for _ in range(100)]
    assert Validation(documents, LENGTHS, (2, 4), max_tokens=9).tokens <= 8


def test_a_stop_is_heeded_between_batches() -> None:
    class StopError(Exception):
        pass

    def check() -> None:
        raise StopError

    validation = Validation([np.array([BOS, *range(9)])], LENGTHS, (1, 4), max_tokens=100)
    with pytest.raises(StopError):
        validation.measure(uniform_model(4), torch.device("cpu"), CPU, check)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must hold at least model\.sequence_len=4 tokens, got 3; use"):
        Validation([np.array([BOS, 0, 1])], LENGTHS, (1, 4), max_tokens=100)


def test_flops_by_hand() -> None:
    # d2: C = 128, L = 2, vocabulary 320: 6·(12·2·128² + 320·128) + 12·2·128·16
    assert flops_per_token(Depth(2, sequence_len=16), 300) == 6 * (12 * 2 * 128**2 + 320 * 128) + 12 * 2 * 128 * 16


def test_flops_of_windows_and_value_embeddings_by_hand() -> None:
    # d4: C = 256, two heads, gates on two layers of four, windows 256, 256, 256 and 1024 tokens.
    matrices = 12 * 4 * 256**2 + 2 * 12 * 2 + 320 * 256
    assert flops_per_token(Depth(4, sequence_len=1024), 300, NANOCHAT) == 6 * matrices + 12 * 256 * (3 * 256 + 1024)
    # Two query heads share a key/value head: half as much for c_k, c_v and the gates.
    shared = 4 * (2 * 256**2 + 2 * 256 * 128 + 8 * 256**2) + 2 * 12 + 320 * 256
    found = flops_per_token(Depth(4, sequence_len=1024, kv_groups=2), 300, NANOCHAT)
    assert found == 6 * shared + 12 * 256 * (3 * 256 + 1024)
