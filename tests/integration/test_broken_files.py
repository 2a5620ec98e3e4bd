"""Files that are torn, foreign or no files at all: each command names the file in one line and exits with 2."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mutations import limited

from fednano import evaluate, fidelity, flower_config, prepare, sample
from fednano.config.errors import guarded
from fednano.report.__main__ import main as report
from fednano.tasks.bundle import read_bundle

Break = Callable[[Path], object]
LIMIT_S = 20.0  # a pipe would be waited for without end


def _no_file(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


BREAKS: dict[str, Break] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00{["),
    "a list": lambda path: path.write_text("[1, 2]\n"),
    "endless": lambda path: path.write_text("a: &a [*a]\n"),  # as YAML
    "a folder": lambda path: _no_file(path, Path.mkdir),
    "a pipe": lambda path: _no_file(path, os.mkfifo),
    "a device": lambda path: _no_file(path, lambda place: place.symlink_to("/dev/zero")),
}
each_break = pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[Callable[[], int]], str]:
    """What a command that refuses its input says, without the prefix."""

    def go(command: Callable[[], int]) -> str:
        capsys.readouterr()
        with limited(LIMIT_S):
            assert guarded(command) == 2
        line = capsys.readouterr().err
        assert line.startswith("fednano: ")
        assert line.count("\n") == 1
        assert len(line) <= 400  # with a long path
        return line

    return go


Said = Callable[[Callable[[], int]], str]


@each_break
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_files_of_a_model(model_dir: Path, tmp_path: Path, said: Said, name: str, damage: Break) -> None:
    folder = shutil.copytree(model_dir, tmp_path / "model")
    damage(folder / name)
    assert name in said(lambda: sample.main([f"model_dir={folder}", "hardware.threads=1"]))


@each_break
def test_a_file_of_prompts(model_dir: Path, tmp_path: Path, said: Said, damage: Break) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("the\n" * 10)
    if damage in (BREAKS["torn"], BREAKS["a list"], BREAKS["endless"]):
        return  # such a file is one of prompts
    damage(file)
    assert str(file) in said(lambda: sample.main([f"model_dir={model_dir}", f"prompts={file}"]))


@each_break
def test_the_configuration_beside_a_model(model_dir: Path, tmp_path: Path, said: Said, damage: Break) -> None:
    folder = shutil.copytree(model_dir, tmp_path / "model")
    (tmp_path / "config.yaml").write_text("data: {a: {b: [1, 2, 3]}, c: d}\n")
    damage(tmp_path / "config.yaml")
    assert said(lambda: evaluate.main([f"model_dir={folder}", "hardware.threads=1", "tasks=none"]))


@each_break
@pytest.mark.parametrize("name", ["core.yaml", "eval_data/a.jsonl", "eval_meta_data.csv"])
def test_files_of_a_bundle_of_tasks(tmp_path: Path, name: str, damage: Break) -> None:
    (tmp_path / "eval_data").mkdir()
    entry = "{label: a, dataset_uri: a.jsonl, num_fewshot: [0], icl_task_type: language_modeling}"
    (tmp_path / "core.yaml").write_text(f"icl_tasks: [{entry}]\n")
    (tmp_path / "eval_data" / "a.jsonl").write_text('{"context": "a", "continuation": "b"}\n')
    (tmp_path / "eval_meta_data.csv").write_text("Eval Task,Random baseline\na,50\n")
    assert len(read_bundle(tmp_path)) == 1
    if name.endswith("jsonl") and damage is BREAKS["empty"]:
        return  # a task without items
    damage(tmp_path / name)
    with limited(LIMIT_S), pytest.raises(ValueError, match=name.rpartition("/")[2]):
        read_bundle(tmp_path)


@each_break
def test_a_parquet_file(tmp_path: Path, said: Said, damage: Break) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "own"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["some words"] * 1000}), folder / "a.parquet")
    damage(folder / "a.parquet")
    overrides = ["data=parquet", f"data.path={folder}", f"data.root={tmp_path / 'root'}", "tokenizer.vocab_size=300"]
    assert str(folder) in said(lambda: prepare.main(overrides))
    assert not [path for path in (tmp_path / "root").glob("*") if path.suffix != ".lock"]


@each_break
@pytest.mark.parametrize("command", [lambda folder: fidelity.main([folder]), lambda folder: report([folder])])
def test_an_event_log(tmp_path: Path, said: Said, command: Callable[[str], int], damage: Break) -> None:
    (tmp_path / "events.jsonl").write_text('{"event":"Nonsense","t":0}\n' * 3)
    damage(tmp_path / "events.jsonl")
    if damage is BREAKS["empty"] or damage is BREAKS["bytes"]:
        return  # a run that has only begun, or is writing its first line
    assert str(tmp_path) in said(lambda: command(str(tmp_path)))


@each_break
def test_the_configuration_of_flowers_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said, damage: Break
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    file = tmp_path / "config.toml"
    file.write_text('[superlink]\ndefault = "local"\n')
    damage(file)
    if damage is BREAKS["empty"]:
        return
    assert str(file) in said(lambda: flower_config.main([]))


HOSTILE = ("???", "null", "-1", "nan", "[1]", "{a:1}", str(10**24), "word")


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "key", ["tokens", "samples", "temperature", "top_k", "top_p", "seed", "interactive", "model_dir"]
)
def test_hostile_values_of_sample(model_dir: Path, said: Said, key: str, value: str) -> None:
    if (key, value) == ("seed", "-1"):
        return  # a seed like any other
    line = said(lambda: sample.main([f"model_dir={model_dir}", "hardware.threads=1", f"{key}={value}"]))
    assert key in line


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", ["eval_tokens", "batch_size", "max_items", "seed", "output", "hardware", "tasks"])
def test_hostile_values_of_evaluate(model_dir: Path, said: Said, key: str, value: str) -> None:
    if (key, value) in (
        ("eval_tokens", "null"),
        ("max_items", "null"),
        ("output", "null"),
        ("output", "word"),
        ("seed", "-1"),
    ):
        return  # valid
    assert key in said(lambda: evaluate.main([f"model_dir={model_dir}", f"{key}={value}"]))


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "key", ["data", "data.root", "data.path", "tokenizer.vocab_size", "tokenizer.ties", "tokenizer"]
)
def test_hostile_values_of_prepare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said, key: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    choice = [] if key == "data" else ["data=text", f"data.path={tmp_path / 'none'}"]
    assert key.rpartition(".")[2] in said(lambda: prepare.main([*choice, f"{key}={value}"]))
    assert not list(tmp_path.iterdir())
