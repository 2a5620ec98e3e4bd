"""The command that continues prompts, on a small model that was never trained."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support.damage import flip

from fednano import evaluate, sample
from fednano.config.errors import guarded
from fednano.tokenizer import Tokenizer

Say = Callable[..., str]


@pytest.fixture
def say(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    def go(*overrides: str) -> str:
        assert sample.main([f"model_dir={model_dir}", "tokens=20", "hardware.threads=1", *overrides]) == 0
        return capsys.readouterr().out

    return go


def test_one_sample_is_the_first_of_several(say: Say) -> None:
    prompt = "def f(x, y): {z} 'a\\ \\\\ ${b} \\'"
    one, four = say(f"prompt={prompt}"), say(f"prompt={prompt}", "samples=4")
    assert one.startswith(prompt)
    assert len(one) > len(prompt) + 10
    heads = [f"── sample {i} of 4\n" for i in range(1, 5)]
    assert all(head in four for head in heads)
    assert four.startswith(heads[0] + one)
    assert say(f"prompt={prompt}", "seed=1") != one


def test_prompts_come_from_a_file(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "some, prompts.txt"
    file.write_text("the array\n\nähnlich\n", encoding="utf-8")
    said = say(f"prompts={file}", "temperature=0")
    first, second = say("prompt=the array", "temperature=0"), say("prompt=ähnlich", "temperature=0")
    assert said == f"── prompt 1 of 2\n{first}── prompt 2 of 2\n{second}"
    assert "── prompt 2 of 2, sample 3 of 3\nähnlich" in say(f"prompts={file}", "samples=3")
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_bytes("the array\r\n\r\nähnlich\r\n".encode(encoding))
        assert say(f"prompts={file}", "temperature=0") == said


def test_a_conversation_answers_each_line(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the array\nof\n"))
    said = say("interactive=true", "temperature=0")
    monkeypatch.undo()
    assert said == say("prompt=the array", "temperature=0") + say("prompt=of", "temperature=0")


def test_tokens_appear_as_they_are_made_and_characters_whole(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Tokenizer.load(model_dir / "tokenizer.json")
    parts, seen = [b"\xc3", b"\xa4", b"b", b"\xe2", b"\x82"], []

    def told(*_: object) -> Iterator[list[int]]:
        for part in parts:
            yield tokenizer.encode(part).tolist()
            seen.append(capsys.readouterr().out)

    monkeypatch.setattr("fednano.model.generate.generate", told)
    assert sample.main([f"model_dir={model_dir}", "prompt=x", "hardware.threads=1"]) == 0
    assert seen == ["x", "ä", "b", "", ""]
    assert capsys.readouterr().out == "\ufffd\n"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["samples=0"], "samples must be >= 1, got 0; use 1"),
        (["tokens=-1"], "tokens must be >= 0, got -1; use 0"),
        (["temperature=hot"], "temperature must be a number, got hot"),
        (["top_p=0"], "top_p must be > 0 and <= 1, got 0"),
        (["top_p=.nan"], "top_p"),
        (["topk=3"], "did you mean top_k"),
        (["interactive=true", "prompt=a"], "got prompt=a prompts=; remove them"),
        (["prompts=no/such", "prompt=a"], "remove one of them"),
        (["prompts=no/such"], "prompts must be a UTF-8 text file, got no/such"),
        (["hardware.device=tpu9"], "hardware.device must be a torch device, got tpu9"),
        (["model_dir=no/such"], "got no/such, which does not exist; name"),
    ],
)
def test_bad_input_is_one_line_and_2(
    model_dir: Path, overrides: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: sample.main([f"model_dir={model_dir}", *overrides])) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_a_file_without_a_prompt_is_refused(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(ValueError, match=r"must hold a prompt, got an empty .*; write one"):
        sample.main([f"model_dir={model_dir}", f"prompts={tmp_path / 'empty'}"])


def _as_of_an_earlier_version(folder: Path) -> None:
    """Without digests."""
    (folder / "manifest.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["manifest"]
    (folder / "config.json").write_text(json.dumps(config))


def _reshape(folder: Path) -> None:
    _save(folder, {**(state := load_file(folder / "model.safetensors")), "head.weight": state["head.weight"][1:]})


def _lack(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    _save(folder, {name: tensor for name, tensor in state.items() if not name.startswith("blocks.0.mlp")})


def _add(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    _save(folder, {**state, "more.weight": state["head.weight"].clone()})


def _save(folder: Path, state: dict) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")


def _tear(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def _scribble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensors at all")


def _say(key: str, value: object) -> Callable[[Path], None]:
    def say(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return say


def _other_tokenizer(folder: Path) -> None:
    Tokenizer.train(["abc"] * 9, 262).save(folder / "tokenizer.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_reshape, "it holds head.weight as [319, 128] where the model has [320, 128]; name a folder"),
        (_lack, "it lacks blocks.0.mlp.c_fc.weight and 1 more; name a folder"),
        (_add, "it holds more.weight, which the model has not; name a folder"),
        (_tear, "has a damaged model.safetensors"),
        (_scribble, "has a damaged model.safetensors"),
        (_say("layers", 2), "does not match its config.json: it"),
        (_say("heads", 3), "width must be a multiple of 6 with heads=3, got 128"),
        (_say("kv_heads", 2), "kv_heads must divide heads=1, got 2"),
        (_say("layers", 1.5), "layers must be a whole number >= 1, got 1.5"),
        (_say("depth", 1), "config.json of model_dir"),
        (_say("arch", None), "config.json of model_dir"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json of model_dir"),
        (_other_tokenizer, "must have vocab_size=280 ids, as its config.json says, got 262"),
    ],
)
@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_folder_that_is_no_whole_model_is_refused(
    command: str,
    model_dir: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    _as_of_an_earlier_version(folder)
    damage(folder)
    main = {"sample": sample.main, "evaluate": lambda given: evaluate.main([*given, "data=pydocs"])}[command]
    assert guarded(lambda: main([f"model_dir={folder}"])) == 2
    said = capsys.readouterr()
    assert said.err.startswith("fednano: ")
    assert f"model_dir={folder} " in said.err
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_flipped_bit_of_a_model_is_refused(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    (folder / ".DS_Store").touch()
    names = sorted(path.name for path in model_dir.iterdir())
    assert len(names) == 4

    def refused() -> str:
        assert guarded(lambda: sample.main([f"model_dir={folder}", "prompt=a", "tokens=1"])) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        return said.err

    for name in names:
        kept = (folder / name).read_bytes()
        flip(folder / name)
        assert f"model_dir={folder} is damaged ({name} has changed: " in refused()
        (folder / name).unlink()
        assert f"model_dir={folder}" in (said := refused()) and name in said
        (folder / name).write_bytes(kept)
    assert sample.main([f"model_dir={folder}", "prompt=a", "tokens=1", "hardware.threads=1"]) == 0
    assert capsys.readouterr().err == ""


def test_a_model_of_an_earlier_version_is_read_with_a_warning(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    _as_of_an_earlier_version(folder)
    assert sample.main([f"model_dir={folder}", "prompt=a", "tokens=1", "hardware.threads=1"]) == 0
    assert capsys.readouterr().err == (
        f"fednano: warning: model_dir={folder} is of an earlier version, without digests; it cannot be verified\n"
    )
