"""Where a run came from: the command that repeats it, the commit, and when it began and was resumed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.event_logs import volatile_run
from support.pages import page_of, write_run

import fednano
from fednano.report import origin
from fednano.report.origin import command_of, commit, origin_of, record_origin


def write_hydra(folder: Path, words: list[str], **node: Any) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": node}))
    return folder


def test_the_command_is_made_of_the_overrides(tmp_path: Path) -> None:
    write_hydra(tmp_path, ["strategy=fedavg", "name=a b"], mode="RUN")
    assert command_of(tmp_path) == "python -m fednano.run strategy=fedavg 'name=a b'"


def test_a_job_of_a_sweep_is_repeated_alone_and_with_the_users_folder(tmp_path: Path) -> None:
    sources = [{"provider": "main", "path": "x"}, {"provider": "command-line", "path": "mine"}]
    write_hydra(tmp_path, ["seed=1"], mode="MULTIRUN", runtime={"config_sources": sources})
    assert command_of(tmp_path) == "python -m fednano.run --config-dir mine seed=1 hydra.mode=RUN"


@pytest.mark.parametrize("contents", ["{", "null", "- ["])
def test_without_what_hydra_recorded_there_is_no_command(tmp_path: Path, contents: str) -> None:
    assert command_of(tmp_path) is None
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(contents)
    assert command_of(tmp_path) is None


def test_a_run_that_is_resumed_keeps_its_beginning(tmp_path: Path) -> None:
    write_hydra(tmp_path, ["seed=1"])
    record_origin(tmp_path)
    first = json.loads((tmp_path / "origin.json").read_text())
    (tmp_path / ".hydra" / "overrides.yaml").write_text("[seed=2]")
    record_origin(tmp_path)
    again = origin_of(tmp_path)
    assert {key: again[key] for key in first} == first
    assert [set(where) for where in again["resumed"]] == [{"at", "host"}]


def repository(folder: Path) -> str:
    """A repository with one commit, whose name is returned."""
    folder.mkdir(exist_ok=True)

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout

    (folder / "file").write_text("1")
    git("init")
    git("add", "file")
    git("commit", "-m", "one")
    return git("rev-parse", "HEAD").strip()


def test_the_commit_is_that_of_fednanos_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = repository(tmp_path)
    (tmp_path / "fednano").mkdir()
    monkeypatch.setattr(fednano, "__file__", str(tmp_path / "fednano" / "__init__.py"))
    assert commit() == named
    (tmp_path / "file").write_text("2")
    assert commit() == f"{named}+"
    installed = tmp_path / "venv" / "fednano"  # inside somebody's repository
    installed.mkdir(parents=True)
    monkeypatch.setattr(fednano, "__file__", str(installed / "__init__.py"))
    assert commit() is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_the_report_shows_where_the_run_came_from(tmp_path: Path) -> None:
    folder = write_run(tmp_path, volatile_run(rounds=3))
    write_hydra(folder, ["strategy=<b>"])
    record_origin(folder)
    page = page_of(folder)
    assert page.texts("pre", id="command") == ["python -m fednano.run 'strategy=<b>'"]
    assert {"started", "host"} <= set(page.texts("dt"))
    (folder / origin.ORIGIN).unlink()
    assert "started" not in page_of(folder).texts("dt")


def test_an_analytic_run_says_that_nothing_was_trained(tmp_path: Path) -> None:
    events = [event for event in volatile_run(rounds=3) if type(event).__name__ != "Evaluated"]
    page = page_of(write_run(tmp_path, events, config="name: a\nruntime:\n  name: virtual\n  compute: analytic\n"))
    assert any(text.startswith("Nothing was trained") for text in page.texts("p", class_="empty"))
