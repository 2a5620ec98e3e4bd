"""Completion in bash, as bash asks for it: the script that is installed is sourced and called."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fednano.config.hydra.completion import BASH, without_interpreter

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
PYTHON = sys.executable


def completed(line: str, cwd: Path, breaks: str = " =:") -> list[str]:
    """What bash offers at the end of a line."""
    script = (
        f"{BASH}\nCOMP_WORDBREAKS=$2 COMP_LINE=$1 COMP_POINT=${{#1}}; _fednano; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    words = ["bash", "-c", script, "bash", line, breaks]
    shown = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    return shown.stdout.split()


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


def test_other_commands_are_left_alone(tmp_path: Path) -> None:
    assert completed(f"{PYTHON} -m pytest stra", tmp_path) == []


def test_the_script_is_printed(tmp_path: Path) -> None:
    words = [PYTHON, "-m", "fednano.run", "-sc", "install=bash"]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == BASH
    assert list(tmp_path.iterdir()) == []


def test_the_interpreter_is_no_part_of_the_line() -> None:
    assert without_interpreter("uv run python3.12 -m fednano.run a=1 ") == "fednano.run a=1 "
    assert without_interpreter("fednano.run a=1") == "fednano.run a=1"
