"""The node's command: what it refuses, what it prints, and that its programs live and end as they should."""

import configparser
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fednano.config.compose import compose_config
from fednano.config.errors import ConfigError
from fednano.node import __main__ as node
from fednano.node import supernode
from fednano.node.settings import checked, decode, encode, run_config, told_config
from fednano.node.supervisor import Supervisor
from fednano.process import tree
from fednano.process.child import Child

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Overrides that are enough."""
    (tmp_path / "config.yaml").write_text(
        "data: {path: theirs, partition: {_target_: fednano.data.partition.Iid}}\nseed: 1\n"
    )
    return ["name=site_a", "superlink=localhost:9092", "run=r1", f"config={tmp_path / 'config.yaml'}"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["name=a/b"], "name must be a plain name, got a/b"),
        (["run=''"], "run must be a plain name, got ;"),
        (["superlink=localhost"], "superlink must be HOST:PORT, got localhost"),
        (["config=/none"], "config must be an existing file, got /none"),
        (["private_key=/none"], "private_key must be an existing file, got /none"),
        (["drain_s=0"], "drain_s must be > 0, got 0"),
        (["drain_s=soon"], "drain_s must be a number, got soon"),
        (["insecure=maybe"], "insecure must be true or false, got maybe"),
        (["nam=x"], "nam=x sets a key that does not exist; did you mean name"),
        (["+extra=1"], "extra=1 sets a key that does not exist"),
        (["run=null"], "run and config must be set together, got run=None and config=.*; give both"),
        (["config=null"], "run and config must be set together, got run=r1 and config=None"),
        (["name=???"], "name is not set; add name=VALUE"),
    ],
)
def test_bad_settings_are_named(given: list[str], overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        checked(compose_config([*given, *overrides], "node"))


def test_tls_is_not_combined_with_insecure(given: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"private_key must be null with insecure=true"):
        checked(compose_config([*given, "insecure=true", f"private_key={tmp_path / 'config.yaml'}"], "node"))


def test_each_missing_key_is_named(given: list[str]) -> None:
    for i, key in enumerate(("name", "superlink")):
        with pytest.raises(ValueError, match=f"^{key} is not set; add {key}=VALUE"):
            checked(compose_config(given[:i] + given[i + 1 :], "node"))


def test_a_reference_to_nothing_is_refused_with_its_key(given: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^drain_s must refer to values that exist, got \${nokey} \(Interp.*; cor"):
        checked(compose_config([*given, "drain_s=${nokey}"], "node"))


def test_the_command_refuses_in_one_line(given: list[str], command: Command, tmp_path: Path) -> None:
    refused = command("node", *given, cwd=tmp_path, FEDNANO_REDIS_URL="")
    assert refused.returncode == 2
    assert refused.stderr == (
        "fednano: the environment variable FEDNANO_REDIS_URL is not set; set it to the URL of a Redis server\n"
    )
    assert refused.stdout == ""


def test_the_command_shows_its_keys(command: Command, tmp_path: Path) -> None:
    shown = command("node", "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "superlink: ???" in shown.stdout


def test_a_node_may_keep_the_corpus_elsewhere(given: list[str], tmp_path: Path) -> None:
    own = ["data=text", "data.path=/mine"]
    settings, data = decode(encode(*checked(compose_config([*given, *own], "node"))))
    assert settings.name == "site_a"
    cfg = run_config(tmp_path / "config.yaml", data)
    assert (cfg.data.path, cfg.data.separator, cfg.seed) == ("/mine", None, 1)
    assert cfg.data.partition == {"_target_": "fednano.data.partition.Iid"}, "how rows are dealt is the run's alone"
    assert run_config(tmp_path / "config.yaml", None).data.path == "theirs"
    with pytest.raises(ConfigError):
        compose_config([*given, "data.path=/mine"], "node")


@pytest.mark.parametrize("text", ["a: [", "- 1", "seed: 1", "\x00"])
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"(?s)^config=.*; name the config.yaml of"):
        run_config(tmp_path / "config.yaml", None)


def test_what_the_server_tells_is_taken_unless_it_names_other_code(tmp_path: Path) -> None:
    def tell(config: object) -> Path:
        path = tmp_path / "run.json"
        path.write_text(json.dumps({"run": "r7", "config": json.dumps(config)}))
        return path

    theirs = {
        "data": {"_target_": "fednano.data.local.TextFolder", "path": "theirs", "partition": {}},
        "list": [{"a": 1}],
    }
    run, cfg = told_config(tell(theirs), {"path": "mine"})
    assert (run, cfg.data.path, cfg.list[0].a) == ("r7", "mine", 1)
    with pytest.raises(ValueError, match="is not the configuration of a run"):
        told_config(tell([]), None)
    with pytest.raises(
        ValueError, match=r"list\.0\.deep\._target_ must be a class of fednano or of an allowed module, got os\.system"
    ):
        told_config(tell({**theirs, "list": [{"deep": {"_target_": "os.system"}}]}), None)


def test_programs_hold_no_secret(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNANO_REDIS_URL", "redis://:hunter2@localhost")
    settings, data = checked(compose_config(given, "node"))
    for program in (node.trainer(settings, data), node.supernode(settings)):
        assert "hunter2" not in " ".join(program.command)


def test_a_supernode_is_told_who_it_is(given: list[str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    settings, _ = checked(compose_config([*given, f"private_key={key}", f"root_certificates={key}"], "node"))
    command = node.supernode(settings).command
    assert command[3:8] == ["site_a", "--superlink", "localhost:9092", "--isolation", "process"]
    assert f'name="site_a" socket="{settings.socket}"' in command
    assert command[-4:] == ["--root-certificates", str(key), "--auth-supernode-private-key", str(key)]
    assert "--insecure" not in command
    settings, _ = checked(compose_config([*given, "insecure=true"], "node"))
    assert node.supernode(settings).command[-1] == "--insecure"


def test_a_unit_of_systemd(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [*given, "folder='/tmp/100% $HOME'"]
    assert node.main(overrides, "systemd") == 0
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(capsys.readouterr().out)
    command = shlex.split(unit["Service"]["ExecStart"].replace("%%", "%").replace("$$", "$"))
    assert command == [sys.executable, "-m", "fednano.node", *overrides]
    assert unit["Service"]["KillMode"] == "mixed"
    assert int(unit["Service"]["TimeoutStopSec"]) > 120
    assert "100%% $HOME" in unit["Service"]["EnvironmentFile"]


def test_a_container_file(given: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert node.main(given, "container") == 0
    text = capsys.readouterr().out
    (entry,) = [line for line in text.splitlines() if line.startswith("ENTRYPOINT ")]
    assert json.loads(entry.removeprefix("ENTRYPOINT ")) == ["python", "-m", "fednano.node", *given]
    assert f"{tmp_path / 'config.yaml'}:ro" in text


# The supervisor

SUPERVISED = """
import os, sys
from dataclasses import replace
from fednano.node.supervisor import POLICY, Supervisor
from fednano.process.child import Child

programs = [
    Child(name, [sys.executable, "-c", code], log=None, environment=os.environ, grace_s=5.0)
    for name, code in zip("ab", sys.argv[1:])
]
sys.exit(Supervisor(programs, lambda line: print(line, flush=True), replace(POLICY, first_s=0.01)).run())
"""
# Ends by SIGTERM, tells that it is there, and that it was asked to end.
LIVES = """
import signal, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
print("lives", flush=True)
ended.wait()
print("was asked to end", flush=True)
"""


@pytest.fixture
def supervise() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def go(*codes: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SUPERVISED, *codes]
        # Several processes write into one pipe. Unbuffered, a line and its end would be two writes.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        pipe, out = subprocess.PIPE, subprocess.STDOUT
        running.append(subprocess.Popen(command, env=env, stdout=pipe, stderr=out, text=True))
        return running[-1]

    yield go
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def until(process: subprocess.Popen[str], *expected: str) -> list[str]:
    """The lines up to where all of `expected` have begun one."""
    lines: list[str] = []
    left = list(expected)
    assert process.stdout
    for line in process.stdout:
        lines.append(line.strip())
        left = [text for text in left if not lines[-1].startswith(text)]
        if not left:
            return lines
    raise AssertionError(f"{left} not in {lines}")


def started(lines: list[str]) -> int:
    """The process id in the line of the supervisor, which may come before or after the program's own first line."""
    (line,) = [line for line in lines if line.startswith("a started")]
    return int(line.rpartition(" ")[2])


def test_who_dies_is_started_again(supervise: Callable[..., subprocess.Popen[str]]) -> None:
    process = supervise(LIVES)
    first = started(until(process, "a started", "lives"))
    os.kill(first, signal.SIGKILL)
    lines = until(process, "a started", "lives")
    assert lines[0] == "a was killed by SIGKILL; restart in 0.01 s"
    assert started(lines) != first
    process.terminate()
    assert until(process, "a ended") == ["was asked to end", "a ended"]
    assert process.wait() == 143


def test_who_is_started_again_is_there_once(supervise: Callable[..., subprocess.Popen[str]]) -> None:
    process = supervise(LIVES)
    first = started(until(process, "a started", "lives"))
    guard, command = tree.descendants(process.pid)
    assert command == first
    os.kill(guard, signal.SIGKILL)
    until(process, "a was killed by SIGKILL", "a started", "lives")
    with suppress(FileNotFoundError, ProcessLookupError):  # it is gone
        assert Path(f"/proc/{first}/stat").read_text().split()[2] == "Z"


def test_who_keeps_dying_is_started_more_and_more_rarely(supervise: Callable[..., subprocess.Popen[str]]) -> None:
    process = supervise("raise SystemExit(3)")
    pauses = [until(process, "a ended with exit code 3")[-1].rpartition(" in ")[2] for _ in range(4)]
    assert pauses == ["0.01 s", "0.02 s", "0.04 s", "0.08 s"]


def test_refused_input_ends_all(supervise: Callable[..., subprocess.Popen[str]]) -> None:
    process = supervise(LIVES, "raise SystemExit(2)")
    assert "b refused its input; the node ends" in until(process, "a ended")
    assert process.wait() == 2


def test_who_refuses_its_input_is_quoted(tmp_path: Path) -> None:
    said: list[str] = []
    code = "print('noise'); print('fednano: key=3 is too much; use 2'); raise SystemExit(2)"
    program = Child("a", [sys.executable, "-c", code], log=tmp_path / "a.log", environment=os.environ)
    assert Supervisor([program], said.append).run() == 2
    assert said[-1] == "a refused its input (key=3 is too much; use 2); the node ends"


@pytest.mark.parametrize(
    ("flower", "code", "says"),
    [
        ("[code: 2001] All SuperNodes must be registered", 2, "set private_key= to the key that the run made"),
        ("[code: 2004] Failed to activate SuperNode.", 1, "rejects private_key="),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer", 2, "not signed by root_certificates="),
        ("something else", 1, ""),
    ],
)
def test_flowers_refusals_are_told_apart(
    flower: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        logging.getLogger("flwr").error("Exit Code: 305\nFailed to initialize the connection.\n%s", flower)
        raise SystemExit(1)

    monkeypatch.setattr(supernode, "run_supernode", refused)
    monkeypatch.setattr(supernode, "in_one_process", lambda: None)
    monkeypatch.setattr("sys.argv", ["supernode", "site_a"])
    assert supernode.main() == code
    error = capsys.readouterr().err
    assert [line for line in error.splitlines() if line.startswith("fednano: ") and says in line] or not says


def test_who_ignores_the_request_to_end_is_killed(supervise: Callable[..., subprocess.Popen[str]]) -> None:
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('lives', flush=True); signal.pause()"
    )
    process = supervise(stubborn)
    until(process, "lives")
    process.terminate()
    until(process, "a did not end within 5.0 s; killed")
    assert process.wait() == 143


def test_programs_end_with_a_supervisor_that_is_killed(supervise: Callable[..., subprocess.Popen[str]]) -> None:
    process = supervise(LIVES, LIVES)
    until(process, "lives")
    until(process, "lives")
    process.kill()
    # The pipe ends when nobody is left who could write into it.
    told, _ = process.communicate(timeout=60)
    # Both write into one pipe, a line and its end apart.
    assert told.replace("\n", "") == 2 * "was asked to end"
