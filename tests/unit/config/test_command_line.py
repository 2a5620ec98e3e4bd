"""The command line: options and overrides in any order, and files that are no choices."""

import sys
from pathlib import Path

import pytest

from fednano.config.compose import command_line, compose_config, search_path, with_hydra_flags


@pytest.mark.parametrize(
    ("given", "then"),
    [
        (["a=1", "-m", "b=2"], ["-m", "a=1", "b=2"]),
        (["a=1", "--config-dir", "conf", "b=2"], ["--config-dir", "conf", "a=1", "b=2"]),
        (["-p", "a", "a=1", "--cfg=job"], ["-p", "a", "--cfg=job", "a=1"]),
        (["a=1", "a=1"], ["a=1", "a=1"]),
    ],
)
def test_options_may_follow_overrides(monkeypatch: pytest.MonkeyPatch, given: list[str], then: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *given])
    assert command_line().overrides == [word for word in then if "=" in word and not word.startswith("-")]
    assert sys.argv == ["run.py", *then]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--config-dir"], "argument --config-dir/-cd: expected one argument; list all options with"),
        (["--conf-dir=x"], "unrecognized arguments: --conf-dir=x; list all options with --hydra-help"),
        (["--config-dir", "a", "-cd=b"], "--config-dir must be given once; "),
    ],
)
def test_bad_options_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, given: list[str], says: str) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *given])
    with pytest.raises(ValueError) as caught:
        command_line()
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("option", [["-m"], ["--info"], ["--config-name=x"], ["--shell-completion"], ["-p", "seed"]])
def test_commands_that_launch_nothing_refuse_options_of_a_launch(
    monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", *option])
    with pytest.raises(ValueError, match=r"^--[a-z-]+ is an option of fednano.run only; remove it$"):
        with_hydra_flags("prepare", lambda _: 0)


def test_hydras_options_are_listed_and_the_command_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--hydra-help"])
    assert with_hydra_flags("prepare", lambda _: 1) == 0
    assert "--config-dir" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["${nokey}", "${oc.env:NOPE}", "${data.root}"])
def test_a_configuration_that_cannot_be_resolved_is_refused_with_its_key(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--cfg=job", "--resolve", f"data.root={value}"])
    with pytest.raises(ValueError) as caught:
        with_hydra_flags("prepare", lambda _: 0)
    assert str(caught.value).startswith(f"data.root must refer to values that exist, got {value} (")
    assert "\n" not in str(caught.value)


def test_a_command_without_sweeps_does_not_offer_one() -> None:
    with pytest.raises(ValueError, match=r"^data must be one value, got text,pydocs; write a list as data=\[A,B\], "):
        compose_config(["data=text,pydocs"], "prepare")


def composed(monkeypatch: pytest.MonkeyPatch, folder: Path, written: str, *overrides: str) -> None:
    """Compose with `strategy=own`, whose file in `folder` holds `written`."""
    (folder / "strategy").mkdir()
    (folder / "strategy" / "own.yaml").write_text(written)
    monkeypatch.setattr(sys, "argv", ["run.py", "--config-dir", str(folder)])
    compose_config([*search_path(command_line()), "strategy=own", *overrides])


@pytest.mark.parametrize(
    ("written", "override", "says"),
    [
        ("name: x\n  outer: 3\n", "rounds=1", r"strategy/own\.yaml, line 2, column 8 cannot be read as YAML \(mapping"),
        ("_target_: a.B\nouter: 1\n", "strategy.local_steps=3", r"leaves out as \+strategy\.local_steps=3$"),
        (
            "_target_: fednano.codec.fp32.Fp32\n",
            "strategy.feedback=true",
            r"sets a key that does not exist; set strategy\.name, or choose another strategy$",
        ),
        ("_target_: a.B\nouter: 1\n", "strategy.outr=3", r"did you mean strategy\.outer\?$"),
    ],
)
def test_what_is_wrong_in_a_file_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: str, override: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        composed(monkeypatch, tmp_path, written, override)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "experiment/reproduce=diloco",
            "experiment must be chosen with the folder in the choice, got experiment/reproduce=diloco; use "
            "experiment=reproduce/diloco",
        ),
        (
            "experiment=reproduce/dilocoo",
            r"experiment=reproduce/dilocoo does not exist; use one of reproduce/async_diloco",
        ),
        (
            "experiment=reproduce",
            r"experiment=reproduce does not exist; use one of attacks, .*, strategies, reproduce/…$",
        ),
        ("experiment=no/such", r"experiment=no/such does not exist; use one of attacks, .*, strategies$"),
        ("experiment=reproduce/_laptop", "is a part of other choices; use one of reproduce/async_diloco, .*/non_iid, "),
    ],
)
def test_an_experiment_in_a_folder_is_named_with_it(override: str, says: str) -> None:
    assert compose_config(["experiment=reproduce/diloco"]).name == "reproduce_diloco"
    with pytest.raises(ValueError, match=says):
        compose_config([override])


def test_a_part_of_other_choices_is_no_choice() -> None:
    with pytest.raises(ValueError, match="model=_depth is a part of other choices; use one of d10, "):
        compose_config(["model=_depth"])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("~strategy/dp", "strategy/dp must be set, got ~strategy/dp, .*, or use strategy/dp=none$"),
        ("~strategy/outer", "strategy/outer must be set, got ~strategy/outer, which deletes it; leave .* out$"),
        ("codec=[int4,int8]", r"codec must be one choice, got \[int4,int8\]; name one, or add -m"),
        ("strategy/outer=[adam,sgd]", "strategy/outer must be one choice"),
        ("download=bf16", "download must be chosen as codec@download=CHOICE, got download=bf16"),
    ],
)
def test_a_part_is_chosen_once_and_in_its_own_way(override: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        compose_config([override])
