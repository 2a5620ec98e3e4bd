"""Fixtures of whole runs."""

from pathlib import Path

import pytest

from fednano.bench.sample import random_model
from fednano.tokenizer import Tokenizer
from fednano.training.checkpoint import save_model


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer.train(["the array of the arrays, ähnlich"] * 50, 280)
    model = random_model(1, 16, tokenizer.vocab_size)
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(folder, model.state_dict(), model.config, tokenizer.save)
    return folder
