"""The evaluation command, on a run of one second."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fednano import evaluate
from fednano.config.compose import compose_config
from fednano.config.errors import guarded
from fednano.experiment import sizes
from fednano.report.terminal.evaluation import text_notes
from fednano.tasks.base import Documents
from fednano.tasks.builtin import Builtin
from fednano.tasks.items import EvaluationTask
from fednano.training.checkpoint import load_model


@pytest.fixture
def model_dir(run: Callable[..., dict[str, Any]], tiny: list[str]) -> Path:
    folder: Path = run("rounds=1")["folder"]
    OmegaConf.save(compose_config([*tiny, "rounds=1"]), folder / "config.yaml", resolve=True)
    return folder / "model"


def measured(model_dir: Path, *overrides: str) -> Any:
    assert evaluate.main([f"model_dir={model_dir}", "hardware.threads=1", *overrides]) == 0
    return json.loads((model_dir.parent / "evaluation.json").read_text(), parse_constant=pytest.fail)


def test_the_run_is_measured_as_it_measured_itself(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(model_dir, "batch_size=2", "max_items=5")
    summary = json.loads((model_dir.parent / "summary.json").read_text())
    whole = found["validation"]
    assert whole["bpb"] == pytest.approx(summary["val_bpb"], rel=1e-9)
    assert len(whole["sources"]) >= 2
    assert all(0 < row["tokens"] <= 512 and row["bpb"] > 0 for row in whole["sources"].values())
    assert set(found["tasks"]) == {"last_word", "next_sentence"}
    for row in found["tasks"].values():
        assert row["items"] <= 5
        assert row["centred"] == pytest.approx((row["accuracy"] - row["baseline"]) / (1 - row["baseline"]))
    assert found["mean_centred"] == pytest.approx(sum(row["centred"] for row in found["tasks"].values()) / 2)
    said = capsys.readouterr().out
    assert all(word in said for word in ("next_sentence", "bits/byte", "written to", *whole["sources"]))
    assert "will be replaced" not in said
    assert "Each row measures at most 512 tokens (eval_tokens)" in said
    again = measured(model_dir, "batch_size=2", "max_items=5")
    assert again == found
    replaced = f"{model_dir.parent / 'evaluation.json'} will be replaced; keep it with output=FILE"
    assert replaced in capsys.readouterr().out


def test_sources_add_up_to_all_the_text(model_dir: Path, tiny: list[str], tmp_path: Path) -> None:
    corpus = [override for override in tiny if override.startswith("data")]
    target = tmp_path / "elsewhere.json"
    (model_dir.parent / "config.yaml").unlink()
    overrides = [f"model_dir={model_dir}", "hardware.threads=1", "tasks=none", f"output={target}", *corpus]
    assert evaluate.main(overrides) == 0
    found = json.loads(target.read_text())
    assert found["tasks"] == {}
    assert found["mean_centred"] is None
    whole, parts = found["validation"], found["validation"]["sources"].values()
    # Each stream loses what is left of its last row, and its first BOS is no target.
    assert 0 <= whole["tokens"] - sum(row["tokens"] for row in parts) <= 17 * len(parts)
    assert min(row["bpb"] for row in parts) < whole["bpb"] < max(row["bpb"] for row in parts)
    assert not (model_dir.parent / "evaluation.json").exists()


def test_notes_name_what_the_table_lacks_and_how_its_rows_were_cut() -> None:
    row = {"loss": 1.0, "bpb": 1.0, "bytes": 10}
    whole = {**row, "tokens": 20, "sources": {"a": {**row, "tokens": 11}, "b": {**row, "tokens": 9}}}
    assert text_notes(whole, ("a", "b"), 100) == []
    assert text_notes(whole, ("a", "b", "c"), 100) == ["c has no held-out document."]
    assert text_notes(whole, ("a", "b", "c", "d"), 100) == ["c, d have no held-out document."]
    whole["sources"]["a"]["tokens"] = 20
    (note,) = text_notes(whole, ("a", "b"), 20)
    assert note.startswith("Each row measures at most 20 tokens")


def test_one_short_held_out_document_is_measured_and_tasks_are_left_out(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    for name in "abc":
        (tmp_path / "own" / f"{name}.txt").write_text(f"the array {name}")
    found = measured(model_dir, "data=text", f"data.path={tmp_path / 'own'}", f"data.root={tmp_path}", "batch_size=2")
    assert found["validation"]["tokens"] < 16, "fewer than the model's sequence"
    assert found["validation"]["bytes"] == len("the array a")
    assert (found["tasks"], found["mean_centred"]) == ({}, None)
    assert set(found["left_out"]) == {"last_word", "next_sentence"}
    said = capsys.readouterr().out
    assert "bits/byte" in said
    assert "\nlast_word is left out: it needs a paragraph of 15 to 119 words, which" in said
    assert "\nnext_sentence is left out: it needs sentences of 4 documents" in said


def test_a_task_that_cannot_be_scored_is_named_and_the_rest_is_scored(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_model(model_dir).config
    memory = sizes._measuring_bytes(config, 16, 16)
    monkeypatch.setattr(sizes, "machine_bytes", lambda: memory)  # room for one text, but not for four
    found = measured(model_dir, "batch_size=1", "max_items=3")
    assert found["validation"]["bpb"] > 0
    assert (set(found["tasks"]), set(found["left_out"])) == ({"last_word"}, {"next_sentence"})
    assert found["mean_centred"] == found["tasks"]["last_word"]["centred"]
    said = capsys.readouterr().out
    assert "next_sentence is left out: tasks must have items that fit into memory, got one of 4" in said

    def too_few(self: Builtin, documents: Documents, seed: int) -> list[EvaluationTask]:
        return [EvaluationTask(label="own", items=[], shots=0, delimiter=" ", baseline=0.0)]

    monkeypatch.setattr(Builtin, "tasks", too_few)
    found = measured(model_dir, "batch_size=1")
    assert (found["tasks"], found["mean_centred"]) == ({}, None)
    assert found["left_out"]["own"].startswith("num_fewshot of task own must be >= 0 and < 0, its number of items, got")
    assert found["validation"]["bpb"] > 0
    assert "own is left out: " in capsys.readouterr().out


def test_the_folder_of_a_run_stands_for_its_model(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(model_dir, "tasks=none")
    (model_dir.parent / "evaluation.json").unlink()
    assert evaluate.main([f"model_dir={model_dir.parent}", "hardware.threads=1", "tasks=none"]) == 0
    assert json.loads((model_dir.parent / "evaluation.json").read_text()) == found
    for named, words in (
        (model_dir.parent / "checkpoints", "which holds no model; name the folder that the run printed"),
        (model_dir.parent.parent / "nowhere", "which does not exist; name the folder that the run printed"),
        (model_dir / "config.json", "which is a file; name the folder that the run printed"),
        (model_dir.parent.parent, f"which holds several runs; name one of them, such as {model_dir.parent}"),
    ):
        capsys.readouterr()
        assert guarded(lambda named=named: evaluate.main([f"model_dir={named}"])) == 2  # type: ignore[misc]
        line = f"fednano: model_dir must be the folder of a run, or the model/ in it, got {named}, {words}\n"
        assert capsys.readouterr().err == line
    shutil.rmtree(model_dir)
    assert guarded(lambda: evaluate.main([f"model_dir={model_dir.parent}"])) == 2
    said = capsys.readouterr().err
    assert "a run without model/: it has not ended, or computed no steps; continue it by python -m fednano.run" in said


def test_nanochats_protocol_shuffles_items_and_reads_ten_times_as_far(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["array", "function", "module", "test", "list", "string", "value", "name"]
    items = [
        {"query": f"a {words[i % 5]}{' long' * (i % 3)}", "choices": [words[i % 8], words[i % 8 - 3]], "gold": i % 2}
        for i in range(30)
    ]
    core = tmp_path / "core"
    (core / "eval_data").mkdir(parents=True)
    (core / "eval_data" / "pick.jsonl").write_text("\n".join(map(json.dumps, items)))
    (core / "eval_meta_data.csv").write_text("Eval Task,Random baseline\npick,50\n")
    (core / "core.yaml").write_text(
        "icl_tasks: [{label: pick, dataset_uri: pick.jsonl, num_fewshot: [0], icl_task_type: multiple_choice}]\n"
    )
    bundle = [f"tasks={core}", "max_items=null", "batch_size=2"]
    own = measured(model_dir, *bundle)
    theirs = measured(model_dir, *bundle, "protocol=nanochat")
    short = measured(model_dir, *bundle, "protocol=nanochat", "protocol.max_seq_len=17")
    assert (own["protocol"], theirs["protocol"]) == ("fednano", "nanochat")
    assert theirs["validation"] == own["validation"]
    order = list(range(30))
    random.Random(1337).shuffle(order)
    # With texts as short as fednano's own, only the order differs.
    mine = own["tasks"]["pick"]
    assert short["tasks"]["pick"]["right"] == "".join(mine["right"][index] for index in order)
    assert mine["accuracy"] == mine["right"].count("1") / 30
    cuts = [found["tasks"]["pick"]["items_cut"] for found in (own, short, theirs)]
    assert cuts[0] == cuts[1] > 0 == cuts[2]
    for override, remedy in (
        ("protocol.max_seq_len=161", "protocol.max_seq_len must be <= 160, 10 times the model's rows, got 161; use"),
        ("protocol.max_seq_len=1", "protocol.max_seq_len must be >= 2"),
        ("protocol=lm_eval", "protocol=lm_eval does not exist; use one of fednano, nanochat"),
    ):
        capsys.readouterr()
        given = [f"model_dir={model_dir}", *bundle, "protocol=nanochat", override]
        assert guarded(lambda given=given: evaluate.main(given)) == 2  # type: ignore[misc]
        assert remedy in capsys.readouterr().err


def test_what_does_not_fit_into_memory_is_refused_by_arithmetic(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_model(model_dir).config
    rows = 16 * 8 * (16 + 2 * config.width * (2 + config.arch.mlp_ratio)) + 8 * 16 * 8 * config.vocab_size
    for memory, words in ((rows - 1, "batch_size must fit into memory, got 8, with"), (rows, "")):
        monkeypatch.setattr(sizes, "machine_bytes", lambda memory=memory: memory)
        capsys.readouterr()
        overrides = [f"model_dir={model_dir}", "hardware.threads=1", "tasks=none", "batch_size=8"]
        assert guarded(lambda given=overrides: evaluate.main(given)) == (2 if words else 0)  # type: ignore[misc]
        said = capsys.readouterr().err
        assert said.startswith(f"fednano: {words}" if words else "")
        assert len(said.splitlines()) == bool(words)
    sizes.check_task(config, 4, 16, 1, "cpu")
    with pytest.raises(ValueError, match=r"tasks must have items that fit into memory, got one of 40 texts of 16 tok"):
        sizes.check_task(config, 40, 16, 16, "cpu")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("batch_size=0", "batch_size must be >= 1, got 0; use 1"),
        ("max_item=3", "did you mean max_items"),
        ("tasks=no/such", "no/such has no core.yaml"),
        ("output=no/such/file", "output must be in a folder that exists, got no/such/file; create no/such"),
        ("model_dir=no/such", "got no/such, which does not exist; name the folder"),
        ("eval_tokens=many", "eval_tokens must be a whole number or null, got many"),
    ],
)
def test_bad_input_is_one_line_and_2(
    model_dir: Path, override: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert guarded(lambda: evaluate.main([f"model_dir={model_dir}", override])) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert not (model_dir.parent / "evaluation.json").exists()
