"""Commands that a signal ends, at any moment: in order, with its exit code, and with nothing half made."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.awaiting import until
from support.runs import SLOW, assert_same, summary_of

Command = Callable[..., subprocess.CompletedProcess[str]]

LINE = "fednano: interrupted\n"
# A command whose import of `module` tells that it has begun, and lasts.
IMPORTING = """
import os, sys
import fednano.core.interrupts
def imported(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.write(1, b"there\\n")
        try:
            __import__("select").select([], [], [], 60)
        except BaseException:
            pass  # as an import that swallows whatever is raised
sys.addaudithook(imported)
import runpy
sys.argv[0] = {name!r}
runpy.run_module("fednano." + {name!r}, run_name="__main__", alter_sys=True)
"""


def started(code: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "module", "number", "code"),
    [
        ("run", "hydra", signal.SIGINT, 130),
        ("run", "torch", signal.SIGTERM, 143),
        ("prepare", "hydra", signal.SIGHUP, 143),
        ("sample", "hydra", signal.SIGTERM, 143),
        ("evaluate", "omegaconf", signal.SIGINT, 130),
        ("fidelity", "rich.table", signal.SIGTERM, 143),
        ("node", "hydra", signal.SIGTERM, 143),
        ("bench", "argparse", signal.SIGINT, 130),
        ("flower_config", "argparse", signal.SIGTERM, 143),
        ("report", "fednano.report.web.html", signal.SIGINT, 130),
    ],
)
def test_a_signal_during_the_imports_ends_a_command_at_once(
    tmp_path: Path, name: str, module: str, number: signal.Signals, code: int
) -> None:
    process = started(IMPORTING.format(module=module, name=name), *(["protocol"] * (name == "bench")), cwd=tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    process.send_signal(number)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (code, LINE)
    assert not list(tmp_path.iterdir())


# The corpus is converted, or the tokenizer trained, until a signal comes.
LASTING = """
import os, select, sys
from fednano.data import writer
from fednano.tokenizer import bpe
from fednano.core import files
def lasts(*arguments, **named):
    print("there", flush=True)
    select.select([], [], [], 60)
{patch}
from fednano.core.interrupts import end_at_signals
end_at_signals()
from fednano.config.errors import guarded
from fednano.config.compose import with_hydra_flags
from fednano.prepare import main
sys.exit(guarded(lambda: with_hydra_flags("prepare", main)))
"""


@pytest.mark.parametrize(
    "patch",
    ["writer._ShardWriter.close = lasts", "bpe.Tokenizer.train = lasts", "os.fsync = lasts"],
    ids=["corpus", "tokenizer", "file"],
)
def test_a_signal_while_data_is_prepared_leaves_nothing_half_made(
    command: Command, text_folder: Path, tmp_path: Path, patch: str
) -> None:
    root = tmp_path / "root"
    arguments = ["data=text", f"data.path={text_folder}", "tokenizer.vocab_size=300", f"data.root={root}"]
    process = started(LASTING.format(patch=patch), *arguments, cwd=tmp_path)
    assert process.stdout is not None
    until(lambda: process.stdout.readline() in ("there\n", ""))  # type: ignore[union-attr]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (143, LINE)
    left = [path.name for path in root.rglob("*")]
    assert not [name for name in left if name.endswith((".partial", ".tmp")) or name.startswith("spool")]
    again = command("prepare", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_a_signal_ends_at_any_moment_goes_on_to_the_same_end(
    command: Command, tiny: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    options = [*tiny, "rounds=6", "checkpoint_every=2", "eval_tokens=64"]
    assert command("run", *options, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    process = started(SLOW, *options, "hydra.run.dir=ended", cwd=tmp_path)
    for word in ("validation", "round 2", "round 5"):
        assert process.stdout is not None
        seen = next((line for line in process.stdout if line.startswith(word)), None)
        assert seen, process.communicate()[1]
        process.send_signal(number)
        said, errors = process.communicate()
        assert (process.returncode, errors) == (143, ""), said
        assert json.loads((tmp_path / "ended" / "summary.json").read_text())["status"] == "interrupted"
        process = started(SLOW, "resume=ended", cwd=tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_same(summary_of(tmp_path / "ended"), summary_of(tmp_path / "whole"))


# The first step never ends: only a second signal ends the run.
STUCK = SLOW.replace("time.sleep(0.02)", "print('stuck', flush=True), [time.sleep(1) for _ in range(60)]")


def test_a_second_signal_ends_a_run_at_once(tiny: list[str], tmp_path: Path) -> None:
    process = started(STUCK, *tiny, "hydra.run.dir=run", cwd=tmp_path)
    assert process.stdout is not None
    assert next((line for line in process.stdout if line == "stuck\n"), None)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode in (130, 143)  # of two signals that wait, Python handles the lower number first
    assert errors == LINE
    assert not (tmp_path / "run" / "summary.json").exists()


def test_the_echo_of_a_signal_is_no_second_one() -> None:
    code = (
        "import signal\n"
        "from fednano.core import clock, interrupts\n"
        "now = [5.0]\n"
        "clock.wall = lambda: now[0]\n"
        "with interrupts.asked_to_end(lambda: None) as asked:\n"
        "    for now[0] in (5.0, 5.2, 5.4):\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    print(asked.code, flush=True)\n"
        "    now[0] = 5.6\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('it goes on')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "143\n", LINE)


def test_a_signal_ends_a_whole_sweep(tiny: list[str], tmp_path: Path) -> None:
    process = started(SLOW, "-m", *tiny, "rounds=40", "seed=1,2,3", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert process.stdout is not None
    assert next((line for line in process.stdout if line.startswith("round 1")), None)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    assert [path.name for path in sorted((tmp_path / "sweep").glob("[0-9]"))] == ["0"]


def test_under_nohup_a_command_does_not_heed_sighup(tmp_path: Path) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from fednano.core.interrupts import asked_to_end, end_at_signals, unwinding\n"
        "end_at_signals()\n"
        "with unwinding(), asked_to_end(lambda: None):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path) == []  # noqa: PTH208
