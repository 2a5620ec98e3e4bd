"""The bench of the training step, from end to end on a tiny model; a stand-in takes nanochat's place."""

import json
import textwrap
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from fednano.bench.__main__ import main
from fednano.bench.train_step import worker
from fednano.bench.train_step.contenders import Setting
from fednano.bench.train_step.device import rows_that_fill
from fednano.bench.train_step.split import PARTS

TINY = ["--depth", "2", "--batch-size", "2", "--sequence-len", "16", "--vocab-size", "300", "--repeats", "2"]

# The same arithmetic under nanochat's names, with a learning rate of its own.
STAND_IN = """
    import os
    import torch
    from fednano.model.arch import NANOCHAT
    from fednano.model.gpt import GPT as Ours, GPTConfig as OursConfig
    from fednano.model.scaling import Depth

    class GPTConfig:
        def __init__(self, **values):
            self.__dict__.update(values)

    class GPT(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            shape = Depth(config.n_layer, config.sequence_len)
            self.ours = Ours(OursConfig.derive(shape, NANOCHAT, config.vocab_size))
            self.transformer = torch.nn.Module()
            self.transformer.h = self.ours.blocks

        def init_weights(self):
            print("nanochat prints as it begins")
            assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == os.environ["TMPDIR"], "the compiler's cache is warm"
            assert not os.listdir(os.environ["TMPDIR"])

        def load_state_dict(self, state):
            names = {"transformer.wte.": "embedding.", "transformer.h.": "blocks.", "lm_head.": "head.",
                     "value_embeds.": "value_embedding."}
            def name(theirs):
                return next((ours + theirs[len(p):] for p, ours in names.items() if theirs.startswith(p)), theirs)
            self.ours.load_state_dict({name(key): tensor for key, tensor in state.items()})

        def setup_optimizer(self, weight_decay):
            return torch.optim.SGD(self.ours.parameters(), lr=0.1, weight_decay=weight_decay)

        def forward(self, tokens, targets):
            return FACTOR * self.ours(tokens, targets)
"""


def checkout(folder: Path, factor: float = 1.0) -> str:
    (folder / "nanochat").mkdir()
    code = f"FACTOR = {factor}\n" + textwrap.dedent(STAND_IN)
    (folder / "nanochat" / "gpt.py").write_text(code, encoding="utf-8")
    return str(folder)


def ran(tmp_path: Path, *arguments: str) -> dict:
    report = tmp_path / "report.json"
    assert main(["train_step", *TINY, "--threads", "1", "--clients", "0", "--json", str(report), *arguments]) == 0
    return json.loads(report.read_text(encoding="utf-8"))


def test_both_are_measured_from_the_same_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(tmp_path, "--nanochat", checkout(tmp_path))
    ours, theirs = found["contenders"]
    assert (ours["name"], theirs["name"]) == ("fednano", "nanochat")
    assert ours["same_loss"] and theirs["same_loss"]
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert ours["ratio"] == pytest.approx(ours["tokens_per_s"] / theirs["tokens_per_s"])
    assert theirs["ratio"] == 1.0
    for contender in (ours, theirs):
        share = contender["gflop_per_s"] / found["ceiling_gflop_per_s"]
        assert contender["share_of_ceiling"] == pytest.approx(share)
        assert set(contender["split_s"]) == set(PARTS)
        assert min(contender["split_s"].values()) > 0
        assert contender["peak_bytes"] > 1e7 and contender["first_step_s"] > contender["step_s"]
    assert found["head_and_loss"]["ratio"] > 0
    printed = capsys.readouterr().out
    assert "× nanochat" in printed and "different first loss" not in printed


@pytest.mark.slow
def test_another_model_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(tmp_path, "--nanochat", checkout(tmp_path, factor=1.01))
    assert [contender["same_loss"] for contender in found["contenders"]] == [True, False]
    assert "nanochat has a different first loss: it is not the same model" in capsys.readouterr().out


@pytest.mark.slow
def test_clients_are_measured_against_one_process(tmp_path: Path) -> None:
    found = ran(tmp_path, "--clients", "1")
    assert found["clients"]["count"] == 1
    each = found["clients"]
    assert each["ratio"] == pytest.approx(each["tokens_per_s"] / each["one_process_tokens_per_s"])


def test_a_checkout_that_breaks_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nanochat").mkdir()
    (tmp_path / "nanochat" / "gpt.py").write_text("raise RuntimeError('no kernels\\nhere')", encoding="utf-8")
    assert main(["train_step", *TINY, "--threads", "1", "--nanochat", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "nanochat failed: RuntimeError: no kernels here; try again without --nanochat" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nanochat", "nowhere"], "--nanochat must hold nanochat/gpt.py, got nowhere; name a checkout"),
        (["--repeats", "0"], "--repeats must be >= 1, got 0; use 1 or more"),
        (["--sequence-len", "1"], "--sequence-len must be >= 2, got 1; use 2 or more"),
        (["--fill", "1.5"], "--fill must be >= 0 and < 1, got 1.5; use, for example, 0.8"),
        (["--timeout", "nan"], "--timeout must be > 0, got nan"),
        (["--json", "nowhere/report.json"], "--json must be in a folder that exists, got nowhere/report.json"),
    ],
)
def test_senseless_options_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train_step", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_rows_fill_memory_by_the_line_through_two_peaks() -> None:
    assert rows_that_fill((130, 160), (1, 2), 1000, 1.0) == 30
    assert rows_that_fill((130, 130), (1, 2), 230, 10.0) == 12  # too small to be seen: at least 10 a row
    assert rows_that_fill((130, 160), (1, 2), 100, 1.0) == 1


def test_a_step_fills_memory_and_a_rival_that_breaks_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nanochat").mkdir()
    (tmp_path / "nanochat" / "gpt.py").write_text("raise RuntimeError('no kernels here')", encoding="utf-8")
    found = ran(tmp_path, "--fill", "1e-9", "--nanochat", str(tmp_path))
    (ours,) = found["contenders"]
    assert (ours["name"], ours["batch_size"]) == ("fednano", 1)  # the process itself is larger than that
    assert ours["tokens_per_s"] == pytest.approx(16 / ours["step_s"])
    assert "no kernels here" in found["failed"]["nanochat"]
    assert "nanochat did not run" in capsys.readouterr().out


class Costly:
    """A contender whose step needs 100 bytes and so many for each row, on a device of 1,000,000 bytes."""

    blocks: ClassVar[list[torch.nn.Module]] = []

    def __init__(self, eager: float, compiled: float) -> None:
        self.costs = {True: eager, False: compiled}
        self.rows: list[tuple[int, bool]] = []
        self.held = 0

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor, *, eager: bool = False) -> torch.Tensor:
        self.rows.append((tokens.size(0), eager))
        self.held = int(100 + self.costs[eager] * tokens.size(0))
        if self.held > 1_000_000:
            raise torch.cuda.OutOfMemoryError("full")
        return torch.ones((), requires_grad=True)

    def update(self) -> None:
        pass


@pytest.mark.parametrize(
    ("compiled_cost", "expected"),
    [
        (10_000.0, [80]),  # as much as eager: 80 % of the memory at once
        (5_000.0, [80, 160]),  # less: more rows, once
        (14_000.0, [80, 64]),  # more: does not fit at first
    ],
)
def test_rows_follow_what_a_compiled_step_needs(
    compiled_cost: float, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = Costly(10_000.0, compiled_cost)
    monkeypatch.setitem(worker.CONTENDERS, "costly", lambda setting: costly)
    monkeypatch.setattr(worker.Device, "total_bytes", lambda self: 1_000_000)
    monkeypatch.setattr(worker.Device, "peak", lambda self: costly.held)
    setting = Setting(
        depth=1,
        batch_size=1,
        sequence_len=2,
        vocab_size=300,
        dtype="float32",
        threads=1,
        compiled=True,
        weights="",
        optim={},
    )
    found = worker.StepSession("costly", setting).fit(0.8)
    assert [rows for rows, eager in costly.rows if not eager] == pytest.approx(expected, abs=1)
    assert found["batch_size"] == costly.rows[-1][0]
    assert found["peak_bytes"] == costly.held <= 0.95e6
