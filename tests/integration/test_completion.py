"""Completion as the shells ask for it: the script that is installed is sourced and called."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fednano.config.hydra.completion import BASH, FISH, FISH_REMOVED, SCRIPTS, ZSH, ZSH_REMOVED, without_interpreter

PYTHON = sys.executable


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")


def completed(line: str, cwd: Path, breaks: str = " =:") -> list[str]:
    """What bash offers at the end of a line."""
    script = (
        f"{BASH}\nCOMP_WORDBREAKS=$2 COMP_LINE=$1 COMP_POINT=${{#1}}; _fednano; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    words = ["bash", "-c", script, "bash", line, breaks]
    shown = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    return shown.stdout.split()


@needs("bash")
@pytest.mark.parametrize(
    ("line", "breaks", "words"),
    [
        (f"{PYTHON} -m fednano.run strategy=d", " =:", ["decoupled_diloco", "diloco", "dp_fedavg"]),
        (f"A=1 {PYTHON} -m fednano.run clients=8 strategy/outer=n", " :", ["strategy/outer=nesterov"]),
        (f"{PYTHON} -m fednano.run -m strategy.loc", " =:", ["strategy.local_steps="]),
        (f"{PYTHON} -m fednano.run strategy=fedavg model=m", " =:", ["micro"]),
    ],
)
def test_bash_is_told_how_a_word_goes_on(line: str, breaks: str, words: list[str], tmp_path: Path) -> None:
    assert completed(line, tmp_path, breaks) == words


@needs("bash")
def test_other_commands_are_left_alone(tmp_path: Path) -> None:
    assert completed(f"{PYTHON} -m pytest stra", tmp_path) == []


def shown(*words: str, cwd: Path) -> list[str]:
    ended = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout.split()


@needs("fish")
def test_fish_is_told_how_a_word_goes_on(tmp_path: Path) -> None:
    asked = f"complete -C '{PYTHON} -m fednano.run strategy=fedavg strategy/outer=n'"
    assert shown("fish", "-c", f"{FISH}\n{asked}", cwd=tmp_path) == ["strategy/outer=nesterov"]
    (tmp_path / "strategic").touch()
    other = f"{FISH}\ncomplete -C '{PYTHON} -m pytest strateg'"
    assert shown("fish", "-c", other, cwd=tmp_path) == ["strategic"]
    shown("fish", "-c", f"{FISH}\n{FISH_REMOVED}", cwd=tmp_path)


@needs("zsh")
def test_zsh_is_told_how_a_word_goes_on(tmp_path: Path) -> None:
    """Called as a widget calls it, with `compadd` in place of zsh's own."""
    call = f"{ZSH}\ncompadd() {{ print -l -- ${{@[5,-1]}} }}; _default() {{ print files }}; LBUFFER=$1; _fednano"
    assert shown("zsh", "-fc", call, "zsh", f"A=1 {PYTHON} -m fednano.run strategy/outer=n", cwd=tmp_path) == [
        "strategy/outer=nesterov"
    ]
    assert shown("zsh", "-fc", call, "zsh", f"{PYTHON} -m pytest stra", cwd=tmp_path) == ["files"]
    shown("zsh", "-fc", f"{ZSH}\n{ZSH_REMOVED}", cwd=tmp_path)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(shell: str, tmp_path: Path) -> None:
    words = [PYTHON, "-m", "fednano.run", "-sc", f"install={shell}"]
    printed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed == SCRIPTS[f"install={shell}"]
    assert list(tmp_path.iterdir()) == []


def test_the_interpreter_is_no_part_of_the_line() -> None:
    assert without_interpreter("uv run python3.12 -m fednano.run a=1 ") == "fednano.run a=1 "
    assert without_interpreter("fednano.run a=1") == "fednano.run a=1"
